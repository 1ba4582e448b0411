"""Records compiled to the entries of the ``zone`` database, which is all that a lookup reads.

Two kinds of entry:

* *RRset*: owner name in lower-case wire form + type (two octets) → count and records that point at the question's
  name. A wire name delimits itself, so an RRset's key never equals a mark's.
* *mark*: a key alone → how many records need it (four octets). A name exists when it has a mark or an RRset of type A
  or PTR, which nearly every owner has: only others need a mark of their own, and every name between an owner and its
  zone (empty non-terminals, RFC 4592 §2.2.2). NOERROR, NODATA and NXDOMAIN differ by it. When the last record that
  needs a mark goes, the mark goes.

Keys that are no names begin with an octet that no label length can be (≥ 0x40).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from ipaddress import IPv4Network, IPv6Network

from meshdns.inventory.name import dotted, is_mapped, reverse_zones, zone_of
from meshdns.inventory.record import IPAddress, NameRecord
from meshdns.wire.name import to_wire
from meshdns.wire.rrset import AAAA, PTR, SRV, A, rrset, srv_rdata

LENIENT = b"\xff"
"""Prefix of the marks of lenient spelling; behind it the name with a dot for each underscore left of its zone."""

WILDCARDS = b"\xfe*"
"""Mark: how many wildcard records there are; without it a lookup need not search for one."""

DELIVERED_KEY = b"\xfdsources"
"""The configured sources that have delivered at least once: UTF-8, sorted, joined by line feeds."""

MAX_POINTERS = 32
"""PTR records of one address: a VIP has a handful of names, and resolvers take one of them."""

PTR_TTL = 30
"""Seconds; as short as the names' own default, for the same reason: a VIP moves."""

MAX_SRV = 100
"""SRV records of one name: a 64 KiB message holds them all with targets of any length."""

FORMAT = 3
"""To be raised when the same records lead to other entries: stores are then compiled anew when they are opened."""

_A, _AAAA, _PTR = (rtype.to_bytes(2, "big") for rtype in (A, AAAA, PTR))
_OCTETS = [bytes((len(str(octet)),)) + str(octet).encode() for octet in range(256)]
_NIBBLES = [b"\x01%x\x01%x" % (octet & 15, octet >> 4) for octet in range(256)]
_IN_ADDR_ARPA, _IP6_ARPA = to_wire("in-addr.arpa"), to_wire("ip6.arpa")


@dataclass(frozen=True)
class Rules:
    """How records become entries: our zones, the networks whose reverse zones are ours, and what to leave out.

    zones: lower case, no final dot. mapped_v6: whether ``::ffff:a.b.c.d`` addresses are served as AAAA.
    srv: whether a name's ports are served as SRV records.
    """

    zones: tuple[str, ...]
    reverse: tuple[IPv4Network | IPv6Network, ...] = ()
    mapped_v6: bool = True
    srv: bool = False

    @cached_property
    def suffixes(self) -> tuple[str, ...]:
        """How names under each zone end, the longest first."""
        return tuple(sorted(("." + zone for zone in self.zones), key=len, reverse=True))

    @cached_property
    def reverse_zones(self) -> tuple[str, ...]:
        """Every reverse zone that is ours, as text."""
        return tuple(zone for network in self.reverse for zone in reverse_zones(network))

    @cached_property
    def apexes(self) -> frozenset[bytes]:
        """The zones in wire form."""
        return frozenset(map(to_wire, self.zones))

    @cached_property
    def reverse_apexes(self) -> frozenset[bytes]:
        """The reverse zones in wire form."""
        return frozenset(map(to_wire, self.reverse_zones))

    def digest(self) -> bytes:
        """Give octets that differ when the same records would compile to other entries."""
        return repr((FORMAT, sorted(self.zones), sorted(map(str, self.reverse)), self.mapped_v6, self.srv)).encode()


@dataclass(frozen=True, slots=True)
class Entries:
    """What one record (or one address) contributes: RRsets to put, and the marks that it needs."""

    rrsets: dict[bytes, bytes]
    marks: tuple[bytes, ...]


