"""What of a response is used: the records on the chain from the question's name, and nothing else. Pure.

RFC 5452 §6 and RFC 2181 §5.4.1: data for other names, wherever in the response, is neither passed on nor kept. A name
of ours ends the chain: what others say about it is not looked at; the caller continues with what we say.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from meshdns.wire.name import parents
from meshdns.wire.reply import NOERROR, NXDOMAIN, SERVFAIL
from meshdns.wire.response import COMPRESSIBLE, NAMES_IN_RDATA, Record, Response
from meshdns.wire.rrset import ANY, AT_QUESTION, CNAME, IN, QUESTION_OFFSET, SOA

MAX_CHAIN = 16
"""CNAMEs followed for one question."""

_DNAME, _RRSIG, _NSEC, _NSEC3 = 39, 46, 47, 50
_PROOFS = (_RRSIG, _NSEC, _NSEC3)
_POINTABLE = 0x4000
_FIXED = struct.Struct("!HHIH")

IsOurs = Callable[[bytes], bool]
"""Whether a name (lower-case wire form) is ours, so that others are not believed about it."""


class Checked(NamedTuple):
    """A usable answer, encoded behind a question of the length of its own.

    rcode: NOERROR or NXDOMAIN. answers, authorities: counts. body: the records. places: where in body each TTL
    stands, and its value. ttl: seconds that all of it may be kept, 0 for not at all. tail: the name of ours at which
    the chain ends, empty if it does not. negative: it denies.
    """

    rcode: int
    answers: int
    authorities: int
    body: bytes
    places: tuple[tuple[int, int], ...]
    ttl: int
    tail: bytes
    negative: bool


class Rejected(NamedTuple):
    """A response that gives no answer: the rcode to be told if nobody does better, and why."""

    rcode: int
    reason: str


class TtlLimits(NamedTuple):
    """Seconds that answers and denials are kept at most."""

    most: int
    negative: int


def check(
    response: Response, name: bytes, qtype: int, *, dnssec: bool, is_ours: IsOurs, limits: TtlLimits
) -> Checked | Rejected:
    """Give what of *response* answers the question for *name* (lower-case wire form) and *qtype*.

    dnssec: the client set DO, and so gets signatures and proofs (RFC 4035 §3.2.1).
    """
    if response.rcode not in (NOERROR, NXDOMAIN):
        told = response.rcode if response.rcode in _PASSED else SERVFAIL
        return Rejected(told, f"rcode {response.rcode}")
    kept, tail, final = _plain(response, name, qtype), b"", True
    current = name
    if not kept:
        chain = _follow(response, name, qtype, dnssec=dnssec, is_ours=is_ours)
        if chain is None:
            return Rejected(SERVFAIL, "CNAMEs without end")
        kept, current, final, tail = chain
    if final and response.rcode == NXDOMAIN:
        return Rejected(SERVFAIL, "denies the name that it answers")
    records = [_limit(record, limits.most) for record in dict.fromkeys(kept)]
    answers = len(records)
    if not tail and not (final and not dnssec):
        records += _authority(response, current, final=final, dnssec=dnssec, limits=limits)
    negative = not (final or tail)
    ttl = min([record.ttl for record in records], default=0)
    if negative and not any(record.rtype == SOA for record in records[answers:]):
        ttl = 0  # RFC 2308 §5: a denial without SOA is not kept
    body, places = _encode(records, name)
    rcode = NOERROR if tail else response.rcode
    return Checked(rcode, answers, len(records) - answers, body, places, ttl, tail, negative)


def _plain(response: Response, name: bytes, qtype: int) -> list[Record]:
    """Give the answer section if it is nothing but what was asked for, as it is nearly always; else nothing."""
    for owner, rtype, rclass, _, _ in response.answers:
        if rtype != qtype or rclass != IN or owner.lower() != name:
            return []
    return response.answers


class _Chain(NamedTuple):
    """The records on the way from the question's name. end: the last name. final: it has what was asked for.

    tail: the name of ours at which it ends, empty if it does not.
    """

    records: list[Record]
    end: bytes
    final: bool
    tail: bytes


def _follow(response: Response, name: bytes, qtype: int, *, dnssec: bool, is_ours: IsOurs) -> _Chain | None:
    """Follow CNAMEs from *name*; None for a chain without end."""
    owners: dict[bytes, list[Record]] = {}
    for record in response.answers:
        if record.rclass == IN:
            owners.setdefault(record.owner.lower(), []).append(record)
    kept: list[Record] = []
    current, seen = name, {name}
    while True:
        here = owners.get(current, ())
        found = [record for record in here if qtype in (record.rtype, ANY)]
        if found:
            kept += found
            kept += _signatures(here, qtype, dnssec=dnssec)
            return _Chain(kept, current, True, b"")
        alias = next((record for record in here if record.rtype == CNAME), None)
        if alias is None:
            return _Chain(kept, current, False, b"")
        kept += _rename(owners, current, dnssec=dnssec)
        kept.append(alias)
        kept += _signatures(here, CNAME, dnssec=dnssec)
        current = alias.rdata.lower()
        if current in seen or len(seen) > MAX_CHAIN:
            return None
        seen.add(current)
        if is_ours(current):
            return _Chain(kept, current, False, current)


_PASSED = (SERVFAIL, 4, 5)
"""Error rcodes that say the same to a client as to us; any other speaks of our own query."""


def _signatures(records: Iterable[Record], covered: int, *, dnssec: bool) -> list[Record]:
    """Give the signatures of the RRset of type *covered*."""
    if not dnssec or covered in (ANY, _RRSIG):
        return []
    wanted = covered.to_bytes(2, "big")
    return [record for record in records if record.rtype == _RRSIG and record.rdata[:2] == wanted]


def _rename(owners: dict[bytes, list[Record]], name: bytes, *, dnssec: bool) -> Iterator[Record]:
    """Give the DNAME that *name*'s CNAME was made from (RFC 6672 §3.3), if it is there."""
    for parent in parents(name):
        here = owners.get(parent, ())
        for record in here:
            if record.rtype == _DNAME:
                yield record
                yield from _signatures(here, _DNAME, dnssec=dnssec)
                return


