"""Resources → entries (what gets a VIP) → names and ports of each VIP; Kuma's rules, no I/O.

An entry's names: a service has two spellings, every underscore a dot in the second; the host of an ExternalService
has its own; a VirtualOutbound makes whatever its template says. Of entries with one name the later in the order
Service < Host < FQDN has it.
"""

from dataclasses import dataclass
from ipaddress import ip_address

from meshdns.inventory.name import dotted
from meshdns.inventory.record import IPAddress
from meshdns.publisher.model import (
    NOWHERE,
    SERVICE_TAG,
    ExternalService,
    Finding,
    MeshResources,
    Place,
    Tags,
    VirtualOutbound,
    tag,
)
from meshdns.publisher.reading_parts import is_address, is_host
from meshdns.publisher.template import MissingValueError
from meshdns.publisher.vips import EntryKey, Kind

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Target:
    """A port of an entry and where it leads. port 0: none of its own. origin: in Kuma's words."""

    port: int
    tags: Tags
    origin: str = "service"


@dataclass(frozen=True, slots=True)
class Entry:
    """What gets a VIP. address: the one it has by itself (an ExternalService that is an IP address)."""

    key: EntryKey
    targets: tuple[Target, ...]
    address: IPAddress | None = None
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class Entries:
    """All entries, sorted; faults: what could not be made, each naming the resource and field."""

    entries: tuple[Entry, ...]
    faults: tuple[Finding, ...] = ()


def entries_of(resources: MeshResources) -> Entries:
    """Give everything in *resources* that gets a VIP."""
    drafts: dict[EntryKey, _Draft] = {}
    faults: list[Finding] = []
    for dataplane in resources.dataplanes:
        for inbound in dataplane.inbounds:
            if inbound.named and inbound.service is not None:
                draft = _draft(drafts, Kind.SERVICE, inbound.service, Place(dataplane.place.file, inbound.line))
                draft.add(Target(0, ((SERVICE_TAG, inbound.service),)))
    claimed: dict[tuple[str, int], ExternalService] = {}
    for external in resources.external_services:
        place = Place(external.place.file, external.address_line)
        _draft(drafts, Kind.SERVICE, external.service, place).add(
            Target(external.port, ((SERVICE_TAG, external.service),))
        )
        if not external.host_entry:
            continue
        first = claimed.setdefault((external.host.lower(), external.port), external)
        if first is not external:
            problem = (
                f"{external.host}:{external.port} is that of ExternalService {first.name!r} "
                f"({_at(first.place)}) already, which keeps it"
            )
            faults.append(_finding(external, "networking.address", external.address_line, problem))
            continue
        target = Target(external.port, ((SERVICE_TAG, external.service),), f"host:{external.service}")
        _draft(drafts, Kind.HOST, external.host, place).add(target)
    _virtual(resources, drafts, faults)
    return Entries(tuple(drafts[key].entry(key) for key in sorted(drafts)), tuple(faults))


def hostnames(key: EntryKey, domain: str) -> tuple[str, ...]:
    """Give the names of an entry, as Kuma pushes them (whether DNS can carry them is not looked at)."""
    if key.kind is not Kind.SERVICE:
        return (key.name,) if is_host(key.name) else ()
    name = f"{key.name}.{domain}"
    return tuple(dict.fromkeys((name, dotted(name, domain))))


def ports(entry: Entry, service_vip_port: int) -> tuple[Target, ...]:
    """Give the ports on which the VIP of *entry* listens, sorted; port numbers are distinct."""
    found = {target.port: target for target in reversed(entry.targets) if target.port}
    has_own_address = entry.key.kind is Kind.HOST and is_address(entry.key.name)
    if entry.key.kind is not Kind.FQDN and not has_own_address and service_vip_port not in found:
        first = entry.targets[0]
        found[service_vip_port] = Target(service_vip_port, first.tags, first.origin)
    return tuple(found[port] for port in sorted(found))


