"""The questions that are being asked, each once for all who wait: bounded, begun in turn, each with one end.

A few begin in a turn of the event loop, others stand in line, and for what is too much there is no place: told before
anything is made for it.
"""

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import partial

from meshdns.upstream.asker import Asked, Asker
from meshdns.upstream.cache import Entry
from meshdns.upstream.course import Course, Outcome, Unanswered
from meshdns.upstream.line import Line
from meshdns.upstream.outstanding import Outstanding, registered_suffix
from meshdns.upstream.peer import ForwardZone
from meshdns.wire.query import Query
from meshdns.wire.reply import SERVFAIL

STALE_AFTER = 1.8
"""Seconds that a client waits for a fresh answer when one past its time is at hand (RFC 8767 §5)."""

WAITING = 8_000
"""Clients that wait at once; there are fewer questions than clients, many of them ask the same."""

BEGINNINGS = 32
"""Questions that begin to be asked in one turn of the event loop: some milliseconds of work in all."""

LINE_TIME = 1.0
"""Seconds in line after which a question is not begun any more: its client is about to ask again or to give up."""

CROWDED = Unanswered(SERVFAIL, "too many questions wait for upstreams", False)
ENDING = Unanswered(SERVFAIL, "this server is ending", False)

Send = Callable[[bytes], None]


class Waiter:
    """One client that waits. Whoever took its query says how it is answered; the reply may be there already."""

    __slots__ = ("_reply", "_send", "limit", "options", "query")

    def __init__(self, query: Query, limit: int, options: bytes) -> None:
        self.query = query
        self.limit = limit
        self.options = options
        self._send: Send | None = None
        self._reply: bytes | None = None

    def deliver_to(self, send: Send) -> None:
        """Hand the reply to *send* when it is there, once."""
        if self._reply is not None:
            send(self._reply)
        else:
            self._send = send

    def answer(self, reply: bytes) -> None:
        """Give the reply."""
        # Let go of who sends, who holds us: garbage in circles stops the process for as long as it takes to find it.
        send, self._send = self._send, None
        if send is not None:
            send(reply)
        else:
            self._reply = reply


@dataclass(eq=False, slots=True)
class Question:
    """One question that is being asked, and who waits for it.

    stale: what stands in when nobody answers. told_stale: it did, for those who waited so far. came: when the question
    did, by the clock.
    """

    key: bytes
    zone: ForwardZone
    place: tuple[bytes, bytes]
    stale: Entry | None
    came: float
    told_stale: bool = False
    waiters: list[Waiter] = field(default_factory=list)
    course: Course | None = None
    timer: asyncio.TimerHandle | None = None


class Questions:
    """Those of one forwarder.

    clock: monotonic seconds. settled: given a question that is no more, its outcome and who waited. overdue: given
    a question whose stale entry is to be told, and who waited; it goes on for those to come. door: where the queries
    come from that are taken next: whoever hands them over says it.
    """

    def __init__(
        self,
        asker: Asker,
        clock: Callable[[], float],
        settled: Callable[[Question, Outcome, list[Waiter]], None],
        overdue: Callable[[Question, list[Waiter]], None],
    ) -> None:
        self.door: Hashable = None
        self._asker = asker
        self._clock = clock
        self._settled = settled
        self._overdue = overdue
        self._questions: dict[bytes, Question] = {}
        self._outstanding: Outstanding[Question] = Outstanding()
        self._line: Line[Question] = Line()
        self._room = BEGINNINGS
        self._turning = False
        self._waiting = 0
        self._ending = False

    def __len__(self) -> int:
        return len(self._questions)

    def get(self, key: bytes) -> Question | None:
        """Give the question of *key*, None when it is not being asked."""
        return self._questions.get(key)

    def why_not(self) -> Unanswered | None:
        """Give why no further question is taken that comes by this door, None when one may be."""
        if self._ending:
            return ENDING
        if self._waiting >= WAITING or self._line.is_full(self.door):
            return CROWDED
        return None

    def begin(self, key: bytes, zone: ForwardZone, stale: Entry | None) -> Question | None:
        """Ask the question of *key*, now or when its turn comes; None when too many are being asked."""
        if self._ending:
            return None
        place = (zone.apex, registered_suffix(key[:-5]))
        question = Question(key, zone, place, stale, self._clock())
        if self._line or not self._room:
            if not self._line.join(question, self.door, place):
                return None
        elif not self._start(question):
            return None
        self._questions[key] = question
        loop = asyncio.get_running_loop()
        if not self._turning:
            self._turning = True
            loop.call_soon(self._turn)
        if stale is not None:
            question.timer = loop.call_later(STALE_AFTER, self._tell_stale, question)
        return question

    def wait(self, question: Question, query: Query, limit: int, options: bytes) -> Waiter | None:
        """Let a client wait for *question*; None when too many do."""
        if self._waiting >= WAITING:
            return None
        waiter = Waiter(query, limit, options)
        question.waiters.append(waiter)
        self._waiting += 1
        return waiter

    def close(self) -> None:
        """Give up every question, and begin no more."""
        self._ending = True
        for question in list(self._questions.values()):
            self._settle(question, ENDING)

    def _turn(self) -> None:
        """Begin the questions whose turn it is, a few in one turn of the event loop."""
        self._room = BEGINNINGS
        while self._line and self._room:
            question = self._line.next()
            if self._questions.get(question.key) is not question:  # answered meanwhile by what was at hand
                continue
            if self._clock() - question.came > LINE_TIME or not self._start(question):
                self._settle(question, CROWDED)
        self._turning = self._room < BEGINNINGS
        if self._turning:
            asyncio.get_running_loop().call_soon(self._turn)

    def _start(self, question: Question) -> bool:
        """Begin to ask *question*; False when too many are being asked."""
        admitted, given_up = self._outstanding.admit(question, question.place, self._clock())
        if not admitted:
            return False
        if given_up is not None:
            self._settle(given_up, CROWDED)
        self._room -= 1
        key = question.key
        asked = Asked(key[:-1], bool(key[-1] & 1), bool(key[-1] & 2))
        question.course = Course(self._asker, asked, question.zone.peers, partial(self._settle, question))
        return True

    def _settle(self, question: Question, outcome: Outcome) -> None:
        """End *question*, and let *outcome* be kept and told."""
        if self._questions.get(question.key) is not question:
            return
        del self._questions[question.key]
        self._outstanding.release(question, question.place)
        if question.timer is not None:
            question.timer.cancel()
        if question.course is not None:
            question.course.close()
            question.course = None
        self._settled(question, outcome, self._dismissed(question))

    def _tell_stale(self, question: Question) -> None:
        question.told_stale = True
        self._overdue(question, self._dismissed(question))

    def _dismissed(self, question: Question) -> list[Waiter]:
        """Give who waits for *question*, and does no more."""
        waiters, question.waiters = question.waiters, []
        self._waiting -= len(waiters)
        return waiters
