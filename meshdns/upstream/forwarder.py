"""Names that are not ours: from the cache at once, else asked of others, once for all who wait.

What is known is answered without waiting and without a task. What is not is one question however many clients have
it, and every client gets an answer: the true one, one past its time, or SERVFAIL with the reason.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any

from meshdns.upstream.asker import Answered, Asked, Asker, Unanswered
from meshdns.upstream.cache import PREFETCH_HITS, PREFETCH_SHARE, Cache, Entry, Failure, cache_key
from meshdns.upstream.checking import TtlLimits
from meshdns.upstream.exchange import Datagrams
from meshdns.upstream.line import Line
from meshdns.upstream.outstanding import Outstanding, registered_suffix
from meshdns.upstream.peer import ForwardZone
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

log = logging.getLogger(__name__)

STALE_AFTER = 1.8
"""Seconds that a client waits for a fresh answer when one past its time is at hand (RFC 8767 §5)."""

WAITING = 8_000
"""Clients that wait at once; there are fewer questions than clients, many of them ask the same."""

BEGINNINGS = 8
"""Questions that begin to be asked in one turn of the event loop: some milliseconds of work in all."""

LINE_TIME = 1.0
"""Seconds in line after which a question is not begun any more: its client is about to ask again or to give up."""

SOCKETS = 6_000
"""UDP sockets that wait at once, unless the process may have fewer."""

_META = frozenset((0, 41, 249, 250, 251, 252, 253, 254))
"""Types that are no data that could be forwarded: reserved, OPT, TKEY, TSIG, transfers, mailboxes (RFC 6895 §3.1)."""

_DS = 43

NOT_FORWARDED = Ede(EDE_NOT_AUTHORITATIVE, "no upstream is configured for this name")
NO_RECURSION = Ede(EDE_NOT_AUTHORITATIVE, "not a name of this mesh, and RD is not set")
CROWDED = Ede(EDE_OTHER, "too many questions wait for upstreams")
CIRCLE = Ede(EDE_OTHER, "this question came back: upstreams forward in a circle")
ENDING = Ede(EDE_OTHER, "this server is ending")

_RANDOM = secrets.SystemRandom()

Send = Callable[[bytes], None]
OursOf = Callable[[bytes, int], Ours | None]


@dataclass(slots=True)
class Counts:
    """What a forwarder did, each number only growing."""

    hits: int = 0
    misses: int = 0
    joined: int = 0
    """Misses that found their question already asked."""
    stale: int = 0
    prefetched: int = 0
    special: int = 0
    failed: int = 0
    """Questions that nobody answered."""
    crowded: int = 0
    """Clients refused because too much waited."""
    flushed: int = 0


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
class _Question:
    """One question that is being asked, and who waits for it.

    stale: what stands in when nobody answers. came: when it did, by the forwarder's clock.
    """

    key: bytes
    asked: Asked
    zone: ForwardZone
    place: tuple[bytes, bytes]
    stale: Entry | None
    came: float
    waiters: list[Waiter] = field(default_factory=list)
    task: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None
    told_stale: bool = False


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
        self._questions: dict[bytes, _Question] = {}
        self._outstanding: Outstanding[_Question] = Outstanding()
        self._line: Line[_Question] = Line()
        self._room = BEGINNINGS
        self._turning = False
        self.door: Hashable = None
        """Where the queries come from that are answered next: whoever hands them over says it."""
        self._waiting = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._ending = False

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
        self._ending = True
        for question in list(self._questions.values()):
            self._settle(question, Unanswered(SERVFAIL, ENDING.text, False))
        for task in self._tasks:
            task.cancel()
        self._tender.close()

    # ---- answering

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
        if self._tender.came_back(query.name):
            return self._refuse(query, limit, options, SERVFAIL, CIRCLE)
        if query.id + query.question in self._asker.sent:
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
            return self._wait(question, query, limit, options)
        if failure is not None:
            return self._refuse(query, limit, options, failure.rcode, _no_answer(failure))
        zone = self._zone_of(query.name, query.qtype)
        if zone is None:
            return self._refuse(query, limit, options, REFUSED, NOT_FORWARDED)
        question = self._begin(key, zone, stale)
        if question is None:
            self.counts.crowded += 1
            reply = None if stale is None else self._stale(stale, query, limit, options)
            return reply or self._refuse(query, limit, options, SERVFAIL, ENDING if self._ending else CROWDED)
        return self._wait(question, query, limit, options)

    def _zone_of(self, name: bytes, qtype: int) -> ForwardZone | None:
        zone = self._zones.of(name)
        if qtype == _DS and zone is not None and zone.apex == name and len(name) > 1:
            return self._zones.of(name[1 + name[0] :]) or zone  # what is said of a delegation, its parent says
        return zone

    def _wait(self, question: _Question, query: Query, limit: int, options: bytes) -> bytes | Waiter:
        if self._waiting >= WAITING:
            self.counts.crowded += 1
            return self._refuse(query, limit, options, SERVFAIL, CROWDED)
        waiter = Waiter(query, limit, options)
        question.waiters.append(waiter)
        self._waiting += 1
        return waiter

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

    def _begin(self, key: bytes, zone: ForwardZone, stale: Entry | None) -> _Question | None:
        """Ask the question of *key*, now or when its turn comes; None when too many are being asked."""
        if self._ending or self._line.is_full(self.door):
            return None
        flags = key[-1]
        asked = Asked(key[:-1], bool(flags & 1), bool(flags & 2))
        place = (zone.apex, registered_suffix(asked.name))
        question = _Question(key, asked, zone, place, stale, self._clock())
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

    def _turn(self) -> None:
        """Begin the questions whose turn it is, a few in one turn of the event loop."""
        self._room = BEGINNINGS
        while self._line and self._room:
            question = self._line.next()
            if self._questions.get(question.key) is not question:  # answered meanwhile by what was at hand
                continue
            late = self._clock() - question.came > LINE_TIME
            if late or not self._start(question):
                self.counts.crowded += len(question.waiters)
                self._settle(question, Unanswered(SERVFAIL, CROWDED.text, False))
        self._turning = self._room < BEGINNINGS
        if self._turning:
            asyncio.get_running_loop().call_soon(self._turn)

    def _start(self, question: _Question) -> bool:
        """Begin to ask *question*; False when too many are being asked."""
        admitted, given_up = self._outstanding.admit(question, question.place, self._clock())
        if not admitted:
            return False
        if given_up is not None:
            self._settle(given_up, Unanswered(SERVFAIL, CROWDED.text, False))
        self._room -= 1
        question.task = asyncio.get_running_loop().create_task(self._ask(question))
        self._tasks.add(question.task)
        question.task.add_done_callback(self._tasks.discard)
        return True

    async def _ask(self, question: _Question) -> None:
        try:
            outcome = await self._asker.ask(question.asked, question.zone.peers)
        except asyncio.CancelledError:
            raise
        except Exception:  # a fault of ours must cost one question, not the service; it is logged
            log.exception("no answer to the question %s", question.asked.question.hex())
            outcome = Unanswered(SERVFAIL, "internal fault", False)
        self._settle(question, outcome)

    def _settle(self, question: _Question, outcome: Answered | Unanswered) -> None:
        """Keep *outcome*, and tell it to who waits."""
        if self._questions.get(question.key) is not question:
            return
        del self._questions[question.key]
        self._outstanding.release(question, question.place)
        if question.timer is not None:
            question.timer.cancel()
        if question.task is not None and question.task is not asyncio.current_task():
            question.task.cancel()
        waiters, question.waiters = question.waiters, []
        self._waiting -= len(waiters)
        if isinstance(outcome, Answered):
            entry = Entry(
                outcome.checked, server=str(outcome.peer.server), authentic=outcome.authentic, now=self._clock()
            )
            self._cache.put(question.key, entry)
            for waiter in waiters:
                reply = self._from(entry, entry.body, waiter.query, waiter.limit, options=waiter.options)
                waiter.answer(reply or self._refuse(waiter.query, waiter.limit, waiter.options, SERVFAIL, None))
            return
        if outcome.reason not in (CROWDED.text, ENDING.text):
            self.counts.failed += 1
            self._cache.fail(question.key, outcome.rcode, _reason(outcome))
        if question.stale is not None:
            question.stale.renewing = False
        ede = Ede(EDE_NETWORK_ERROR if outcome.network else EDE_NO_REACHABLE_AUTHORITY, _reason(outcome))
        for waiter in waiters:
            reply = None
            if question.stale is not None:
                reply = self._stale(question.stale, waiter.query, waiter.limit, waiter.options)
            waiter.answer(reply or self._refuse(waiter.query, waiter.limit, waiter.options, outcome.rcode, ede))

    def _tell_stale(self, question: _Question) -> None:
        """Answer who waits by what is past its time; the question goes on for those to come."""
        question.told_stale = True
        waiters, question.waiters = question.waiters, []
        self._waiting -= len(waiters)
        for waiter in waiters:
            reply = None
            if question.stale is not None:
                reply = self._stale(question.stale, waiter.query, waiter.limit, waiter.options)
            waiter.answer(reply or self._refuse(waiter.query, waiter.limit, waiter.options, SERVFAIL, None))

    def _renew(self, key: bytes, entry: Entry) -> None:
        """Ask again what is asked often, before its time is over."""
        if not self._prefetch or entry.renewing or key in self._questions or self._cache.failure(key) is not None:
            return
        zone = self._zone_of(key[:-5], int.from_bytes(key[-5:-3], "big"))
        if zone is not None and self._begin(key, zone, entry) is not None:
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
        held = self._cache.statistics
        return {
            "cache": {"entries": held.entries, "bytes": held.octets, "failures": held.failures},
            "waiting": len(self._questions),
            "upstreams": [
                {
                    "zone": zone.settings.zone,
                    "server": str(peer.server),
                    "rtt": None if peer.health.rtt is None else round(peer.health.rtt, 6),
                    "suspect_since": peer.suspect_wall,
                    "forwards_back": peer.forwards_back,
                    "queries": peer.queries,
                    "answers": peer.answers,
                    "timeouts": peer.timeouts,
                    "errors": peer.errors,
                    "last_error": peer.last_error,
                }
                for zone in self._zones
                for peer in zone.peers
            ],
            "without_servers": [zone.settings.zone for zone in self._zones if not zone.peers],
        }


def _reason(outcome: Unanswered) -> str:
    return outcome.reason


def _no_answer(failure: Failure) -> Ede:
    return Ede(EDE_NO_REACHABLE_AUTHORITY, failure.reason)
