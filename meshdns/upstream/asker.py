"""One question, asked of the servers of a zone until one answers: the effects around ``selection.Race``."""

import asyncio
import secrets
from collections.abc import Callable, Iterable
from typing import NamedTuple

from meshdns.errors import UpstreamError
from meshdns.upstream.asking import Form, Heard, build_query, hear, mix_case
from meshdns.upstream.checking import Checked, IsOurs, Rejected, TtlLimits, check
from meshdns.upstream.exchange import Datagrams
from meshdns.upstream.peer import Peer
from meshdns.upstream.selection import HEDGE, Race, Transport, Try, order
from meshdns.wire.reply import AD, FORMERR, NOTIMP, SERVFAIL, TC
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


class Answered(NamedTuple):
    """An answer, and the server that gave it. authentic: it said that it has validated, and is believed that."""

    checked: Checked
    peer: Peer
    authentic: bool


class Unanswered(NamedTuple):
    """No answer. rcode: to be told. network: no server could even be reached."""

    rcode: int
    reason: str
    network: bool


class _Event(NamedTuple):
    """What happened to a try."""

    attempt: Try
    form: Form
    what: Response | Heard | UpstreamError


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
        self._clock = clock
        self._draw = draw
        self._is_ours = is_ours
        self._limits = limits
        self._suspected = suspected
        self._recovered = recovered
        self.sent: set[bytes] = set()

    async def ask(self, asked: Asked, every: Iterable[Peer]) -> Answered | Unanswered:
        """Give what the servers say to *asked*, within the patience of ``selection``."""
        peers = [peer for peer in every if not peer.forwards_back]
        if not peers:
            return Unanswered(SERVFAIL, "no upstream can be asked", True)
        return await _Question(self, asked, peers).settle()

    async def probe(self, peer: Peer) -> bool:
        """Ask *peer* something harmless, the way it is always asked; tell whether it answers anything."""
        return await self.reach(peer, ROOT_NS, PROBE_TIME)

    async def reach(self, peer: Peer, question: bytes, patience: float) -> bool:
        """Ask *peer* once; tell whether it answers anything within *patience* seconds."""
        transport = Transport.UDP if peer.server.scheme == "udp" else Transport.STREAM
        began = self._clock()
        inbox: asyncio.Queue[_Event] = asyncio.Queue()
        attempt = Try(0, transport, 0, began, began + patience)
        try:
            async with asyncio.timeout(patience):
                await self.attempt(peer, attempt, Asked(question, False, False), Form(False, False), inbox)
                event = await inbox.get()
        except TimeoutError:
            return False
        if isinstance(event.what, UpstreamError):
            return False
        if peer.health.answered(self._clock() - began):
            self._recovered(peer)
        return True

    async def attempt(self, peer: Peer, attempt: Try, asked: Asked, form: Form, inbox: "asyncio.Queue[_Event]") -> None:
        """Make one try; what happens goes to *inbox*, last the answer or the error that ends it."""
        question = asked.question
        entropy = secrets.token_bytes(len(question) - 2)
        if form.mixed_case:
            question = mix_case(question[:-4], entropy[2:]) + question[-4:]
        query = build_query(question, id=entropy[:2], dnssec=asked.dnssec, unchecked=asked.unchecked, edns=form.edns)

        def accept(reply: bytes) -> bool:
            heard = hear(query, question, reply)
            if heard is not Heard.NOTHING:
                inbox.put_nowait(_Event(attempt, form, heard))
            return isinstance(heard, Response)

        peer.queries += 1
        try:
            if attempt.transport is Transport.STREAM:
                await peer.streams.ask(query, accept)
                return
            own = entropy[:2] + question
            self.sent.add(own)
            try:
                await self._datagrams.ask(peer.server, query, accept)
            finally:
                self.sent.discard(own)
        except UpstreamError as fault:
            inbox.put_nowait(_Event(attempt, form, fault))

    def heard(self, peer: Peer, seconds: float) -> None:
        """Take note that *peer* answered after *seconds*."""
        peer.answers += 1
        if peer.health.answered(seconds):
            self._recovered(peer)

    def missed(self, peer: Peer) -> None:
        """Take note that *peer* did not answer in time."""
        peer.timeouts += 1
        peer.last_error = "no answer in time"
        if peer.health.missed(self._clock()):
            self._suspected(peer)

    def order(self, peers: list[Peer]) -> list[int]:
        """Give the places of *peers* in the order in which they are asked."""
        return order([peer.health for peer in peers], self._draw())

    def check(self, response: Response, asked: Asked) -> Checked | Rejected:
        """Give what of *response* is used."""
        return check(response, asked.name, asked.qtype, dnssec=asked.dnssec, is_ours=self._is_ours, limits=self._limits)

    def now(self) -> float:
        """Give the time of the clock."""
        return self._clock()


