"""Which server is asked, when, and again: health of servers, their order, and the course of one question. Pure.

Time (seconds of any monotonic clock) and randomness (a number in 0…1) are arguments; nothing here waits or sends.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

PATIENCE = 4.0
"""Seconds for one question in all: less than the 5 s that stub resolvers wait."""

HEDGE = 0.3
"""Seconds after which a second server is asked beside the first."""

TRIES = 3
"""Tries of one server over one transport for one question (RFC 9520 §3.1)."""

SUSPECT = 3
"""Timeouts in a row after which a server is asked last."""

FIRST_TIMEOUT, LONGEST_TIMEOUT = 0.4, 2.0
"""Seconds for the first try of a server that answers fast, and for any try."""

UNKNOWN_RTT = 0.4
"""Seconds that a server never asked is taken to need: one known to be faster goes first, a slower one does not."""

EXPLORE = 0.03
"""Share of questions for which another server than the best is asked first, so that its RTT stays known."""

SECOND_OPINION = 1.0
"""Seconds that another server has for its answer once one has answered by an error."""

_WEIGHT = 0.25
"""Of the newest measurement in the average."""


class Transport(Enum):
    """How a try is made."""

    UDP = auto()
    STREAM = auto()


@dataclass(slots=True)
class Health:
    """One server as it answered so far. rtt: seconds, exponentially weighted. suspect_since: None while it answers."""

    rtt: float | None = None
    timeouts: int = 0
    suspect_since: float | None = None

    def answered(self, seconds: float) -> bool:
        """Note an answer after *seconds*; tell whether the server was suspect until now."""
        self.rtt = seconds if self.rtt is None else self.rtt + _WEIGHT * (seconds - self.rtt)
        recovered = self.suspect_since is not None
        self.timeouts, self.suspect_since = 0, None
        return recovered

    def missed(self, now: float) -> bool:
        """Note that a try got no answer; tell whether the server becomes suspect by that."""
        self.timeouts += 1
        if self.suspect_since is None and self.timeouts >= SUSPECT:
            self.suspect_since = now
            return True
        return False

    @property
    def expected(self) -> float:
        """Seconds until its answer, as far as can be told; each timeout since the last one makes it worse."""
        return (UNKNOWN_RTT if self.rtt is None else self.rtt) + self.timeouts * UNKNOWN_RTT

    def timeout(self, tries: int) -> float:
        """Give the seconds for a try, *tries* having been made of this server for the question before."""
        return min(LONGEST_TIMEOUT, max(2 * (self.rtt or 0.0), FIRST_TIMEOUT) * (1 << tries))


def order(servers: Sequence[Health], draw: float) -> list[int]:
    """Give the places of *servers* in the order in which they are asked: the fastest first, suspects last.

    Of equally fast ones, and of those never asked, the first in the configuration goes first. All suspect: all are
    as good as the others. draw: a random number in 0…1 that now and then puts another one first.
    """
    every = sorted(range(len(servers)), key=lambda i: (servers[i].expected, i))
    usable = [i for i in every if servers[i].suspect_since is None]
    if not usable:
        return every
    if draw < EXPLORE and len(usable) > 1:
        usable.insert(0, usable.pop(1 + int(draw / EXPLORE * (len(usable) - 1))))
    return usable + [i for i in every if servers[i].suspect_since is not None]


class Try(NamedTuple):
    """One query to one server. server: its place. number: of the try. sent, deadline: when it was, and is lost."""

    server: int
    transport: Transport
    number: int
    sent: float
    deadline: float


class _Course:
    """What was done with one server for the question."""

    __slots__ = ("given_up", "pending", "streams", "tries")

    def __init__(self) -> None:
        self.tries = 0
        self.streams = 0
        self.given_up = False
        self.pending: list[Try] = []

    def end(self, attempt: Try) -> None:
        """Wait for *attempt* no more."""
        if attempt in self.pending:
            self.pending.remove(attempt)


class Race:
    """The course of one question: gives the tries that are due, and is told how they end.

    servers: their health. ranks: their places in order. stream_only: those that are never asked over UDP.
    """

    def __init__(
        self, servers: Sequence[Health], ranks: Sequence[int], now: float, *, stream_only: frozenset[int] = frozenset()
    ) -> None:
        self._servers = servers
        self._ranks = tuple(ranks)
        self._stream_only = stream_only
        self._courses = {server: _Course() for server in ranks}
        self._deadline = now + PATIENCE
        self._hedge_at = now + HEDGE
        self._due = 1
        self._rejections = 0
        self._over = not ranks

    @property
    def deadline(self) -> float:
        """When the question ends unanswered."""
        return self._deadline

    def expire(self, now: float) -> list[Try]:
        """Give the tries that count as lost at *now*, once each; an answer to them is still an answer."""
        lost = [each for each in self.pending() if now >= each.deadline]
        for attempt in lost:
            course = self._courses[attempt.server]
            course.end(attempt)
            if attempt.transport is Transport.UDP or attempt.server in self._stream_only or course.given_up:
                self._due += 1
        return lost

    def due(self, now: float) -> list[Try]:
        """Give the tries to make at *now*."""
        if now >= self._hedge_at:
            self._hedge_at = self._deadline
            if any(not course.tries and not course.given_up for course in self._courses.values()):
                self._due = max(self._due, 1)
        tries: list[Try] = []
        while self._due > 0 and now < self._deadline and (server := self._next()) is not None:
            self._due -= 1
            tries += self._begin(server, now)
        self._due = 0
        self._over = not tries and not self.pending()
        return tries

    def wakes(self) -> float:
        """Give when ``due`` is to be called next, unless something happens before."""
        wakes = min(self._hedge_at, self._deadline)
        for course in self._courses.values():
            for each in course.pending:
                wakes = min(wakes, each.deadline)
        return wakes

    def is_over(self, now: float) -> bool:
        """Tell whether nothing more can come of it."""
        return self._over or now >= self._deadline

    def failed(self, attempt: Try) -> None:
        """Take note that *attempt* found the server out of reach: others are asked at once, it is not again."""
        course = self._courses[attempt.server]
        course.end(attempt)
        if attempt.transport is Transport.UDP or attempt.server in self._stream_only or course.given_up:
            course.given_up = True
            self._due += 1

    def rejected(self, attempt: Try, now: float) -> bool:
        """Take note that *attempt* got an error for an answer; tell whether one other server's answer is awaited."""
        self._courses[attempt.server].pending.clear()
        self._courses[attempt.server].given_up = True
        self._rejections += 1
        if self._rejections > 1:
            return False
        self._deadline = min(self._deadline, now + SECOND_OPINION)
        if not self.pending():
            if self._next() is None:
                return False
            self._due += 1
        return True

    def truncated(self, attempt: Try, now: float) -> Try:
        """Give the try over a stream that follows a truncated answer; the server is not asked by datagrams again."""
        course = self._courses[attempt.server]
        course.end(attempt)
        course.given_up = True
        return self._stream(attempt.server, now)

    def again(self, attempt: Try, now: float) -> Try:
        """Give the try that follows *attempt* at once, in another form; *attempt* may still be answered."""
        deadline = min(self._deadline, max(attempt.deadline, now + FIRST_TIMEOUT))
        follow = Try(attempt.server, attempt.transport, attempt.number + TRIES, now, deadline)
        self._courses[attempt.server].pending.append(follow)
        return follow

    def pending(self) -> list[Try]:
        """Give the tries that wait for an answer and do not count as lost yet."""
        return [each for course in self._courses.values() for each in course.pending]

    def _next(self) -> int | None:
        """Give the server that was tried least, the best of these; None when all have had their tries."""
        next_, fewest = None, TRIES
        for server in self._ranks:
            course = self._courses[server]
            if course.tries < fewest and not course.given_up:
                next_, fewest = server, course.tries
        return next_

    def _begin(self, server: int, now: float) -> list[Try]:
        course = self._courses[server]
        if server in self._stream_only:
            course.tries += 1
            return [self._stream(server, now)]
        timeout = self._servers[server].timeout(course.tries)
        attempt = Try(server, Transport.UDP, course.tries, now, min(now + timeout, self._deadline))
        course.pending.append(attempt)
        course.tries += 1
        # Where datagrams are lost again and again, a stream repairs the loss by itself.
        return [attempt, self._stream(server, now)] if course.tries == TRIES else [attempt]

    def _stream(self, server: int, now: float) -> Try:
        course = self._courses[server]
        timeout = max(LONGEST_TIMEOUT, self._servers[server].timeout(course.streams))
        attempt = Try(server, Transport.STREAM, course.streams, now, min(now + timeout, self._deadline))
        course.streams += 1
        course.pending.append(attempt)
        return attempt
