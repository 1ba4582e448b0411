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
    owners: dict[bytes, list[Record]] = {}
    for record in response.answers:
        if record.rclass == IN:
            owners.setdefault(record.owner.lower(), []).append(record)
    kept: list[Record] = []
    current, seen, final, tail = name, {name}, False, b""
    while True:
        here = owners.get(current, ())
        found = [record for record in here if qtype in (record.rtype, ANY)]
        if found:
            kept += found
            kept += _signatures(here, qtype, dnssec=dnssec)
            final = True
            break
        alias = next((record for record in here if record.rtype == CNAME), None)
        if alias is None:
            break
        kept += _rename(owners, current, dnssec=dnssec)
        kept.append(alias)
        kept += _signatures(here, CNAME, dnssec=dnssec)
        current = alias.rdata.lower()
        if current in seen or len(seen) > MAX_CHAIN:
            return Rejected(SERVFAIL, "CNAMEs without end")
        seen.add(current)
        if is_ours(current):
            tail = current
            break
    if final and response.rcode == NXDOMAIN:
        return Rejected(SERVFAIL, "denies the name that it answers")
    answer = [_limit(record, limits.most) for record in dict.fromkeys(kept)]
    authority = [] if tail else list(_authority(response, current, final=final, dnssec=dnssec, limits=limits))
    negative = not (final or tail)
    ttl = min((record.ttl for record in (*answer, *authority)), default=0)
    if negative and not any(record.rtype == SOA for record in authority):
        ttl = 0  # RFC 2308 §5: a denial without SOA is not kept
    body, places = _encode((*answer, *authority), name)
    rcode = NOERROR if tail else response.rcode
    return Checked(rcode, len(answer), len(authority), body, places, ttl, tail, negative)


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
    return record._replace(ttl=min(_sane(record.ttl), most))


def _encode(records: Iterable[Record], name: bytes) -> tuple[bytes, tuple[tuple[int, int], ...]]:
    """Give *records* as they stand behind the question for *name*, and where their TTLs are.

    Compressed against the question, whose length every spelling of the name shares: the octets are right under any
    id and any case.
    """
    start = QUESTION_OFFSET + len(name) + 4
    known = {name[at:]: QUESTION_OFFSET + at for at in _label_starts(name)}
    body = bytearray()
    places = []

    def add_name(wire: bytes) -> None:
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
        body += struct.pack("!HHI", rtype, rclass, ttl)
        places.append((len(body) - 4, ttl))
        length_at = len(body)
        body += b"\0\0"
        if rtype in COMPRESSIBLE:
            skip, names = NAMES_IN_RDATA[rtype]
            body += rdata[:skip]
            at = skip
            for _ in range(names):
                end = _end(rdata, at)
                add_name(rdata[at:end])
                at = end
            body += rdata[at:]
        else:
            body += rdata
        body[length_at : length_at + 2] = (len(body) - length_at - 2).to_bytes(2, "big")
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
