"""The query street's process: sockets in, the store's answers out. Forked by the supervisor, without gRPC.

It opens the store itself, after the fork, and answers each query from one transaction. Whether a query is answered at
all (allow-list, rate limit) is decided in ``gate``, around the resolver.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from meshdns.config import Config
from meshdns.errors import StoreError
from meshdns.processes.child import FINISH
from meshdns.processes.gate import Gate
from meshdns.processes.restarts import EXIT_STORE_DAMAGED
from meshdns.processes.status_file import Number, OtherRow, StatusWriter, directory
from meshdns.resolver.answer import Resolver, Store
from meshdns.resolver.rate_limit import RateLimit
from meshdns.store.reader import Reader
from meshdns.store.schema import store_path
from meshdns.transport import mmsg, udp
from meshdns.transport.sockets import Endpoint
from meshdns.transport.tcp import TcpServer
from meshdns.transport.udp_batch import BatchListener
from meshdns.zone.lookup import Zones

if TYPE_CHECKING:
    from meshdns.processes.forwarding import Forwarding

log = logging.getLogger(__name__)

BEAT = 1.0
"""Seconds between heartbeats; ``EAGER_BEAT`` until every source has delivered, because readiness waits for that."""
EAGER_BEAT = 0.05

FINISH_TIME = 1.5
"""Seconds for connections with a query in flight; the supervisor's patience ends half a second later."""

PUSH, DEAD = 5, 30_000
"""Milliseconds. ``sync`` that works for longer than the first has a push to store, and is no mere heartbeat; one that
has worked for as long as the second has probably died of it."""

UNREADABLE = 3
"""Heartbeats in a row at which the store could not be read; then it counts as damaged."""


class Responder:
    """Answers on the sockets of *endpoints* until told to finish."""

    def __init__(self, config: Config, endpoints: Sequence[Endpoint], reader: Reader, status: StatusWriter) -> None:
        self._endpoints = endpoints
        self._reader = reader
        self._status = status
        self._sources = frozenset(settings.name for settings in config.sources)
        zones = Zones(config.rules(), self._sources)
        store = cast(Store, reader)
        listen = [endpoint.udp.getsockname()[:2] for endpoint in endpoints]
        self._forwarding = _forwarding(config, status, Resolver(store, zones, status.row), listen)
        elsewhere = None if self._forwarding is None else self._forwarding.forwarder.answer
        self._resolver = Resolver(store, zones, status.row, tcp_idle=config.tcp.idle, elsewhere=elsewhere)
        limit = RateLimit(config.rate_limit)
        self._gates = [
            Gate(
                config,
                self._resolver,
                limit,
                status.row,
                loopback=endpoint.is_loopback,
                enter=_entering(self._forwarding, endpoint.address),
            )
            for endpoint in endpoints
        ]
        batches = _batches(config)
        cores = len(os.sched_getaffinity(0)) if batches else 0
        crowded = config.responders > cores
        self._sync = OtherRow(directory(config.data_dir) / "sync")
        rival = None if config.responders < cores else self._sync_works
        self._udp: list[udp.UdpListener | BatchListener] = [
            BatchListener(endpoint.udp, gate.answer_datagrams, crowded=crowded, rival=rival)
            if batches
            else udp.listener(endpoint.udp, gate.answer_datagram)
            for endpoint, gate in zip(endpoints, self._gates, strict=True)
        ]
        self._tcp = TcpServer(config.tcp)
        self._finish = asyncio.Event()
        self._failures = 0
        self._damaged = False

    async def run(self) -> int:
        """Answer; give the exit code."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(FINISH, self._finish.set)
        if self._forwarding is not None:
            await self._forwarding.start(self._resolver)
        for listener in self._udp:
            await listener.start()
        for endpoint, gate in zip(self._endpoints, self._gates, strict=True):
            await self._tcp.listen(endpoint.tcp, gate.answer_messages)
        self._beat(loop.time())
        self._status.row[Number.SERVING] = 1  # last: who takes it for answering reads the rest of the row, too
        await self._finish.wait()
        if self._damaged:
            return EXIT_STORE_DAMAGED
        self._tcp.stop_listening()
        if self._forwarding is not None:
            await self._forwarding.finish()
        for listener in self._udp:
            await listener.close()
        await self._tcp.wait_finished(FINISH_TIME)
        self._count()
        return 0

    def _sync_works(self) -> bool:
        return is_push(self._sync.row[Number.WORKS_SINCE], time.monotonic())

    def _beat(self, due: float) -> None:
        """Say that the loop turns, and what it has done. due: when this should have been called (loop time)."""
        loop = asyncio.get_running_loop()
        row = self._status.row
        row[Number.LAG] = round(max(0.0, loop.time() - due) * 1000)
        self._look_at_store()
        self._sync.look()
        self._count()
        if self._forwarding is not None:
            self._forwarding.beat()
        self._status.beat()
        wait = BEAT if row[Number.DELIVERED] else EAGER_BEAT
        loop.call_later(wait, self._beat, loop.time() + wait)

    def _look_at_store(self) -> None:
        row = self._status.row
        try:
            with self._reader.snapshot() as snapshot:
                row[Number.GENERATION] = snapshot.generation
                row[Number.NAMES] = snapshot.names_count()
                row[Number.DELIVERED] = int(self._sources <= snapshot.delivered())
            self._failures = 0
        except StoreError as fault:
            log.error("the store cannot be read: %s", fault)
            self._failures += 1
            if self._failures >= UNREADABLE:
                self._damaged = True
                self._finish.set()

    def _count(self) -> None:
        row = self._status.row
        statistics = [listener.statistics for listener in self._udp]
        row[Number.UDP_QUERIES] = sum(each.received for each in statistics)
        row[Number.QUEUE_DROPPED] = sum(each.dropped for each in statistics)
        row[Number.SEND_FAILED] = sum(each.failed for each in statistics)
        connections = self._tcp.statistics
        row[Number.TCP_QUERIES] = connections.queries
        row[Number.TCP_ACCEPTED] = connections.accepted
        row[Number.TCP_EVICTED] = connections.evicted
        row[Number.TCP_EXPIRED] = connections.expired
        row[Number.TCP_OPEN] = connections.open


def is_push(since: int, now: float) -> bool:
    """Tell whether work that began at *since* (ms, 0: there is none) and goes on (*now* in seconds) is a push's."""
    return since > 0 and PUSH <= now * 1000 - since < DEAD


