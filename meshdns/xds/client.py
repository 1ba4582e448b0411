"""One stream to a Kuma control plane, kept up for ever: the only place that touches gRPC.

A channel is made for each attempt, so that a rotated CA or token is taken. A gRPC channel reconnects by itself, a
stream never does, so attempts, their waits and the choice of protocol are ours.
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import meshdns.xds.core_log  # noqa: F401  # isort: skip  (before grpc)

import grpc
from grpc import aio

from meshdns.errors import ResourceError
from meshdns.inventory.body import Bodies
from meshdns.inventory.event import Connected, Disconnected, Noticed, Pushed, SourceEvent
from meshdns.inventory.record import Table
from meshdns.xds.backoff import Backoff
from meshdns.xds.credentials import read_ca, read_token
from meshdns.xds.decode.discovery import decode_response, encode_request
from meshdns.xds.decode.join import join
from meshdns.xds.decode.kuma import Piece, decode_listener
from meshdns.xds.node import observer_node
from meshdns.xds.outbox import Outbox, Snapshot
from meshdns.xds.protocol import Choice, Memory
from meshdns.xds.reading import Reading
from meshdns.xds.refusal import Refusal, StreamEndedError, explain, silent
from meshdns.xds.session import DeltaSession, Protocol, Request, Session, SotwSession
from meshdns.xds.settings import KumaSettings
from meshdns.xds.timing import RECEIVE_LIMIT, Timing

log = logging.getLogger(__name__)

_SERVICE = "/envoy.service.discovery.v3.AggregatedDiscoveryService"
_METHODS: dict[Protocol, str] = {
    "delta": f"{_SERVICE}/DeltaAggregatedResources",
    "sotw": f"{_SERVICE}/StreamAggregatedResources",
}
_REPORT = "please report it, with the log"
_OURS = Refusal("ours", "replaced by a new stream")


class KumaSource:
    """What a Kuma / Kong Mesh control plane says of one mesh.

    zones: of the instance. memory: the directory where the protocol that was answered is kept, None for nowhere.
    timing, random, clock: how long to wait, jitter in 0 … 1, seconds.
    """

    def __init__(
        self,
        settings: KumaSettings,
        *,
        zones: Sequence[str],
        memory: Path | None = None,
        timing: Timing | None = None,
        random: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._zones = tuple(zones)
        self._timing = timing or Timing()
        self._random = random
        self._clock = clock
        self._memory = Memory(memory, settings.address)
        self._session: Session[Piece] | None = None
        self._reading = Reading()
        self._previous: Table | None = None
        self._answered = False
        self._known = False
        self._shown_connected = False
        self._shown_reason = ""
        self._left = float("-inf")

    @property
    def name(self) -> str:
        """The configured name."""
        return self._settings.name

    async def events(self) -> AsyncIterator[SourceEvent]:
        """Everything the control plane says, until cancelled or closed, which ends the stream."""
        outbox = Outbox()
        task = asyncio.create_task(self._run(outbox), name=f"xds {self.name}")
        try:
            while True:
                item = await outbox.take()
                if not isinstance(item, Snapshot):
                    yield item
                    continue
                try:
                    event: SourceEvent = self._pushed(item)
                except Exception as error:
                    log.exception("source %s: the push %s failed in an unforeseen way", self.name, item.version)
                    event = Noticed(f"internal error: {error!r}", _REPORT)
                yield event
                if isinstance(event, Pushed):  # not before it is stored: the last table is what it is compared with
                    self._previous = event.table
                    _pack(item.pieces, event.table)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _pushed(self, snapshot: Snapshot) -> Pushed:
        """Join only what is taken: of a burst of pushes that is the last."""
        joined = join(
            snapshot.pieces,
            zones=self._zones,
            service_vip_port=self._settings.service_vip_port,
            previous=self._previous,
        )
        return Pushed(joined.table, snapshot.version, joined.skipped, joined.notices)

    async def _run(self, outbox: Outbox) -> None:
        """Hold stream after stream."""
        timing = self._timing
        backoff = Backoff(timing.retry_first, timing.retry_limit, self._random)
        choice = Choice(
            self._settings.protocol,
            patience=timing.patience,
            limit=timing.patience_limit,
            winner=self._memory.recall(),
        )
        while True:
            began = self._clock()
            self._answered = False
            try:
                refusal = await self._stream(choice, outbox)
            except StreamEndedError as error:
                refusal = error.refusal
            except Exception as error:  # whatever it is, DNS goes on and so do we
                log.exception("source %s: the stream failed in an unforeseen way", self.name)
                refusal = Refusal("lost", f"internal error: {error!r}", _REPORT)
            if self._answered:
                backoff.reset()
            elif refusal.kind in ("silent", "not offered"):
                choice.silent()
                if self._session is not None:
                    self._session.forget_version()
            self._report(refusal, outbox)
            wait = backoff.wait(self._clock() - began)
            log.debug("source %s: %s; next attempt in %.1f s", self.name, refusal.reason, wait)
            await asyncio.sleep(wait)

    async def _stream(self, choice: Choice, outbox: Outbox) -> Refusal:
        """Hold one stream until it is ours to end; raises StreamEndedError when it ends otherwise."""
        protocol, patience = choice.protocol, choice.patience
        session = self._session_for(protocol)
        async with _Connection(self._settings, self._timing, protocol, known=self._known) as connection:
            deadline = self._clock() + patience
            connection.begin(session.open_stream())
            while (message := await connection.receive(deadline - self._clock())) is not None:
                try:
                    response = decode_response(message, protocol)
                except ResourceError as error:  # no nonce to answer to: only a new stream helps
                    reason = f"control plane {self._settings.address}: {error}"
                    raise StreamEndedError(Refusal("lost", reason)) from None
                received = session.receive(response)
                for request in received.requests:
                    await connection.send(request)
                log.debug(
                    "source %s: %s response %s: %d resources, %d removed, %d faulty",
                    self.name,
                    protocol,
                    response.version,
                    len(response.resources),
                    len(response.removed),
                    len(received.faults),
                )
                if received.requests and not self._answered:
                    self._answered = self._known = connection.answered = True
                    deadline = self._clock() + self._renewal(protocol)
                    self._memory.remember(choice.answered())
                    self._shown_connected, self._shown_reason = True, ""
                    outbox.put(Connected(self._settings.address, protocol))
                for item in self._reading.take(received, session.pieces, response.version):
                    outbox.put(item)
                if received.restart:
                    break
            if not self._answered:
                return connection.nothing_came(patience)
            await connection.finish()
            return _OURS

    def _report(self, refusal: Refusal, outbox: Outbox) -> None:
        """Tell that there is no stream: once for each reason, and not while we replace it ourselves."""
        if refusal is _OURS:
            self._left = self._clock()
            return
        handover = self._shown_connected and self._clock() - self._left < self._timing.handover
        if handover and refusal.kind == "second stream":  # it has not yet noticed that we closed the last one
            return
        if self._shown_connected or refusal.reason != self._shown_reason:
            outbox.put(Disconnected(refusal.reason, refusal.remedy))
        self._shown_connected, self._shown_reason = False, refusal.reason

    def _session_for(self, protocol: Protocol) -> Session[Piece]:
        """Give the session, which goes on over streams; the other protocol begins from nothing."""
        if self._session is None or self._session.protocol != protocol:
            node = observer_node(self._settings, protocol)
            decode = partial(decode_listener, source=self.name)
            self._session = DeltaSession(node, decode) if protocol == "delta" else SotwSession(node, decode)
        return self._session

    def _renewal(self, protocol: Protocol) -> float:
        age = self._timing.renew_delta if protocol == "delta" else self._timing.renew_sotw
        return age * (1.0 + self._timing.renew_spread * (2.0 * self._random() - 1.0))


class _Connection:
    """One gRPC stream on its own channel. Whatever ends it comes out as StreamEndedError.

    known: an earlier stream was answered. answered: set by the owner when something was received; a failure after that
    is a loss, not a refusal.
    """

    def __init__(self, settings: KumaSettings, timing: Timing, protocol: Protocol, *, known: bool) -> None:
        self._settings = settings
        self._timing = timing
        self._protocol: Protocol = protocol
        self._known = known
        self._read: asyncio.Task[Any] | None = None
        self.answered = False

    async def __aenter__(self) -> Self:
        token = read_token(self._settings.token_file)
        self._channel = self._make_channel()
        self._call: Any = self._channel.stream_stream(_METHODS[self._protocol])(
            metadata=(("authorization", token),) if token else ()
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._call.cancel()  # closing a channel does not wake a pending read
        if self._read is not None:
            self._read.cancel()
            await asyncio.gather(self._read, return_exceptions=True)
        await self._channel.close()

    def begin(self, requests: Sequence[Request]) -> None:
        """Send *requests* once there is a connection, then wait for the first message."""
        self._read = asyncio.ensure_future(self._subscribed(requests))

    async def _subscribed(self, requests: Sequence[Request]) -> Any:
        for request in requests:
            await self._call.write(encode_request(request, self._protocol))
        return await self._call.read()

    async def send(self, request: Request) -> None:
        """Send *request*."""
        try:
            await self._call.write(encode_request(request, self._protocol))
        except (aio.AioRpcError, asyncio.InvalidStateError):
            raise await self._ended() from None

    async def receive(self, timeout: float) -> bytes | None:
        """Give the next message, or None when none came within *timeout* seconds."""
        if self._read is None:
            self._read = asyncio.ensure_future(self._call.read())
        done, _ = await asyncio.wait({self._read}, timeout=max(0.0, timeout))
        if not done:
            return None
        read, self._read = self._read, None
        try:
            message: Any = read.result()
        except (aio.AioRpcError, asyncio.InvalidStateError):
            raise await self._ended() from None
        if message is aio.EOF:
            raise await self._ended()
        octets: bytes = message
        return octets

    async def finish(self) -> None:
        """End our half and wait a little for the other one: only then the Dataplane's name is free again."""
        try:
            async with asyncio.timeout(self._timing.farewell):
                await self._call.done_writing()
                while True:
                    await self.receive(self._timing.farewell)  # what still comes is sent again on the next stream
        except (TimeoutError, StreamEndedError, aio.AioRpcError, asyncio.InvalidStateError):
            pass

    def nothing_came(self, patience: float) -> Refusal:
        """Tell silence on a connection from no connection."""
        if self._channel.get_state() is grpc.ChannelConnectivity.READY:
            return silent(self._protocol, patience, self._settings)
        return Refusal(
            "unreachable",
            f"cannot reach control plane {self._settings.address}: no connection within {patience:g} s",
            'correct "address", or look for a firewall on the way',
        )

    async def _ended(self) -> StreamEndedError:
        code, details = await self._call.code(), await self._call.details()
        refusal = explain(code.name, details or "", self._settings, answered=self.answered, known=self._known)
        return StreamEndedError(refusal)

    def _make_channel(self) -> aio.Channel:
        timing = self._timing
        options = (
            ("grpc.keepalive_time_ms", int(timing.keepalive * 1000)),
            ("grpc.keepalive_timeout_ms", int(timing.keepalive_timeout * 1000)),
            # without it a ping that is not answered ends the connection after 60 s only, whatever the line above says
            ("grpc.http2.ping_timeout_ms", int(timing.keepalive_timeout * 1000)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.max_receive_message_length", RECEIVE_LIMIT),
            ("grpc.use_local_subchannel_pool", 1),  # else a new channel inherits the old one's wait to reconnect
            ("grpc.enable_http_proxy", 0),  # the configuration says where to connect to, not the environment
        )
        if self._settings.plaintext:
            return aio.insecure_channel(self._settings.address, options=options)
        assert self._settings.ca_file is not None  # KumaSettings demands it
        credentials = grpc.ssl_channel_credentials(root_certificates=read_ca(self._settings.ca_file))
        return aio.secure_channel(self._settings.address, credentials, options=options)


def _pack(pieces: Mapping[str, Piece], table: Table) -> None:
    """Keep what a push leaves behind in little memory."""
    documents = [piece.table.document.records for piece in pieces.values() if piece.table is not None]
    for records in (*documents, table.records):
        if isinstance(records, Bodies):
            records.pack()
