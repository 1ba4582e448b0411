"""Names that mean something on this machine or network only, answered here and never asked of others. Pure.

RFC 6761 §6.3-6.4, RFC 7686 §2, RFC 9476 §2, RFC 8375 §4, RFC 9462 §6.4, RFC 6303 §4, RFC 7793. Not ``local.`` (clusters
name their services in it) and not ``test.``: these are the operator's.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from meshdns.wire.name import parents, to_wire
from meshdns.wire.reply import NOERROR, NXDOMAIN
from meshdns.wire.rrset import AAAA, ANY, PTR, QUESTION_OFFSET, SOA, A, rrset, soa_record

TTL = 300
"""Seconds that such an answer may be kept."""

_TIMERS = (3600, 600, 86400, TTL)

LOCALHOST = to_wire("localhost")
_DESIGNATION = to_wire("resolver.arpa")

NAMES = ("invalid", "onion", "alt", "home.arpa")

REVERSE = (
    "0.in-addr.arpa", "10.in-addr.arpa", *(f"{n}.172.in-addr.arpa" for n in range(16, 32)), "168.192.in-addr.arpa",
    *(f"{n}.100.in-addr.arpa" for n in range(64, 128)), "127.in-addr.arpa", "254.169.in-addr.arpa",
    "2.0.192.in-addr.arpa", "100.51.198.in-addr.arpa", "113.0.203.in-addr.arpa", "255.255.255.255.in-addr.arpa",
    "0." * 32 + "ip6.arpa", "1." + "0." * 31 + "ip6.arpa", "d.f.ip6.arpa", "8.e.f.ip6.arpa", "9.e.f.ip6.arpa",
    "a.e.f.ip6.arpa", "b.e.f.ip6.arpa", "8.b.d.0.1.0.0.2.ip6.arpa",
)  # fmt: skip
"""Reverse zones of addresses that nobody outside can know (RFC 6303 §4, RFC 7793)."""

ZONES = frozenset((LOCALHOST, _DESIGNATION, *map(to_wire, NAMES), *map(to_wire, REVERSE)))

_TOPS = tuple({([*parents(zone)] or [zone])[-1] for zone in ZONES})
"""The names just below the root that these zones are in."""

_LOOPBACKS = {to_wire("1.0.0.127.in-addr.arpa"), to_wire("1." + "0." * 31 + "ip6.arpa")}
_DATA = {A: b"\x7f\0\0\1", AAAA: b"\0" * 15 + b"\1"}


class Special(NamedTuple):
    """What is answered here: rcode, and either records (count and RRs that point at the question) or an SOA."""

    rcode: int
    rrset: bytes = b""
    soa: bytes = b""


class SpecialNames:
    """The special zones, except where the operator has somebody for exactly that: *forwarded* zones in wire form."""

    def __init__(self, forwarded: Iterable[bytes] = ()) -> None:
        self._forwarded = frozenset(zone for zone in forwarded if zone != b"\0")

    def answer(self, name: bytes, qtype: int) -> Special | None:
        """Give the answer to the question for *name* (lower-case wire form), None when it is for others to answer."""
        if not name.endswith(_TOPS):  # as nearly every name
            return None
        for zone in _with_parents(name):
            if zone in self._forwarded:
                return None
            if zone in ZONES:
                return _answer(name, zone, qtype)
        return None


def _with_parents(name: bytes) -> Iterator[bytes]:
    if len(name) > 1:
        yield name
        yield from parents(name)


def _answer(name: bytes, zone: bytes, qtype: int) -> Special:
    at = QUESTION_OFFSET + len(name) - len(zone)
    soa = soa_record(at, 1, ttl=TTL, timers=_TIMERS)
    if zone == LOCALHOST:
        if qtype in _DATA:
            return Special(NOERROR, rrset(qtype, TTL, [_DATA[qtype]]))
        if qtype == ANY:
            return Special(NOERROR, rrset(A, TTL, [_DATA[A]]))
    if name in _LOOPBACKS and qtype in (PTR, ANY):
        return Special(NOERROR, rrset(PTR, TTL, [LOCALHOST]))
    if name == zone and qtype == SOA:
        return Special(NOERROR, b"\0\1" + soa)
    exists = name == zone or zone in (LOCALHOST, _DESIGNATION) or any(each.endswith(name) for each in _LOOPBACKS)
    return Special(NOERROR if exists else NXDOMAIN, soa=soa)