class _Draft:
    """An entry being gathered."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._targets: dict[int, Target] = {}

    def add(self, target: Target) -> Target | None:
        """Add *target*; gives the one that has its port already and leads elsewhere."""
        other = self._targets.setdefault(target.port, target)
        return other if other.tags != target.tags else None

    def entry(self, key: EntryKey) -> Entry:
        address = ip_address(key.name) if key.kind is Kind.HOST and is_address(key.name) else None
        return Entry(key, tuple(self._targets[port] for port in sorted(self._targets)), address, self._place)


def _draft(drafts: dict[EntryKey, _Draft], kind: Kind, name: str, place: Place) -> _Draft:
    return drafts.setdefault(EntryKey(kind, name), _Draft(place))


def _finding(resource: ExternalService | VirtualOutbound, field: str, line: int | None, problem: str) -> Finding:
    kind, _, name = resource.identity
    return Finding(resource.place.file, line, f"{kind} {name!r}", field, problem)


def _at(place: Place) -> str:
    return place.file if place.line is None else f"{place.file}:{place.line}"


def _tag_sets(resources: MeshResources) -> list[Tags]:
    found = {inbound.tags for dataplane in resources.dataplanes for inbound in dataplane.inbounds if inbound.named}
    found.update(external.tags for external in resources.external_services)
    return sorted(found)


def _rank(virtual: VirtualOutbound, tags: dict[str, str]) -> tuple[int, int] | None:
    """Give how closely *virtual* matches *tags*: tags named, and of them named with a value; None: not at all."""
    ranks = []
    for selector in virtual.selectors:
        if all(key in tags and value in ("*", tags[key]) for key, value in selector):
            ranks.append((len(selector), sum(value != "*" for _, value in selector)))
    return max(ranks, default=None)


def _virtual(resources: MeshResources, drafts: dict[EntryKey, _Draft], faults: list[Finding]) -> None:
    """Add what the VirtualOutbounds make; who matches most closely is first, and keeps a host and port."""
    candidates = []
    for tags in _tag_sets(resources):
        values = dict(tags)
        for virtual in resources.virtual_outbounds:
            rank = _rank(virtual, values)
            if rank is not None:
                candidates.append((rank, virtual.created, virtual, tags))
    # the youngest of equals first; where no age is known, by name
    candidates.sort(key=lambda each: (each[2].name, each[3]))
    candidates.sort(key=lambda each: each[1], reverse=True)
    candidates.sort(key=lambda each: each[0], reverse=True)
    makers: dict[tuple[str, int], VirtualOutbound] = {}
    missing: dict[tuple[str, str, str], tuple[VirtualOutbound, int | None, list[str]]] = {}
    for _, _, virtual, tags in candidates:
        made = _make(virtual, tags, faults, missing)
        if made is None:
            continue
        host, port = made
        kept = {key for _, key in virtual.parameters}
        target = Target(port, tuple(each for each in tags if each[0] in kept), f"virtual-outbound:{virtual.name}")
        draft = _draft(drafts, Kind.FQDN, host, Place(virtual.place.file, virtual.host_line))
        other = draft.add(target)
        maker = makers.setdefault((host, port), virtual)
        if other is None:
            continue
        whose = "itself" if maker is virtual else f"VirtualOutbound {maker.name!r} ({_at(maker.place)})"
        problem = f"makes {host}:{port} of {_said(target.tags)}, which {whose} makes of {_said(other.tags)} already"
        faults.append(_finding(virtual, "conf.host", virtual.host_line, problem))
    for (_, field, name), (virtual, line, services) in missing.items():
        shown = ", ".join(services[:_SHOWN]) + (f" and {len(services) - _SHOWN} more" if len(services) > _SHOWN else "")
        tag_key = dict(virtual.parameters).get(name, name)
        problem = f"uses .{name}, and there is no tag {tag_key!r} on {shown}"
        faults.append(_finding(virtual, field, line, problem))


def _make(
    virtual: VirtualOutbound,
    tags: Tags,
    faults: list[Finding],
    missing: dict[tuple[str, str, str], tuple[VirtualOutbound, int | None, list[str]]],
) -> tuple[str, int] | None:
    by_key = dict(tags)
    values = {name: by_key[key] for name, key in virtual.parameters if key in by_key}
    rendered = []
    for field, template, line in (
        ("conf.host", virtual.host, virtual.host_line),
        ("conf.port", virtual.port, virtual.port_line),
    ):
        try:
            rendered.append(template.render(values))
        except MissingValueError as error:
            key = (virtual.name, field, error.name)
            services = missing.setdefault(key, (virtual, line, []))[2]
            service = tag(tags, SERVICE_TAG) or "?"
            if service not in services:
                services.append(service)
            return None
    host, port = rendered
    if not is_host(host):
        problem = f"{host[:80]!r}, made of {_said(tags)}, is not a DNS name"
        faults.append(_finding(virtual, "conf.host", virtual.host_line, problem))
        return None
    if not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65535):
        problem = f"{port[:40]!r}, made of {_said(tags)}, is not a port from 1 to 65535"
        faults.append(_finding(virtual, "conf.port", virtual.port_line, problem))
        return None
    return host.removesuffix("."), int(port)


def _said(tags: Tags) -> str:
    return ", ".join(f"{key}={value}" for key, value in tags)
