"""Query bytes → reply bytes, from one store transaction; the fast path and the complete path give the same bytes.

The fast path recognises what nearly every query looks like by looking ten header octets up in a table, and answers
it by joining what is stored. It may only *accept* what it is sure of: a stored name is well-formed, so a query whose
octets equal a stored name's, with exactly a type, a class and perhaps a bare OPT behind it, is well-formed too.
"""

import logging
from collections.abc import MutableSequence
from enum import IntEnum
from typing import Protocol

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
    REFUSED,
    SERVFAIL,
    UDP_MAXIMUM,
    UDP_MINIMUM,
    Ede,
    build_reply,
    opt_record,
    option,
    size_limit,
)
from meshdns.wire.rrset import AXFR, IN, IXFR, QUESTION_OFFSET, soa_record
from meshdns.zone.lookup import NEGATIVE_TTL, SOA_TIMERS, Answer, Found, Question, Zones, lookup

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


COUNTS = 20
"""How many counters a resolver needs."""

NOT_READY = Ede(EDE_NOT_READY, "no control plane has delivered yet")
NOT_OURS = Ede(EDE_NOT_AUTHORITATIVE, "not a name of this mesh")
PROHIBITED = Ede(EDE_PROHIBITED, "client not allowed")


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
    tcp_idle: seconds that a TCP connection may idle, told to clients that ask (RFC 7828).
    """

    def __init__(self, store: Store, zones: Zones, counters: MutableSequence[int], *, tcp_idle: float = 10.0) -> None:
        self._store = store
        self._zones = zones
        self._counters = counters
        self._keepalive = option(OPTION_KEEPALIVE, min(round(tcp_idle * 10), 0xFFFF).to_bytes(2, "big"))

    def answer_now(self, query: bytes, *, stream: bool = False) -> bytes | None:
        """Give the reply to *query*, or None for what must not be answered. stream: it came over TCP."""
        try:
            transaction = self._store.begin()
            try:
                reply = None if stream else fast_answer(query, transaction)
                if reply is None:
                    reply = self._answer(query, transaction, stream=stream)
            finally:
                transaction.abort()
        except Exception:  # a fault of ours must cost one query, not the service; it is logged with its packet
            log.exception("no answer to the query %s", query[:512].hex())
            self._counters[Count.FAILED] += 1
            reply = self._failure(query, stream=stream)
        if reply is None:
            self._counters[Count.DROPPED] += 1
            return None
        self._counters[reply[3] & 15] += 1
        if reply[2] & 2:
            self._counters[Count.TRUNCATED] += 1
        return reply

    def refuse(self, query: bytes, *, stream: bool = False) -> bytes | None:
        """Give the reply to a client that may not ask here (RFC 8914 §4.19), or None for what is no query."""
        parsed = parse_query(query)
        if parsed is None:
            return None
        self._counters[Count.REFUSED] += 1
        return build_reply(parsed, REFUSED, limit=size_limit(parsed.edns, stream=stream), ede=PROHIBITED)

    def _answer(self, message: bytes, transaction: Transaction, *, stream: bool) -> bytes | None:
        query = parse_query(message)
        if query is None:
            return None
        limit = size_limit(query.edns, stream=stream)
        if (rcode := _unanswerable(query)) is not None:
            return build_reply(query, rcode, limit=limit)
        options = self._options(query, stream=stream)
        answer = lookup(transaction.get, Question(query.name, query.qtype), self._zones)
        if answer.found is Found.NOT_OURS:
            return build_reply(query, REFUSED, limit=limit, ede=NOT_OURS, options=options)
        if answer.found is Found.NOT_READY:
            return build_reply(query, SERVFAIL, limit=limit, ede=NOT_READY, options=options)
        rrset, soa = answer.rrset, b""
        if not rrset:
            soa = self._soa(answer, transaction)
            if answer.found is Found.APEX:
                rrset, soa = b"\0\1" + soa, b""
        rcode = NXDOMAIN if answer.found is Found.NXDOMAIN else NOERROR
        return build_reply(query, rcode, limit=limit, authoritative=True, rrset=rrset, soa=soa, options=options)

    def _soa(self, answer: Answer, transaction: Transaction) -> bytes:
        generation = self._store.generation(transaction)
        return soa_record(QUESTION_OFFSET + answer.apex, generation, ttl=NEGATIVE_TTL, timers=SOA_TIMERS)

    def _options(self, query: Query, *, stream: bool) -> bytes:
        """Give the options of the reply: a keepalive over TCP for who asks (RFC 7828 §3.3.2), nothing else."""
        asked = stream and query.edns is not None and any(code == OPTION_KEEPALIVE for code, _ in query.edns.options)
        return self._keepalive if asked else b""

    def _failure(self, message: bytes, *, stream: bool) -> bytes | None:
        query = parse_query(message)
        return None if query is None else build_reply(query, SERVFAIL, limit=size_limit(query.edns, stream=stream))


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


def _usual_headers() -> dict[bytes, tuple[bytes, bool]]:
    """Give the ten header octets after the id of usual queries → (flags and QDCOUNT of the reply, an OPT follows).

    Usual: QUERY, one question, any RD, AD and CD, no other flag, nothing but perhaps one additional record.
    """
    usual = {}
    for rd in (0x0000, 0x0100):
        for ad_cd in (0x0000, 0x0010, 0x0020, 0x0030):
            for additional in (0, 1):
                asked = (rd | ad_cd).to_bytes(2, "big") + b"\0\1\0\0\0\0" + additional.to_bytes(2, "big")
                flags = 0x8400 | rd | ad_cd & 0x0010
                usual[asked] = (flags.to_bytes(2, "big") + b"\0\1", bool(additional))
    return usual


def _bare_opts() -> dict[bytes, bytes]:
    """Give what follows the size in an OPT without options → the OPT of the reply."""
    return {
        bytes((0, 0, 0x80 if dnssec_ok else 0, 0, 0, 0)): opt_record(Edns(0, 0, dnssec_ok, ()), NOERROR)
        for dnssec_ok in (False, True)
    }


_USUAL_HEADERS = _usual_headers()
_BARE_OPTS = _bare_opts()
_IN = b"\0\1"


def fast_answer(query: bytes, transaction: Transaction) -> bytes | None:
    """Give the UDP reply to a usual query for an RRset that exists as asked, or None: take the complete path."""
    usual = _USUAL_HEADERS.get(query[2:12])
    if usual is None:
        return None
    end = query.find(0, QUESTION_OFFSET) + 1
    if not end or query[end + 2 : end + 4] != _IN:
        return None
    opt = query[end + 4 :]
    if usual[1]:
        tail = _BARE_OPTS.get(opt[5:])
        if tail is None or opt[:3] != b"\0\0\x29":
            return None
        limit = min(max(opt[3] << 8 | opt[4], UDP_MINIMUM), UDP_MAXIMUM)
        additional = b"\0\0\0\1"
    elif opt:
        return None
    else:
        tail, limit, additional = b"", UDP_MINIMUM, b"\0\0\0\0"
    stored = transaction.get(query[QUESTION_OFFSET:end].lower() + query[end : end + 2])
    if stored is None:
        return None
    if end + 2 + len(stored) + len(tail) > limit:
        return None
    return b"".join((query[:2], usual[0], stored[:2], additional, query[12 : end + 4], stored[2:], tail))
