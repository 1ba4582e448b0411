"""Servers are asked: one try at a time here, and the course of a question in ``course``."""

import asyncio
import secrets
from collections.abc import Callable
from typing import NamedTuple

from meshdns.errors import UpstreamError
from meshdns.upstream.asking import Form, Heard, build_query, hear, mix_case
from meshdns.upstream.checking import Checked, IsOurs, Rejected, TtlLimits, check
from meshdns.upstream.exchange import Datagrams
from meshdns.upstream.peer import Peer
from meshdns.upstream.selection import Transport, order
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
    waits over UDP: one that comes to ourselves has gone in a circle.
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
        heard: list[Said] = []
        try:
            async with asyncio.timeout(patience):
                await self.attempt(peer, transport, Asked(question, False, False), Form(False, False), heard.append)
        except TimeoutError:
            return False
        if isinstance(heard[-1], UpstreamError):
            return False
        if peer.health.answered(self.now() - began):
            self._recovered(peer)
        return True

    async def attempt(
        self, peer: Peer, transport: Transport, asked: Asked, form: Form, told: Callable[[Said], None]
    ) -> None:
        """Make one try; what happens is told as it does, last the answer or the error that ends it."""
        question = asked.question
        entropy = secrets.token_bytes(len(question) - 2)
        if form.mixed_case:
            question = mix_case(question[:-4], entropy[2:]) + question[-4:]
        query = build_query(question, id=entropy[:2], dnssec=asked.dnssec, unchecked=asked.unchecked, edns=form.edns)

        def accept(reply: bytes) -> bool:
            heard = hear(query, question, reply)
            if heard is not Heard.NOTHING:
                told(heard)
            return isinstance(heard, Response)

        peer.queries += 1
        try:
            if transport is Transport.STREAM:
                await peer.streams.ask(query, accept)
                return
            own = entropy[:2] + question
            self.sent.add(own)
            try:
                await self._datagrams.ask(peer.server, query, accept)
            finally:
                self.sent.discard(own)
        except UpstreamError as fault:
            told(fault)

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