def rrset_key(owner: bytes, rtype: int) -> bytes:
    """Give the key of an RRset; *owner* in lower-case wire form."""
    return owner + rtype.to_bytes(2, "big")


def twin(name: str, rules: Rules) -> str | None:
    """Give the dotted spelling of *name* (lower case) if it has an underscore left of its zone, else None."""
    if "_" not in name or name in rules.zones:
        return None
    for suffix in rules.suffixes:
        if name.endswith(suffix):
            left = name[: -len(suffix)]
            other = left.replace("_", ".") + suffix
            return other if other != name and ".." not in other and not other.startswith(".") else None
    return None


def compile_record(record: NameRecord, rules: Rules, *, lenient: bool) -> Entries:
    """Give the entries of *record*.

    lenient: whether its other spelling is served from the same VIP, so that every mixture is an alias of it.
    A record outside our zones is known by its own name alone: no name above it is affected.
    """
    owner = to_wire(record.name)
    rrsets: dict[bytes, bytes] = {}
    v4: list[bytes] = []
    v6: list[bytes] = []
    for address in record.addresses:
        if address.version == 4:
            v4.append(address.packed)
        elif rules.mapped_v6 or not is_mapped(address):
            v6.append(address.packed)
    if v4:
        rrsets[owner + _A] = rrset(A, record.ttl, v4)
    if v6:
        rrsets[owner + _AAAA] = rrset(AAAA, record.ttl, v6)
    if rules.srv and record.ports:
        ports = [srv_rdata(port.number, owner) for port in record.ports[:MAX_SRV]]
        rrsets[rrset_key(owner, SRV)] = rrset(SRV, record.ttl, ports)
    parent = owner[1 + owner[0] :]
    above = to_apex(parent, rules.apexes)
    marks = [] if v4 else [owner]
    marks += above or ()
    if lenient and above is not None:
        name = record.name.lower()
        every_dot = to_wire(dotted(name, zone_of(name, rules.zones) or name))
        marks.append(LENIENT + every_dot)
        marks += [LENIENT + mark for mark in to_apex(every_dot[1 + every_dot[0] :], rules.apexes) or ()]
    if record.name.startswith("*."):
        marks.append(WILDCARDS)
    return Entries(rrsets, tuple(marks))


def compile_pointers(address: IPAddress, names: Sequence[str], rules: Rules) -> Entries | None:
    """Give the PTR entries of *address* for the *names* that resolve to it, or None if it gets none.

    IPv4-mapped addresses get none; neither do wildcards.
    """
    targets = sorted({name.lower() for name in names if not name.startswith("*")})[:MAX_POINTERS]
    if is_mapped(address) or not targets:
        return None
    owner = reverse_owner(address)
    rrsets = {owner + _PTR: rrset(PTR, PTR_TTL, [to_wire(target) for target in targets])}
    return Entries(rrsets, to_apex(owner[1 + owner[0] :], rules.reverse_apexes) or ())


def reverse_owner(address: IPAddress) -> bytes:
    """Give the owner of an address's PTR records in wire form (RFC 1035 §3.5, RFC 3596 §2.5)."""
    if address.version == 4:
        return b"".join([_OCTETS[octet] for octet in reversed(address.packed)]) + _IN_ADDR_ARPA
    return b"".join([_NIBBLES[octet] for octet in reversed(address.packed)]) + _IP6_ARPA


@lru_cache(65_536)
def to_apex(name: bytes, apexes: frozenset[bytes]) -> tuple[bytes, ...] | None:
    """Give *name* and the names above it that lie below the nearest of *apexes*, or None if it is under none.

    The apex itself needs no mark: it always exists. Most names share their parents, so most calls are one look-up.
    """
    if name in apexes:
        return ()
    if not name[0]:
        return None
    above = to_apex(name[1 + name[0] :], apexes)
    return None if above is None else (name, *above)
