"""Query bytes → reply bytes, from one store transaction; the fast path and the complete path give the same bytes.

The fast path recognises what nearly every query looks like (``usual``), and answers it by joining what is stored. It
may only *accept* what it is sure of: a stored name is well-formed, so a query whose octets equal a stored name's, with
exactly a type, a class and perhaps a bare OPT behind it, is well-formed too; before it denies anything it walks the
name.
"""

import logging
import time
from collections.abc import Callable, MutableSequence, Sequence
from enum import IntEnum
from typing import Protocol

from meshdns.resolver.usual import Endings, is_name, usual_headers
from meshdns.wire.query import Edns, Query, parse_query
from meshdns.wire.reply import (
    BADVERS,
    EDE_NOT_AUTHORITATIVE,
    EDE_NOT_READY,
    EDE_PROHIBITED,
    FORMERR,
    NOERROR,
    NOTIMP,
    NXDOMAIN,
    OPTION_KEEPALIVE,
    RA,
    REFUSED,
    SERVFAIL,
    Ede,
    Later,
    Reply,
    build_reply,
    option,
    size_limit,
)
from meshdns.wire.rrset import AXFR, IN, IXFR, QUESTION_OFFSET, soa_record
from meshdns.zone.lookup import NEGATIVE_TTL, SOA_TIMERS, Found, Get, Question, Zones, lookup, lookup_further

log = logging.getLogger(__name__)


class Count(IntEnum):
    """Where a reply or a drop is counted; below ``DROPPED`` the number is the rcode."""

    NOERROR = NOERROR
    FORMERR = FORMERR
    SERVFAIL = SERVFAIL
    NXDOMAIN = NXDOMAIN
    NOTIMP = NOTIMP
    REFUSED = REFUSED
    BADVERS = BADVERS
    DROPPED = 17
    """No query at all: too short, or a response."""
    TRUNCATED = 18
    """Replies of the above that had TC set."""
    FAILED = 19
    """Queries that met a fault of ours; each is logged and answered SERVFAIL."""


MEMO = 4_096
"""Replies about names that exist, denials of a type among them, remembered whole. They die with the push they came
from."""

MISSES = 16 * MEMO
"""Queries without a hit after which a full memo is forgotten. To fill it costs as much as it saves where more names are
asked than it holds."""

MEMO_QUERY = 300
"""Octets of a query whose reply is remembered; what is longer carries options, and nobody repeats it."""

TICKS = 4
"""Times a second that what others said is looked at anew: TTLs move by the second."""

COUNTS = 20
"""How many counters a resolver needs."""

NOT_READY = Ede(EDE_NOT_READY, "no control plane has delivered yet")
NOT_OURS = Ede(EDE_NOT_AUTHORITATIVE, "not a name of this mesh")
PROHIBITED = Ede(EDE_PROHIBITED, "client not allowed")


Elsewhere = Callable[[Query, int, bytes], bytes | Later]
"""(query, octets that the client can take, further EDNS options of the reply) → reply."""


class Transaction(Protocol):
    """A read transaction of the store, its default database the compiled zone."""

    def get(self, key: bytes, /) -> bytes | None:
        """Give the entry of *key*."""

    def abort(self) -> None:
        """End the transaction."""


class Store(Protocol):
    """What a resolver needs of the store's reader."""

    def begin(self) -> Transaction:
        """Open a read transaction."""

    def generation(self, transaction: Transaction, /) -> int:
        """Give the number of the push that *transaction* sees."""