def _authority(response: Response, name: bytes, *, final: bool, dnssec: bool, limits: TtlLimits) -> Iterator[Record]:
    """Give the SOA of a denial with the TTL that the denial has (RFC 2308 §5), and proofs for who validates."""
    records = [record for record in response.authority if record.rclass == IN]
    negative = limits.most
    if not final:
        soa = next((each for each in records if each.rtype == SOA and _is_at_or_under(name, each.owner.lower())), None)
        if soa is None:
            return
        minimum = int.from_bytes(soa.rdata[-4:], "big")
        negative = min(_sane(soa.ttl), _sane(minimum), limits.negative)
        yield soa._replace(ttl=negative)
    if dnssec:
        for record in dict.fromkeys(records):
            if record.rtype in _PROOFS:
                yield record._replace(ttl=min(_sane(record.ttl), negative))


def _is_at_or_under(name: bytes, zone: bytes) -> bool:
    return zone in (name, b"\0") or any(parent == zone for parent in parents(name))


def _sane(ttl: int) -> int:
    """Give *ttl*, 0 for one with its top bit set (RFC 2181 §8)."""
    return 0 if ttl >= 1 << 31 else ttl


def _limit(record: Record, most: int) -> Record:
    return record if record.ttl <= most else record._replace(ttl=min(_sane(record.ttl), most))


def _encode(records: Iterable[Record], name: bytes) -> tuple[bytes, tuple[tuple[int, int], ...]]:
    """Give *records* as they stand behind the question for *name*, and where their TTLs are.

    Compressed against the question, whose length every spelling of the name shares: the octets are right under any
    id and any case.
    """
    start = QUESTION_OFFSET + len(name) + 4
    known: dict[bytes, int] = {}
    body = bytearray()
    places = []

    def add_name(wire: bytes) -> None:
        if not known:
            known.update((name[at:], QUESTION_OFFSET + at) for at in _label_starts(name))
        folded = wire.lower()
        for at in _label_starts(wire):
            place = known.get(folded[at:])
            if place is not None:
                body.extend((0xC000 | place).to_bytes(2, "big"))
                return
            here = start + len(body)
            if here < _POINTABLE:
                known[folded[at:]] = here
            body.extend(wire[at : at + 1 + wire[at]])
        body.append(0)

    for owner, rtype, rclass, ttl, rdata in records:
        if owner.lower() == name and len(name) > 1:
            body += AT_QUESTION
        else:
            add_name(owner)
        body += _FIXED.pack(rtype, rclass, ttl, len(rdata))
        length_at = len(body) - 2
        places.append((length_at - 4, ttl))
        if rtype in COMPRESSIBLE:
            skip, names = NAMES_IN_RDATA[rtype]
            body += rdata[:skip]
            at = skip
            for _ in range(names):
                end = _end(rdata, at)
                add_name(rdata[at:end])
                at = end
            body += rdata[at:]
            body[length_at : length_at + 2] = (len(body) - length_at - 2).to_bytes(2, "big")
        else:
            body += rdata
    return bytes(body), tuple(places)


def _label_starts(wire: bytes) -> Iterator[int]:
    """Give where each label of *wire* begins, the root left out."""
    at = 0
    while wire[at]:
        yield at
        at += 1 + wire[at]


def _end(octets: bytes, at: int) -> int:
    while octets[at]:
        at += 1 + octets[at]
    return at + 1
