"""The course of one question: the effects around ``selection.Race``, until there is an outcome.

No task waits for that: what happens to a try, and the clock, move it on.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

from meshdns.errors import UpstreamError
from meshdns.upstream.alarms import Sleeper
from meshdns.upstream.asker import Asked, Asker, Attempt, Said
from meshdns.upstream.asking import Form, Heard
from meshdns.upstream.checking import Checked, Rejected
from meshdns.upstream.peer import Peer
from meshdns.upstream.selection import HEDGE, Race, Transport, Try
from meshdns.upstream.tending import is_circle_name
from meshdns.wire.reply import AD, FORMERR, NOTIMP, SERVFAIL, TC

log = logging.getLogger(__name__)


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


Outcome = Answered | Unanswered


class Course:
    """Asks *every* server of a zone, in the order and with the patience of ``selection``, until one answers.

    told: given the outcome, once, never before the event loop has turned; whatever it is, nothing is left open behind
    it.
    """

    __slots__ = (
        "_alarm", "_asked", "_asker", "_attempts", "_began", "_circular", "_ending", "_faults", "_other_case",
        "_peers", "_race", "_refused_opt", "_rejected", "_told",
    )  # fmt: skip

    def __init__(self, asker: Asker, asked: Asked, every: Iterable[Peer], told: Callable[[Outcome], None]) -> None:
        self._asker = asker
        self._asked = asked
        self._told: Callable[[Outcome], None] | None = told
        # Who forwards back to us is asked for nothing but what shows that to others: else only one of two finds out.
        self._circular = is_circle_name(asked.name)
        self._peers = [peer for peer in every if self._circular or not peer.forwards_back]
        self._attempts: list[Attempt] = []
        self._alarm: set[Sleeper] = set()
        self._ending: asyncio.Handle | None = None
        self._refused_opt: dict[int, bool] = {}
        """Places of servers asked again without OPT → whether the refusal was a whole, matching answer."""
        self._other_case: set[int] = set()
        self._rejected: Rejected | None = None
        self._faults: list[str] = []
        streams = frozenset([i for i, peer in enumerate(self._peers) if peer.server.scheme != "udp"])
        self._began = asker.now()
        ranks = asker.order(self._peers)
        self._race = Race([peer.health for peer in self._peers], ranks, self._began, stream_only=streams)
        outcome = self._proceed()
        if outcome is not None:
            self._ending = asyncio.get_running_loop().call_soon(self._end, outcome)

    def close(self) -> None:
        """End without an outcome, if there was none yet."""
        self._told = None
        self._alarm.discard(self)
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        attempts, self._attempts = self._attempts, []
        for attempt in attempts:
            attempt.cancel()

    def _end(self, outcome: Outcome) -> None:
        told = self._told
        self.close()
        if told is not None:
            told(outcome)

    def wake(self) -> None:
        """Do what is due."""
        try:
            outcome = self._proceed()
        except Exception:  # a fault of ours must cost one question, not the service; it is logged
            outcome = self._fault()
        if outcome is not None:
            self._end(outcome)

    def _hear(self, attempt: Try, form: Form, said: Said) -> None:
        if self._told is None:
            return
        try:
            outcome = self._judge(attempt, form, said) or self._proceed()
        except Exception:  # as above
            outcome = self._fault()
        if outcome is not None:
            self._end(outcome)

    def _fault(self) -> Unanswered:
        log.exception("no answer to the question %s", self._asked.question.hex())
        return Unanswered(SERVFAIL, "internal fault", False)

    def _proceed(self) -> Outcome | None:
        """Do what is due now, and wait for what is next; give the outcome when nothing is."""
        asker, race = self._asker, self._race
        if not self._peers:
            return Unanswered(SERVFAIL, "no upstream can be asked", True)
        if not self._circular and all(peer.forwards_back for peer in self._peers):  # found out meanwhile
            return Unanswered(SERVFAIL, "upstreams forward back to this instance", False)
        now = asker.now()
        for lost in race.expire(now):
            asker.missed(self._peers[lost.server])
        for attempt in race.due(now):
            self._start(attempt)
        if race.is_over(now):
            return self._unanswered()
        self._alarm.discard(self)
        self._alarm = asker.alarms.put(self, race.wakes() - now)
        return None

    def _start(self, attempt: Try, form: Form | None = None) -> None:
        peer = self._peers[attempt.server]
        if form is None:
            form = peer.form(self._asker.now(), stream=attempt.transport is Transport.STREAM)
            if attempt.server in self._refused_opt:
                form = form._replace(edns=False)
        told = partial(self._hear, attempt, form)
        self._attempts.append(self._asker.attempt(peer, attempt.transport, self._asked, form, told))

    def _judge(self, attempt: Try, form: Form, what: Said) -> Outcome | None:
        """Draw from *what* was said to *attempt*, which was made in *form*, what is to be tried, or the outcome."""
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
        if now - self._began < HEDGE:
            return
        slow = {each.server for each in self._race.pending() if now - each.sent >= HEDGE} - {won.server}
        for server in slow:
            self._asker.missed(self._peers[server])
