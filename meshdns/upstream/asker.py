"""Servers are asked: one try at a time here, and the course of a question in ``course``."""

import asyncio
import os
from collections.abc import Callable
from typing import NamedTuple

from meshdns.errors import UpstreamError
from meshdns.upstream.alarms import Alarms
from meshdns.upstream.asking import Form, Heard, build_query, hear, mix_case
from meshdns.upstream.checking import Checked, IsOurs, Rejected, TtlLimits, check
from meshdns.upstream.exchange import Datagrams, Exchange
from meshdns.upstream.peer import Peer
from meshdns.upstream.selection import Transport, order
from meshdns.upstream.settings import Server
from meshdns.upstream.stream import Streams
from meshdns.wire.response import Response

PROBE_TIME = 1.0
"""Seconds that a suspect server has for the answer to a probe."""

ROOT_NS = b"\0\0\x02\0\1"
"""The question of a probe: every server answers something to it, and no answer is of use to anybody."""


class Asked(NamedTuple):
    """A question as it is sent on. question: name (lower case), type, class. dnssec, unchecked: DO and CD."""

    question: bytes
    dnssec: bool
    unchecked: bool

    @property
    def name(self) -> bytes:
        """The name asked for, in lower-case wire form."""
        return self.question[:-4]

    @property
    def qtype(self) -> int:
        """The type asked for."""
        return int.from_bytes(self.question[-4:-2], "big")


Said = Response | Heard | UpstreamError
"""What became of a try."""


class Asker:
    """Asks servers. clock: monotonic seconds. draw: a random number in 0…1.

    suspected, recovered: told when a server stops and begins to answer. sent: id and question of every query that
    waits over UDP: one that comes to ourselves has gone in a circle. alarms: of all its questions.
    """

    def __init__(
        self,
        datagrams: Datagrams,
        *,
        clock: Callable[[], float],
        draw: Callable[[], float],
        is_ours: IsOurs,
        limits: TtlLimits,
        suspected: Callable[[Peer], None],
        recovered: Callable[[Peer], None],
    ) -> None:
        self._datagrams = datagrams
        self._draw = draw
        self._is_ours = is_ours
        self._limits = limits
        self._suspected = suspected
        self._recovered = recovered
        self.now = clock
        self.sent: set[bytes] = set()
        self.alarms = Alarms()

    def close(self) -> None:
        """Hear no more datagrams."""
        self._datagrams.close()

    async def probe(self, peer: Peer) -> bool:
        """Ask *peer* something harmless, the way it is always asked; tell whether it answers anything."""
        return await self.reach(peer, ROOT_NS, PROBE_TIME)

    async def reach(self, peer: Peer, question: bytes, patience: float) -> bool:
        """Ask *peer* once; tell whether it answers anything within *patience* seconds."""
        transport = Transport.UDP if peer.server.scheme == "udp" else Transport.STREAM
        began = self.now()
        end: asyncio.Future[Response | UpstreamError] = asyncio.get_running_loop().create_future()

        def told(said: Said) -> None:
            if not isinstance(said, Heard) and not end.done():
                end.set_result(said)

        attempt = self.attempt(peer, transport, Asked(question, False, False), Form(False, False), told)
        try:
            async with asyncio.timeout(patience):
                said = await end
        except TimeoutError:
            return False
        finally:
            attempt.cancel()
        if isinstance(said, UpstreamError):
            return False
        if peer.health.answered(self.now() - began):
            self._recovered(peer)
        return True

    def attempt(
        self, peer: Peer, transport: Transport, asked: Asked, form: Form, told: Callable[[Said], None]
    ) -> "Attempt":
        """Make one try; what happens is told as it does, last the answer or the error that ends it."""
        peer.queries += 1
        attempt = Attempt(asked, form, self.sent, told)
        if transport is Transport.UDP:
            attempt.over_datagrams(self._datagrams, peer.server)
        else:
            attempt.over_stream(peer.streams)
        return attempt

    def heard(self, peer: Peer, seconds: float) -> None:
        """Take note that *peer* answered after *seconds*."""
        peer.answers += 1
        if peer.health.answered(seconds):
            self._recovered(peer)

    def missed(self, peer: Peer) -> None:
        """Take note that *peer* did not answer in time."""
        peer.timeouts += 1
        peer.last_error = "no answer in time"
        if peer.health.missed(self.now()):
            self._suspected(peer)

    def order(self, peers: list[Peer]) -> list[int]:
        """Give the places of *peers* in the order in which they are asked."""
        return order([peer.health for peer in peers], self._draw()) if len(peers) > 1 else [0] * len(peers)

    def check(self, response: Response, asked: Asked) -> Checked | Rejected:
        """Give what of *response* is used."""
        return check(response, asked.name, asked.qtype, dnssec=asked.dnssec, is_ours=self._is_ours, limits=self._limits)


class Attempt:
    """One try: *asked* in *form*. sent: where it is noted while it waits over UDP. told: given what happens to it."""

    __slots__ = ("_own", "_query", "_question", "_sent", "_told", "_waiting")

    def __init__(self, asked: Asked, form: Form, sent: set[bytes], told: Callable[[Said], None]) -> None:
        question = asked.question
        entropy = os.urandom(len(question) - 2)
        id = entropy[:2]
        if form.mixed_case:
            question = mix_case(question[:-4], entropy[2:]) + question[-4:]
        self._question = question
        self._query = build_query(question, id=id, dnssec=asked.dnssec, unchecked=asked.unchecked, edns=form.edns)
        self._own = id + question
        self._sent = sent
        self._told: Callable[[Said], None] | None = told
        self._waiting: Exchange | asyncio.Task[None] | asyncio.Handle | None = None

    def over_datagrams(self, datagrams: Datagrams, server: Server) -> None:
        """Ask *server* over UDP."""
        self._sent.add(self._own)
        try:
            self._waiting = datagrams.ask(server, self._query, self._hear)
        except UpstreamError as fault:
            self._waiting = asyncio.get_running_loop().call_soon(self._hear, fault)

    def over_stream(self, streams: Streams) -> None:
        """Ask over a connection."""
        self._waiting = asyncio.get_running_loop().create_task(self._stream(streams))

    def cancel(self) -> None:
        """End it, once or more often; nothing is told any more."""
        self._told = None
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.cancel()
            self._sent.discard(self._own)

    def _hear(self, what: bytes | UpstreamError) -> None:
        """Look at what a datagram brings."""
        if isinstance(what, bytes):
            if not self._accept(what):
                return
        elif self._told is not None:
            self._told(what)
        self.cancel()

    def _accept(self, reply: bytes) -> bool:
        """Tell what *reply* says, if anything, and whether that is the end of the wait."""
        heard = hear(self._query, self._question, reply)
        if heard is not Heard.NOTHING and self._told is not None:
            self._told(heard)
        return isinstance(heard, Response)

    async def _stream(self, streams: Streams) -> None:
        try:
            await streams.ask(self._query, self._accept)
        except UpstreamError as fault:
            if self._told is not None:
                self._told(fault)
