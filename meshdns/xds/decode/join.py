"""Names and listeners, decoded apart, joined: the table, with the ports and the service of every name."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from meshdns.inventory.body import (
    MAPPED,
    NOTHING_LISTENS,
    Bodies,
    addresses_in,
    bodies_of,
    compared,
    encode_tail,
    unpacked,
)
from meshdns.inventory.dns_document import Document
from meshdns.inventory.kri import parse_kri
from meshdns.inventory.name import dotted, zone_of
from meshdns.inventory.record import IPAddress, NameRecord, Origin, Port, Table
from meshdns.xds.decode.kuma import Outbound, Piece

_SERVICE_PORT = re.compile(r"_svc_([0-9]{1,5})\Z")
_SHOWN = 5
_V4 = 8
"""Digits of an IPv4 address in a body."""
_ENDS = b'" '
"""What stands behind an address in a body."""


@dataclass(frozen=True, slots=True)
class Joined:
    """A table and what an operator should know of it; skipped and notices as in a Document."""

    table: Table
    skipped: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


def has_table(pieces: Iterable[Piece]) -> bool:
    """Tell whether any of *pieces* carries a table of names."""
    return any(piece.table is not None for piece in pieces)


def join(
    pieces: Mapping[str, Piece],
    *,
    zones: Sequence[str],
    service_vip_port: int = 80,
    previous: Table | None = None,
) -> Joined:
    """Make the table of *pieces* (by listener name).

    zones: of the instance, which tell a service's own names from an ExternalService's host. service_vip_port: the
    port that stands for whatever port a legacy service has. previous: the last table, to notice names that moved.
    """
    ordered = [pieces[name] for name in sorted(pieces)]  # SotW sends listeners in random order
    document = _document(ordered)
    skipped = [*document.skipped, *(line for piece in ordered for line in piece.skipped)]
    notices = [*document.notices]

    by_place: dict[tuple[IPAddress, int], Outbound] = {}
    for piece in ordered:
        if piece.outbound is not None:
            for place in piece.outbound.places:
                by_place.setdefault(place, piece.outbound)
    bodies = bodies_of(document.records)
    if by_place:
        by_vip: dict[bytes, list[tuple[int, Outbound]]] = defaultdict(list)
        for (address, number), outbound in sorted(by_place.items(), key=lambda item: item[0][1]):
            by_vip[_plain(address.packed.hex().encode())].append((number, outbound))
        names_of: dict[bytes, list[str]] = {}
        vips_of: dict[str, tuple[bytes, ...]] = {}
        for name, body in bodies.items():
            vips = vips_of[name] = _vips(addresses_in(body))
            for vip in vips:
                names_of.setdefault(vip, []).append(name)
        notices.extend(_without_listener(names_of, by_vip, document))
        ports_of = {vip: _ports(by_vip.get(vip, ()), names, zones, service_vip_port) for vip, names in names_of.items()}
        bodies = _with_ports(bodies, vips_of, ports_of, zones)
    known = document.records
    if isinstance(known, Bodies):
        records = known if bodies is known.octets else Bodies(bodies, known.origin)
    else:
        records = Bodies(bodies, next((each.origin for each in known.values()), Origin("")))
    if previous is not None:
        notices.extend(_moved(records, previous.records))
    listeners = {place: outbound.service for place, outbound in by_place.items()}
    return Joined(Table(records, listeners, lenient=True), tuple(skipped), tuple(notices))


def _with_ports(
    bodies: Mapping[str, bytes],
    vips_of: Mapping[str, tuple[bytes, ...]],
    ports_of: Mapping[bytes, tuple[Port, ...]],
    zones: Sequence[str],
) -> dict[str, bytes]:
    """Give *bodies*, which say nothing of ports and services yet, with those of the listeners at their addresses."""
    tails: dict[bytes, bytes] = {}
    joined: dict[str, bytes] = {}
    for name, body in bodies.items():
        vips = vips_of[name]
        ports = ports_of[vips[0]]
        alike = len(vips) == 1 and len(ports) <= 1  # then every name there has the same service
        tail = tails.get(vips[0]) if alike else None
        if tail is None:
            if len(vips) > 1:
                merged: dict[int, Port] = {}
                for vip in vips:
                    for port in ports_of[vip]:
                        merged.setdefault(port.number, port)
                ports = tuple(sorted(merged.values(), key=lambda port: port.number))
            tail = encode_tail(ports, _service(name, ports, zones)).encode("ascii")
            if alike:
                tails[vips[0]] = tail
        joined[name] = body[: -len(NOTHING_LISTENS)] + tail
    return joined


def _document(pieces: Sequence[Piece]) -> Document:
    """Give the one table of names: the ``/dns`` document wins over a ``dns_filter``."""
    tables = [piece.table for piece in pieces if piece.table is not None]
    for table in tables:
        if table.encoding == "dynconf":
            return table.document
    return tables[0].document if tables else Document({})


def _ports(
    outbounds: Sequence[tuple[int, Outbound]], names: Sequence[str], zones: Sequence[str], service_vip_port: int
) -> tuple[Port, ...]:
    return tuple(
        Port(
            number,
            outbound.service,
            number == service_vip_port and _is_placeholder(number, outbound, outbounds, names, zones),
        )
        for number, outbound in outbounds
    )


def _is_placeholder(
    number: int,
    outbound: Outbound,
    outbounds: Sequence[tuple[int, Outbound]],
    names: Sequence[str],
    zones: Sequence[str],
) -> bool:
    """Tell whether *number*, the port that every legacy VIP has, stands for another port of the service.

    Never for VirtualOutbounds, crossMesh gateways (their names are not the service's own, their tags more than
    one) and KRI listeners.
    """
    if not outbound.tagged:
        return False
    own_names = _own_names(outbound.service, zones)
    if own_names.isdisjoint(names):
        # the VIP of an ExternalService's host: its real ports, and this one unless it is one of them
        host = any(zone_of(name, zones) is None for name in names)
        return host and any(other != number and more.service == outbound.service for other, more in outbounds)
    match = _SERVICE_PORT.search(outbound.service)
    return match is None or int(match[1]) != number


def _own_names(service: str, zones: Sequence[str]) -> set[str]:
    """Give both spellings of a ``kuma.io/service`` as a name, in every zone."""
    names: set[str] = set()
    for zone in zones:
        name = f"{service}.{zone}".lower()
        names.update((name, dotted(name, zone)))
    return names


def _service(name: str, ports: Sequence[Port], zones: Sequence[str]) -> str | None:
    """Give the service of *name*: the one that it spells, else that of the lowest port."""
    if not ports:
        return None
    target = ports[0].target
    if len(ports) > 1:
        for port in ports:
            if port.target != target and name in _own_names(port.target, zones):
                target = port.target
                break
    kri = parse_kri(target)
    return str(kri.resource) if kri is not None else target


def _without_listener(
    names_of: Mapping[bytes, Sequence[str]],
    by_vip: Mapping[bytes, object],
    document: Document,
) -> Iterable[str]:
    for vip, keys in names_of.items():
        if vip not in by_vip:
            names = [document.records[key].name for key in keys[:_SHOWN]]
            more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
            yield f"no listener at {_shown(vip)}, the address of {', '.join(names)}{more}: no port accepts there"


def _moved(records: Bodies, before: Mapping[str, NameRecord]) -> Iterable[str]:
    """Name what went from one pool of VIPs to another: a name that two resources claim changes its ports too."""
    for key, old, body in compared(bodies_of(before), records.octets):
        if old is None:
            continue
        at = len(key) + 5  # where addresses begin: nearly all stay in one /8 of IPv4
        if old[at : at + 2] == body[at : at + 2] and old[at + _V4] in _ENDS and body[at + _V4] in _ENDS:
            continue
        was, now = addresses_in(old), addresses_in(body)
        if was == now or _pool(was) == _pool(now):
            continue
        earlier, later = before[key], records[key]
        yield (
            f"name {later.name!r} moved from {earlier.addresses[0]} (ports {_numbers(earlier)}, "
            f"{earlier.service or 'no service'}) to {later.addresses[0]} (ports {_numbers(later)}, "
            f"{later.service or 'no service'}), another pool of addresses"
        )


def _pool(addresses: bytes) -> bytes:
    """Give the pool of the first VIP: Kuma's kinds of services allocate from a /8 (IPv4) or a /64 (IPv6) each."""
    plain = _plain(addresses.partition(b" ")[0])
    return plain[:2] if len(plain) == _V4 else plain[:16]


def _numbers(record: NameRecord) -> str:
    return ", ".join(str(port.number) for port in record.ports) or "none"


def _vips(addresses: bytes) -> tuple[bytes, ...]:
    """Give the addresses that *addresses* of a body come down to, without duplicates."""
    if len(addresses) == _V4:
        return (addresses,)
    return tuple(dict.fromkeys(map(_plain, addresses.split())))


def _plain(address: bytes) -> bytes:
    """Give the IPv4 address inside an IPv4-mapped one: the kernel maps it, so its listener is that of IPv4."""
    return address.removeprefix(MAPPED) if len(address) > _V4 else address


def _shown(address: bytes) -> IPAddress:
    return unpacked(bytes.fromhex(address.decode()))