class Resolver:
    """Answers queries from a store; the same query and the same transaction always give the same reply.

    zones: ours, with the sources that must have delivered. counters: at least ``COUNTS`` numbers that it adds to.
    tcp_idle: seconds that a TCP connection may idle, told to clients that ask (RFC 7828). elsewhere: answers for names
    that are not ours; without it they are refused. clock: monotonic seconds, for nothing but how long what they say is
    repeated as it is. ``repeated`` counts that.
    """

    def __init__(
        self,
        store: Store,
        zones: Zones,
        counters: MutableSequence[int],
        *,
        tcp_idle: float = 10.0,
        elsewhere: Elsewhere | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._zones = zones
        self._counters = counters
        self._keepalive = option(OPTION_KEEPALIVE, min(round(tcp_idle * 10), 0xFFFF).to_bytes(2, "big"))
        self._elsewhere = elsewhere
        self._recursion = elsewhere is not None
        self._usual = usual_headers(RA if elsewhere is not None else 0)
        self._generation = -1
        self._endings = (Endings(stream=False), Endings(stream=True))
        self._memo: dict[bytes, bytes] = {}
        self._unknown = 0
        self._clock = clock
        self._passing: dict[bytes, bytes] = {}
        self._tick = 0
        self.repeated = 0
        self._soas: dict[int, bytes] = {}

    def answer_now(self, query: bytes, *, stream: bool = False) -> Reply:
        """Give the reply to *query*, or None for what must not be answered. stream: it came over TCP.

        For names that are not ours the reply may come later.
        """
        return self.answer_batch((query,), stream=stream)[0]

    def answer_batch(self, queries: Sequence[bytes], *, stream: bool = False) -> list[Reply]:
        """Give the reply to each of *queries*, all from one transaction: from one whole push, never a mixture."""
        counters = self._counters
        replies: list[Reply] = []
        try:
            transaction = self._store.begin()
        except Exception:  # a fault of ours must cost queries, not the service
            log.exception("the store cannot be read")
            return [self._failure(query, stream=stream) for query in queries]
        try:
            generation = self._store.generation(transaction)
            if generation != self._generation:
                self._generation = generation
                self._soas.clear()
                self._memo.clear()
                self._passing.clear()
            memo = {} if stream else self._memo
            room = not stream and len(memo) + len(queries) <= MEMO
            endings = self._endings[stream]
            passing = {} if stream else self._still_passing()
            remembered = repeated = unknown = 0
            get, usual = transaction.get, self._usual_answer
            for query in queries:
                rest = query[2:]
                known = memo.get(rest)
                if known is None and passing:
                    known = passing.get(rest)
                    repeated += known is not None
                if known is not None:
                    replies.append(query[:2] + known)
                    remembered += 1
                    continue
                unknown += 1
                try:
                    reply = usual(query, get, endings)
                    if reply is None:
                        reply = self._answer(query, get, stream=stream)
                except Exception:  # a fault of ours must cost one query, not the service; it is logged with its packet
                    log.exception("no answer to the query %s", query[:512].hex())
                    reply = self._failure(query, stream=stream)
                if not isinstance(reply, bytes):
                    if reply is None:
                        counters[Count.DROPPED] += 1
                    else:
                        reply = _Counted(reply, self._count)
                elif not reply[3] & 15 and reply[2] & 6 == 4:
                    # Only what we say ourselves (AA) of a name that exists stays as it is until the next push.
                    remembered += 1
                    if room and len(query) < MEMO_QUERY:
                        memo[rest] = reply[2:]
                else:
                    self._count(reply)
                    if self._elsewhere is not None and not stream:
                        self._let_pass(query, reply)
                replies.append(reply)
            counters[Count.NOERROR] += remembered
            self.repeated += repeated
            if not room and not stream:
                self._remember_others(unknown)
        finally:
            transaction.abort()
        return replies

    def _remember_others(self, unknown: int) -> None:
        """Begin anew with what is remembered when it proves not to be what is asked. unknown: queries without a hit."""
        self._unknown += unknown
        if self._unknown >= MISSES:
            self._unknown = 0
            self._memo.clear()

    def forget(self) -> None:
        """Forget what others said: it is to be asked anew."""
        self._passing.clear()

    def _still_passing(self) -> dict[bytes, bytes]:
        """Give the replies of others that are repeated as they are, because no TTL in them has moved since."""
        if self._elsewhere is not None:
            tick = int(self._clock() * TICKS)
            if tick != self._tick:
                self._tick = tick
                self._passing.clear()
        return self._passing

    def _let_pass(self, query: bytes, reply: bytes) -> None:
        """Repeat *reply* for a moment, if it is a whole positive answer of others."""
        if reply[6:8] != b"\0\0" and not reply[2] & 6 and not reply[3] & 15 and len(query) < MEMO_QUERY:
            if len(self._passing) >= MEMO:
                self._passing.clear()
            self._passing[query[2:]] = reply[2:]

    def ours(self, name: bytes, qtype: int) -> tuple[int, bytes] | None:
        """Give the rcode and the RRset (as stored) of what we say to a question; None for a name that is not ours."""
        transaction = self._store.begin()
        try:
            answer = lookup(transaction.get, Question(name, qtype), self._zones)
        finally:
            transaction.abort()
        if answer.found is Found.NOT_OURS:
            return None
        rcode = {Found.NXDOMAIN: NXDOMAIN, Found.NOT_READY: SERVFAIL}.get(answer.found, NOERROR)
        return rcode, answer.rrset

    def _count(self, reply: bytes) -> None:
        rcode = reply[3] & 15
        if not rcode and reply[6:12] == _BARE_OPT and reply[-6:-4] == b"\1\0":
            rcode = BADVERS  # its upper bits are in the OPT (RFC 6891 §6.1.3)
        self._counters[rcode] += 1
        if reply[2] & 2:
            self._counters[Count.TRUNCATED] += 1

    def refuse(self, query: bytes, *, stream: bool = False) -> bytes | None:
        """Give the reply to a client that may not ask here (RFC 8914 §4.19), or None for what is no query."""
        parsed = parse_query(query)
        if parsed is None:
            return None
        self._counters[Count.REFUSED] += 1
        return build_reply(parsed, REFUSED, limit=size_limit(parsed.edns, stream=stream), ede=PROHIBITED)

    def _usual_answer(self, query: bytes, get: Get, endings: Endings) -> Reply:
        """Give the reply to a usual query, or None: take the complete path."""
        usual = self._usual.get(query[2:12])
        if usual is None:
            return None
        last, behind, further, positive, additional, nodata, nxdomain = usual
        ending = endings[query[last:]]
        if ending is None:
            return None
        tail, limit = ending
        key = query[QUESTION_OFFSET:behind].lower()
        stored = get(key) if key else None
        if stored is not None:
            if len(query) - 2 + len(stored) > limit:
                return None
            return b"".join((query[:2], positive, stored[:2], additional, query[12:further], stored[2:], tail))
        end = len(query) + behind - 2
        if not is_name(query, end):
            return None
        name = query[QUESTION_OFFSET:end].lower()
        answer = lookup_further(get, Question(name, query[end] << 8 | query[end + 1]), self._zones)
        if answer.found is _NODATA:
            head = nodata
        elif answer.found is _NXDOMAIN:
            head = nxdomain
        elif answer.found is _NOT_OURS and self._elsewhere is not None:
            opt = query[further:] if further else b""
            edns = Edns(opt[3] << 8 | opt[4], 0, bool(opt[7]), ()) if opt else None
            flags, qtype = query[2] << 8 | query[3], query[end] << 8 | query[end + 1]
            asked = Query(query[:2], flags, name, query[QUESTION_OFFSET : end + 4], qtype, IN, edns, None)
            return self._elsewhere(asked, limit, b"")
        else:
            return None
        return b"".join((query[:2], head, query[12 : end + 4], self._soa(answer.apex), tail))

    def _answer(self, message: bytes, get: Get, *, stream: bool) -> Reply:
        """Give the reply to any message: the complete path, by the words of the specification."""
        query = parse_query(message)
        if query is None:
            return None
        limit = size_limit(query.edns, stream=stream)
        if (rcode := _unanswerable(query)) is not None:
            return build_reply(query, rcode, limit=limit, recursion=self._recursion)
        options = self._options(query, stream=stream)
        answer = lookup(get, Question(query.name, query.qtype), self._zones)
        if answer.found is Found.NOT_OURS:
            if self._elsewhere is not None:
                return self._elsewhere(query, limit, options)
            return build_reply(query, REFUSED, limit=limit, ede=NOT_OURS, options=options)
        recursion = self._recursion
        if answer.found is Found.NOT_READY:
            return build_reply(query, SERVFAIL, limit=limit, ede=NOT_READY, options=options, recursion=recursion)
        rrset, soa = answer.rrset, b""
        if not rrset:
            soa = self._soa(answer.apex)
            if answer.found is Found.APEX:
                rrset, soa = b"\0\1" + soa, b""
        rcode = NXDOMAIN if answer.found is Found.NXDOMAIN else NOERROR
        return build_reply(
            query,
            rcode,
            limit=limit,
            authoritative=True,
            rrset=rrset,
            soa=soa,
            options=options,
            recursion=recursion,
        )

    def _soa(self, apex: int) -> bytes:
        """Give the SOA of the zone that begins at octet *apex* of the question's name, for the current generation."""
        soa = self._soas.get(apex)
        if soa is None:
            soa = soa_record(QUESTION_OFFSET + apex, self._generation, ttl=NEGATIVE_TTL, timers=SOA_TIMERS)
            self._soas[apex] = soa
        return soa

    def _options(self, query: Query, *, stream: bool) -> bytes:
        """Give the options of the reply: a keepalive over TCP for who asks (RFC 7828 §3.3.2), nothing else."""
        asked = stream and query.edns is not None and any(code == OPTION_KEEPALIVE for code, _ in query.edns.options)
        return self._keepalive if asked else b""

    def _failure(self, message: bytes, *, stream: bool) -> bytes | None:
        self._counters[Count.FAILED] += 1
        query = parse_query(message)
        if query is None:
            return None
        limit = size_limit(query.edns, stream=stream)
        return build_reply(query, SERVFAIL, limit=limit, recursion=self._recursion)


def _unanswerable(query: Query) -> int | None:
    """Give the rcode of a query that no data can answer, or None.

    NOTIMP for other opcodes (RFC 1035 §4.1.1), FORMERR for a malformed one, BADVERS for EDNS versions above 0
    (RFC 6891 §6.1.3), REFUSED for other classes and zone transfers (RFC 5936 §2.2.1).
    """
    if query.opcode:
        return NOTIMP
    if query.fault is not None:
        return FORMERR
    if query.edns is not None and query.edns.version:
        return BADVERS
    if query.qclass != IN or query.qtype in (AXFR, IXFR):
        return REFUSED
    return None


class _Counted:
    """A reply that counts when it is there."""

    __slots__ = ("_count", "_reply")

    def __init__(self, reply: Later, count: Callable[[bytes], None]) -> None:
        self._reply = reply
        self._count = count

    def deliver_to(self, send: Callable[[bytes], None], /) -> None:
        def counted(reply: bytes) -> None:
            self._count(reply)
            send(reply)

        self._reply.deliver_to(counted)


_NODATA, _NXDOMAIN, _NOT_OURS = Found.NODATA, Found.NXDOMAIN, Found.NOT_OURS
_BARE_OPT = b"\0\0\0\0\0\1"
"""Counts of a reply that has an OPT and nothing else."""
_TRANSFERS = tuple(qtype.to_bytes(2, "big") for qtype in (AXFR, IXFR))