def _forwarding(
    config: Config, status: StatusWriter, ours: Resolver, listen: Sequence[tuple[str, int]]
) -> "Forwarding | None":
    """Give the forwarding that *config* asks for, None when it asks for none. ours: says what we say ourselves."""
    if not config.upstreams:
        return None
    from meshdns.processes.forwarding import forwarding  # noqa: PLC0415 - who forwards nothing need not hold it

    return forwarding(config, status, ours.ours, listen)


def _entering(forwarding: "Forwarding | None", address: str) -> Callable[[bool], None]:
    """Give what tells the forwarder by which door the next queries come: whose turn it is goes from door to door."""
    if forwarding is None:
        return lambda stream: None
    forwarder, doors = forwarding.forwarder, ((address, False), (address, True))

    def enter(stream: bool) -> None:
        forwarder.door = doors[stream]

    return enter


def _batches(config: Config) -> bool:
    """Tell whether UDP goes by batches; a machine that cannot is told of once."""
    if config.listener == "portable":
        return False
    fault = mmsg.fault()
    if fault is not None:
        log.warning("UDP is served one datagram at a time: %s", fault)
    return fault is None


def run(config: Config, endpoints: Sequence[Endpoint], status: StatusWriter) -> int:
    """Be a responder in this forked process; give its exit code."""
    try:
        reader = Reader(store_path(config.data_dir))
    except StoreError as fault:
        log.error("%s", fault)
        return EXIT_STORE_DAMAGED
    try:
        return asyncio.run(_run(config, endpoints, reader, status))
    finally:
        reader.close()


async def _run(config: Config, endpoints: Sequence[Endpoint], reader: Reader, status: StatusWriter) -> int:
    return await Responder(config, endpoints, reader, status).run()