class _Question:
    """The course of one question."""

    def __init__(self, asker: Asker, asked: Asked, peers: list[Peer]) -> None:
        self._asker = asker
        self._asked = asked
        self._peers = peers
        self._inbox: asyncio.Queue[_Event] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._refused_opt: dict[int, bool] = {}
        """Places of servers asked again without OPT → whether the refusal was a whole, matching answer."""
        self._other_case: set[int] = set()
        self._rejected: Rejected | None = None
        self._faults: list[str] = []
        streams = frozenset(i for i, peer in enumerate(peers) if peer.server.scheme != "udp")
        self._race = Race([peer.health for peer in peers], asker.order(peers), asker.now(), stream_only=streams)

    async def settle(self) -> Answered | Unanswered:
        """Give the outcome; whatever it is, nothing is left open behind it."""
        try:
            return await self._run()
        finally:
            for task in self._tasks:
                task.cancel()

    async def _run(self) -> Answered | Unanswered:
        asker, race = self._asker, self._race
        while True:
            now = asker.now()
            if all(peer.forwards_back for peer in self._peers):  # found out meanwhile
                return Unanswered(SERVFAIL, "upstreams forward back to this instance", False)
            for lost in race.expire(now):
                asker.missed(self._peers[lost.server])
            for attempt in race.due(now):
                self._start(attempt)
            if race.is_over(now):
                return self._unanswered()
            try:
                async with asyncio.timeout(max(0.0, race.wakes() - now)):
                    event = await self._inbox.get()
            except TimeoutError:
                continue
            outcome = self._take(event)
            if outcome is not None:
                return outcome

    def _start(self, attempt: Try, form: Form | None = None) -> None:
        peer = self._peers[attempt.server]
        if form is None:
            form = peer.form(self._asker.now(), stream=attempt.transport is Transport.STREAM)
            if attempt.server in self._refused_opt:
                form = form._replace(edns=False)
        making = self._asker.attempt(peer, attempt, self._asked, form, self._inbox)
        task = asyncio.get_running_loop().create_task(making)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _take(self, event: _Event) -> Answered | Unanswered | None:
        attempt, form, what = event
        peer, now = self._peers[attempt.server], self._asker.now()
        if isinstance(what, UpstreamError):
            peer.errors += 1
            peer.last_error = str(what)
            self._faults.append(str(what))
            self._race.failed(attempt)
            return None
        if isinstance(what, Heard):
            if what is Heard.OTHER_CASE and form.mixed_case and attempt.server not in self._other_case:
                self._other_case.add(attempt.server)
                peer.loses_case(now)
                self._start(self._race.again(attempt, now), form._replace(mixed_case=False))
            elif what is Heard.BARE_ERROR and form.edns and attempt.server not in self._refused_opt:
                self._refused_opt[attempt.server] = False
                self._start(self._race.again(attempt, now), form._replace(edns=False))
            return None
        self._asker.heard(peer, now - attempt.sent)
        if what.flags & TC:
            if attempt.transport is Transport.STREAM:
                return self._reject(attempt, Rejected(SERVFAIL, "truncated over a stream"))
            self._start(self._race.truncated(attempt, now))
            return None
        if what.rcode in (FORMERR, NOTIMP) and form.edns and not what.has_opt:
            if attempt.server not in self._refused_opt:
                self._refused_opt[attempt.server] = True
                self._start(self._race.again(attempt, now), form._replace(edns=False))
                return None
        elif not form.edns and self._refused_opt.get(attempt.server):
            peer.cannot_read_opt(now)
        verdict = self._asker.check(what, self._asked)
        if isinstance(verdict, Rejected):
            return self._reject(attempt, verdict)
        self._note_slower(attempt, now)
        return Answered(verdict, peer, bool(what.flags & AD) and peer.is_trusted)

    def _reject(self, attempt: Try, rejected: Rejected) -> Unanswered | None:
        """Hear another server's opinion of what one answered by an error, but not a third's."""
        peer = self._peers[attempt.server]
        peer.last_error = rejected.reason
        self._rejected = self._rejected or Rejected(rejected.rcode, f"{peer.server}: {rejected.reason}")
        return None if self._race.rejected(attempt, self._asker.now()) else self._unanswered()

    def _unanswered(self) -> Unanswered:
        if self._rejected is not None:
            return Unanswered(self._rejected.rcode, self._rejected.reason, False)
        if self._faults and len(self._faults) >= len(self._peers):
            return Unanswered(SERVFAIL, self._faults[-1], True)
        return Unanswered(SERVFAIL, f"no answer from {', '.join(str(peer.server) for peer in self._peers[:4])}", False)

    def _note_slower(self, won: Try, now: float) -> None:
        """Hold against the others that they had not answered when the winner did, although asked long before."""
        slow = {each.server for each in self._race.pending() if now - each.sent >= HEDGE} - {won.server}
        for server in slow:
            self._asker.missed(self._peers[server])
