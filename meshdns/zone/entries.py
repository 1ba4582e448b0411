"""Records compiled to the entries of the ``zone`` database, which is all that a lookup reads.

Two kinds of entry:

* *RRset*: owner name in lower-case wire form + type (two octets) → count and records that point at the question's
  name. A wire name delimits itself, so an RRset's key never equals a mark's.
* *mark*: a key alone → how many records need it (four octets). An owner name has a mark, and so has every name
  between it and its zone (empty non-terminals, RFC 4592 §2.2.2): NOERROR, NODATA and NXDOMAIN differ by it. When
  the last record that needs a mark goes, the mark goes.

Keys that are no names begin with an octet that no label length can be (≥ 0x40).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network

from meshdns.inventory.name import dotted, is_mapped, reverse_name, reverse_zones, zone_of
from meshdns.inventory.record import IPAddress, NameRecord
from meshdns.wire.name import parents, to_wire
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

FORMAT = 1
"""To be raised when what ``compile_record`` gives for the same record changes: stores are then compiled anew."""


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
    def reverse_zones(self) -> tuple[str, ...]:
        """Every reverse zone that is ours, as text."""
        return tuple(zone for network in self.reverse for zone in reverse_zones(network))

    def digest(self) -> bytes:
        """Give octets that differ when the same records would compile to other entries."""
        return repr((FORMAT, sorted(self.zones), sorted(map(str, self.reverse)), self.mapped_v6, self.srv)).encode()


@dataclass(frozen=True, slots=True)
class Entries:
    """What one record (or one address) contributes: RRsets to put, and the marks that it needs."""

    rrsets: dict[bytes, bytes]
    owners: tuple[bytes, ...]


def rrset_key(owner: bytes, rtype: int) -> bytes:
    """Give the key of an RRset; *owner* in lower-case wire form."""
    return owner + rtype.to_bytes(2, "big")


def twin(name: str, rules: Rules) -> str | None:
    """Give the dotted spelling of *name* (lower case) if it has an underscore left of its zone, else None."""
    if "_" not in name:
        return None
    zone = zone_of(name, rules.zones)
    if zone is None:
        return None
    other = dotted(name, zone)
    return other if other != name and ".." not in other and not other.startswith(".") else None


def compile_record(record: NameRecord, rules: Rules, *, lenient: bool) -> Entries:
    """Give the entries of *record*.

    lenient: whether its other spelling is served from the same VIP, so that every mixture is an alias of it.
    A record outside our zones is known by its own name alone: no name above it is affected.
    """
    name = record.name.lower()
    owner = to_wire(name)
    rrsets: dict[bytes, bytes] = {}
    v4 = [address.packed for address in record.addresses if address.version == 4]
    v6 = [
        address.packed
        for address in record.addresses
        if address.version == 6 and (rules.mapped_v6 or not is_mapped(address))
    ]
    if v4:
        rrsets[rrset_key(owner, A)] = rrset(A, record.ttl, v4)
    if v6:
        rrsets[rrset_key(owner, AAAA)] = rrset(AAAA, record.ttl, v6)
    if rules.srv and record.ports:
        ports = [srv_rdata(port.number, owner) for port in record.ports]
        rrsets[rrset_key(owner, SRV)] = rrset(SRV, record.ttl, ports)
    owners = [owner]
    zone = zone_of(name, rules.zones)
    if zone is not None and name != zone:
        apex = to_wire(zone)
        owners += _between(owner, apex)
        if lenient:
            every_dot = to_wire(dotted(name, zone))
            owners += [LENIENT + spelled for spelled in (every_dot, *_between(every_dot, apex))]
    if name.startswith("*."):
        owners.append(WILDCARDS)
    return Entries(rrsets, tuple(owners))


def compile_pointers(address: IPAddress, names: Sequence[str], rules: Rules) -> Entries | None:
    """Give the PTR entries of *address* for the *names* that resolve to it, or None if it gets none.

    IPv4-mapped addresses get none; neither do wildcards.
    """
    targets = sorted({name.lower() for name in names if not name.startswith("*")})[:MAX_POINTERS]
    if is_mapped(address) or not targets:
        return None
    name = reverse_name(address)
    owner = to_wire(name)
    owners = [owner]
    zone = zone_of(name, rules.reverse_zones)
    if zone is not None and name != zone:
        owners += _between(owner, to_wire(zone))
    return Entries({rrset_key(owner, PTR): rrset(PTR, PTR_TTL, [to_wire(target) for target in targets])}, tuple(owners))


def _between(owner: bytes, apex: bytes) -> list[bytes]:
    """Give the names above *owner* and below *apex*: the apex needs no mark, it always exists."""
    limit = len(apex)
    return [name for name in parents(owner) if len(name) > limit]
