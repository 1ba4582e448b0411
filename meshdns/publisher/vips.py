"""Which entry has which virtual IP: a rule over values, time as an argument.

Kuma's way (``pkg/dns/vips_allocator.go``): entries sorted by type and name, each new one takes the lowest free address
beginning with that of the network itself, and keeps it. Unlike Kuma's, a freed address rests before another entry
gets it: a client that remembers it would otherwise reach the wrong service.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from meshdns.inventory.record import IPAddress

_BROADCAST = int(IPv4Address("255.255.255.255"))


class Kind(IntEnum):
    """What an entry is named after; the number is Kuma's, and its order is precedence (later wins a name)."""

    SERVICE = 0
    HOST = 1
    FQDN = 2


class EntryKey(NamedTuple):
    """What has a VIP: a service, the host of an ExternalService, or a name made by a VirtualOutbound."""

    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{int(self.kind)}:{self.name}"


class Lease(NamedTuple):
    """An entry's address. freed: unix seconds at which the entry went, None while it is there."""

    address: IPAddress
    freed: float | None = None


Leases: TypeAlias = Mapping[EntryKey, Lease]


@dataclass(frozen=True, slots=True)
class Allocation:
    """leases: everything to be kept, resting ones too. exhausted: entries for which there was no address.

    next_free: unix seconds at which the first resting address can be had again, None without resting ones.
    """

    leases: Leases
    exhausted: tuple[EntryKey, ...] = ()
    next_free: float | None = None

    @property
    def addresses(self) -> dict[EntryKey, IPAddress]:
        """The addresses of the entries that are there."""
        return {key: lease.address for key, lease in self.leases.items() if lease.freed is None}


def allocate(
    leases: Leases,
    wanted: Iterable[EntryKey],
    network: IPv4Network | IPv6Network,
    *,
    now: float,
    quarantine: float,
    reserved: Iterable[IPAddress] = (),
) -> Allocation:
    """Give each of *wanted* an address: the one it has, else the lowest free one of *network*.

    leases: as kept until now; addresses outside *network* (it was another then) stay. now: unix seconds.
    quarantine: seconds that a freed address rests, 0 for none; the entry that had it gets it back at any time in
    between. reserved: addresses that nothing may be given (those of external hosts).
    """
    entries = sorted(set(wanted))
    there = set(entries)
    kept: dict[EntryKey, Lease] = {}
    for key, lease in leases.items():
        if key in there:
            kept[key] = Lease(lease.address)
            continue
        # a moment in the future means that the clock was set back: it rests from now
        freed = now if lease.freed is None else min(lease.freed, now)
        if quarantine > 0 and now - freed < quarantine:
            kept[key] = Lease(lease.address, freed)
    used = {int(lease.address) for lease in kept.values() if lease.address.version == network.version}
    used.update(int(address) for address in reserved if address.version == network.version)
    number, last = int(network.network_address), int(network.broadcast_address)
    if network.version == 4:
        last = min(last, _BROADCAST - 1)
    make = IPv4Address if network.version == 4 else IPv6Address
    exhausted = []
    for key in entries:
        if key in kept:
            continue
        while number in used:
            number += 1
        if number > last:
            exhausted.append(key)
            continue
        kept[key] = Lease(make(number))
        number += 1
    resting = [lease.freed for lease in kept.values() if lease.freed is not None]
    ordered = {key: kept[key] for key in sorted(kept)}
    return Allocation(MappingProxyType(ordered), tuple(exhausted), min(resting) + quarantine if resting else None)
