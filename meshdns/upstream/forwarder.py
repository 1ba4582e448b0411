"""Names that are not ours: from the cache at once, else asked of others, once for all who wait.

What is known is answered without waiting and without a task. What is not is one question however many clients have
it, and every client gets an answer: the true one, one past its time, or SERVFAIL with the reason.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from meshdns.upstream.asker import Asker
from meshdns.upstream.cache import PREFETCH_HITS, PREFETCH_SHARE, Cache, Entry, cache_key
from meshdns.upstream.checking import TtlLimits
from meshdns.upstream.course import Answered, Outcome, Unanswered
from meshdns.upstream.exchange import Datagrams
from meshdns.upstream.peer import ForwardZone
from meshdns.upstream.questions import CROWDED, ENDING, Question, Questions, Waiter
from meshdns.upstream.replying import (
    EDE_NETWORK_ERROR,
    EDE_NO_REACHABLE_AUTHORITY,
    EDE_OTHER,
    EDE_STALE,
    EDE_STALE_NXDOMAIN,
    Ours,
    render,
)
from meshdns.upstream.settings import CacheSettings, UpstreamSettings
from meshdns.upstream.special import SpecialNames
from meshdns.upstream.state import Counts, state
from meshdns.upstream.tending import Tender, is_circle_name
from meshdns.wire.query import Query
from meshdns.wire.reply import (
    CD,
    EDE_NOT_AUTHORITATIVE,
    FORMERR,
    NXDOMAIN,
    RD,
    REFUSED,
    SERVFAIL,
    Ede,
    build_reply,
)

SOCKETS = 6_000
"""UDP sockets that wait at once, unless the process may have fewer."""

_META = frozenset((0, 41, 249, 250, 251, 252, 253, 254))
"""Types that are no data that could be forwarded: reserved, OPT, TKEY, TSIG, transfers, mailboxes (RFC 6895 §3.1)."""

_DS = 43

NOT_FORWARDED = Ede(EDE_NOT_AUTHORITATIVE, "no upstream is configured for this name")
NO_RECURSION = Ede(EDE_NOT_AUTHORITATIVE, "not a name of this mesh, and RD is not set")
CIRCLE = Ede(EDE_OTHER, "this question came back: upstreams forward in a circle")

_RANDOM = secrets.SystemRandom()

OursOf = Callable[[bytes, int], Ours | None]


class Forwarder:
    """Answers questions for names that are not ours.

    ours: says what we say about a name, None when it is not ours. listen: our own addresses. special: names like
    ``localhost`` are answered here. clock: monotonic seconds. Raises UpstreamError for certificates that cannot be
    read.
    """

    def __init__(
        self,
        zones: Iterable[UpstreamSettings],
        cache: CacheSettings,
        ours: OursOf,
        *,
        listen: Iterable[tuple[str, int]] = (),
        special: bool = True,
        sockets: int = SOCKETS,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = _RANDOM.random,
    ) -> None:
        self.counts = Counts()
        self._clock = clock
        self._ours = ours
        self._prefetch = cache.prefetch
        self._cache = Cache(cache, clock=clock)
        self._tender = Tender(zones, listen, clock=clock, forget_failures=self._cache.forget_failures)
        self._zones = self._tender.zones
        self._special = SpecialNames(zone.apex for zone in self._zones) if special else None
        self._asker = Asker(
            Datagrams(sockets),
            clock=clock,
            draw=draw,
            is_ours=lambda name: ours(name, 1) is not None,
            limits=TtlLimits(round(cache.max_ttl), round(cache.negative_ttl)),
            suspected=self._tender.suspected,
            recovered=self._tender.recovered,
        )
        self._questions = Questions(self._asker, clock, self._settle, self._tell_stale)

    # ---- life

    async def start(self) -> None:
        """Begin to look after the servers."""
        self._tender.start(self._asker)

    async def drain(self, patience: float) -> None:
        """Wait until every question has its answer, at most *patience* seconds; end the others, and begin no more."""
        deadline = self._clock() + patience
        while self._questions and self._clock() < deadline:  # noqa: ASYNC110 (which question is last, nobody knows)
            await asyncio.sleep(0.02)
        self.close()

    def close(self) -> None:
        """Answer everybody who waits by what is at hand; nothing goes to others any more."""
        self._questions.close()
        self._tender.close()
        self._asker.close()

    # ---- answering

    @property
    def door(self) -> Hashable:
        """Where the queries come from that are answered next: whoever hands them over says it."""
        return self._questions.door

    @door.setter
    def door(self, door: Hashable) -> None:
        self._questions.door = door

    def answer(self, query: Query, limit: int, options: bytes = b"") -> bytes | Waiter:
        """Give the reply to *query*, which is for no name of ours, or somebody who will.

        limit: octets that the client can take. options: further EDNS options of the reply.
        """
        if not query.flags & RD:
            return self._refuse(query, limit, options, REFUSED, NO_RECURSION)
        edns = query.edns
        do = edns is not None and edns.dnssec_ok
        key = cache_key(query.name + query.question[-4:], dnssec=do, unchecked=query.flags & CD != 0)
        entry = self._cache.get(key)
        if entry is not None:
            now = self._clock()
            if now < entry.expires:
                reply = self._from(entry, entry.aged(int(now - entry.stored)), query, limit, options=options)
                if reply is not None:
                    self.counts.hits += 1
                    entry.hits += 1
                    if entry.hits >= PREFETCH_HITS and entry.expires - now < PREFETCH_SHARE * entry.ttl:
                        self._renew(key, entry)
                    return reply
                entry = None
        return self._miss(query, limit, options, key, entry)

    def _from(
        self, entry: Entry, body: bytes, query: Query, limit: int, *, options: bytes, ede: Ede | None = None
    ) -> bytes | None:
        """Give the reply that *entry* holds; None when it ends at a name of ours that is ours no more."""
        ours = None
        if entry.tail:
            ours = self._ours(entry.tail, query.qtype)
            if ours is None:
                return None
        return render(query, entry, body, limit, options=options, ours=ours, ede=ede)

    def _miss(self, query: Query, limit: int, options: bytes, key: bytes, stale: Entry | None) -> bytes | Waiter:
        if query.qtype in _META:
            return self._refuse(query, limit, options, FORMERR if query.qtype in (0, 41) else REFUSED, None)
        if self._tender.came_back(query.name) or query.id + query.question in self._asker.sent:
            return self._refuse(query, limit, options, SERVFAIL, CIRCLE)
        if self._special is not None and not is_circle_name(query.name):
            special = self._special.answer(query.name, query.qtype)
            if special is not None:
                self.counts.special += 1
                return build_reply(
                    query,
                    special.rcode,
                    limit=limit,
                    authoritative=True,
                    rrset=special.rrset,
                    soa=special.soa,
                    options=options,
                    recursion=True,
                )
        self.counts.misses += 1
        question = self._questions.get(key)
        failure = self._cache.failure(key)
        if stale is not None and (failure is not None or (question is not None and question.told_stale)):
            reply = self._stale(stale, query, limit, options)
            if reply is not None:
                return reply
        if question is not None:
            self.counts.joined += 1
        elif failure is not None:
            ede = Ede(EDE_NO_REACHABLE_AUTHORITY, failure.reason)
            return self._refuse(query, limit, options, failure.rcode, ede)
        else:
            zone = self._zone_of(query.name, query.qtype)
            if zone is None:
                return self._refuse(query, limit, options, REFUSED, NOT_FORWARDED)
            if self._questions.why_not() is None:
                question = self._questions.begin(key, zone, stale)
        waiter = None if question is None else self._questions.wait(question, query, limit, options)
        return waiter or self._turn_away(query, limit, options, stale if question is None else None)

    def _turn_away(self, query: Query, limit: int, options: bytes, stale: Entry | None) -> bytes:
        """Give the reply to whose question is too much, from *stale* if that is at hand."""
        self.counts.crowded += 1
        reply = None if stale is None else self._stale(stale, query, limit, options)
        why = self._questions.why_not() or CROWDED
        return reply or self._refuse(query, limit, options, SERVFAIL, Ede(EDE_OTHER, why.reason))

    def _zone_of(self, name: bytes, qtype: int) -> ForwardZone | None:
        zone = self._zones.of(name)
        if qtype == _DS and zone is not None and zone.apex == name and len(name) > 1:
            return self._zones.of(name[1 + name[0] :]) or zone  # what is said of a delegation, its parent says
        return zone

    def _refuse(self, query: Query, limit: int, options: bytes, rcode: int, ede: Ede | None) -> bytes:
        return build_reply(query, rcode, limit=limit, ede=ede, options=options, recursion=True)

    def _stale(self, entry: Entry, query: Query, limit: int, options: bytes) -> bytes | None:
        """Give the reply of an entry past its time."""
        denies = entry.rcode == NXDOMAIN
        ede = Ede(EDE_STALE_NXDOMAIN if denies else EDE_STALE, "no fresh answer could be had")
        reply = self._from(entry, entry.stale(), query, limit, options=options, ede=ede)
        if reply is not None:
            self.counts.stale += 1
        return reply

    # ---- asking

    def _settle(self, question: Question, outcome: Outcome, waiters: list[Waiter]) -> None:
        """Keep *outcome*, and tell it to who waited."""
        if isinstance(outcome, Answered):
            entry = Entry(outcome.checked, server=outcome.peer.name, authentic=outcome.authentic, now=self._clock())
            self._cache.put(question.key, entry)
            for waiter in waiters:
                reply = self._from(entry, entry.body, waiter.query, waiter.limit, options=waiter.options)
                waiter.answer(reply or self._refuse(waiter.query, waiter.limit, waiter.options, SERVFAIL, None))
            return
        if outcome is CROWDED:
            self.counts.crowded += len(waiters)
        elif outcome is not ENDING:
            self.counts.failed += 1
            self._cache.fail(question.key, outcome.rcode, outcome.reason)
        if question.stale is not None:
            question.stale.renewing = False
        self._make_do(question, waiters, outcome)

    def _tell_stale(self, question: Question, waiters: list[Waiter]) -> None:
        """Answer who waited by what is past its time."""
        self._make_do(question, waiters, None)

    def _make_do(self, question: Question, waiters: list[Waiter], outcome: Unanswered | None) -> None:
        """Answer *waiters* by what is past its time, or else by *outcome*."""
        rcode, ede = SERVFAIL, None
        if outcome is not None:
            code = EDE_NETWORK_ERROR if outcome.network else EDE_NO_REACHABLE_AUTHORITY
            rcode, ede = outcome.rcode, Ede(code, outcome.reason)
        for waiter in waiters:
            reply = None
            if question.stale is not None:
                reply = self._stale(question.stale, waiter.query, waiter.limit, waiter.options)
            waiter.answer(reply or self._refuse(waiter.query, waiter.limit, waiter.options, rcode, ede))

    def _renew(self, key: bytes, entry: Entry) -> None:
        """Ask again what is asked often, before its time is over."""
        if not self._prefetch or entry.renewing or self._questions.get(key) or self._cache.failure(key) is not None:
            return
        zone = self._zone_of(key[:-5], int.from_bytes(key[-5:-3], "big"))
        if zone is not None and self._questions.begin(key, zone, entry) is not None:
            entry.renewing = True
            self.counts.prefetched += 1

    # ---- what an operator wants and sees

    def flush(self, name: bytes | None = None) -> int:
        """Forget what is kept, or what is kept at and under *name* (lower-case wire form); give how many answers."""
        count = self._cache.flush(name)
        self.counts.flushed += count
        return count

    @property
    def waiting(self) -> int:
        """Questions that are being asked."""
        return len(self._questions)

    def state(self) -> dict[str, Any]:
        """Give what ``status`` shows: the cache, and each server of each zone; times in seconds and unix time."""
        return state(self._zones, self._cache, len(self._questions))
