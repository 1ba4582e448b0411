"""(resources, VIPs) → what the mesh looks like at one moment: the table for our own store, and what Envoys are sent.

A value: nothing in it changes, views are compared and handed from thread to thread.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv6Address
from types import MappingProxyType

from meshdns.errors import ResourceError
from meshdns.inventory.dns_document import Entry as Row
from meshdns.inventory.dns_document import gather
from meshdns.inventory.name import check_name
from meshdns.inventory.record import DEFAULT_TTL, IPAddress, NameRecord, Origin, Port, Table
from meshdns.publisher.cluster import Cluster, Clusters
from meshdns.publisher.model import (
    SERVICE_TAG,
    Dataplane,
    Finding,
    MeshResources,
    Tags,
    tag,
)
from meshdns.publisher.names import Entries, Entry, hostnames, ports
from meshdns.publisher.settings import Network, PublisherSettings
from meshdns.publisher.vips import EntryKey, Kind

_SERVICE_PORT = re.compile(r"_svc_([0-9]{1,5})\Z")


@dataclass(frozen=True, slots=True)
class Outbound:
    """A listener on a VIP: what is dialled there reaches ``cluster``. tags: Kuma's, as they are told to Envoy."""

    address: IPAddress
    port: int
    service: str
    tags: Tags
    protocol: str
    cluster: str
    rewrite: bool = False

    @property
    def name(self) -> str:
        """The listener's name."""
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"outbound:{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Hostname:
    """A name with its addresses, as a data plane is told: the VIP, and its IPv4-mapped form."""

    name: str
    vip: IPAddress

    def addresses(self, ipv6: bool = True) -> tuple[str, ...]:
        """Give the addresses as text, without the mapped one unless *ipv6*."""
        return _addresses(self.vip, ipv6)


@dataclass(frozen=True, slots=True, eq=False)
class MeshView:
    """A mesh at one moment.

    table: for our own store. hostnames: for data planes, sorted. outbounds: sorted by address and port. clusters,
    dataplanes: by name. bind: whether listeners bind their VIPs. network: of the VIPs. skipped: what was left out,
    notices: what an operator should know, a line each. version: of the names and listeners.
    """

    mesh: str
    table: Table
    hostnames: tuple[Hostname, ...]
    outbounds: tuple[Outbound, ...]
    clusters: Mapping[str, Cluster]
    dataplanes: Mapping[str, Dataplane]
    bind: bool
    network: Network
    passthrough: bool
    version: str
    skipped: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()

    def same_mesh(self, other: "MeshView | None") -> bool:
        """Tell whether data planes are to be sent the same for *other* as for this view."""
        return other is not None and (
            self.hostnames == other.hostnames
            and self.outbounds == other.outbounds
            and self.clusters == other.clusters
            and self.dataplanes == other.dataplanes
            and (self.mesh, self.bind, self.network, self.passthrough)
            == (other.mesh, other.bind, other.network, other.passthrough)
        )


@lru_cache(maxsize=2**17)
def _addresses(vip: IPAddress, ipv6: bool) -> tuple[str, ...]:
    if not ipv6 or vip.version == 6:
        return (str(vip),)
    return str(vip), str(IPv6Address((0xFFFF << 32) | int(vip)))


def build_view(
    resources: MeshResources,
    entries: Entries,
    addresses: Mapping[EntryKey, IPAddress],
    settings: PublisherSettings,
    *,
    skipped: Iterable[str] = (),
    notices: Iterable[str] = (),
) -> MeshView:
    """Give the view of *resources*, whose *entries* have *addresses*; an entry without one is left out.

    skipped, notices: what was found before; what is found here comes after.
    """
    bind = settings.vips == "bind"
    clusters = Clusters(resources)
    by_place: dict[tuple[IPAddress, int], Outbound] = {}
    named: dict[str, tuple[Entry, IPAddress]] = {}
    vip_ports: dict[EntryKey, tuple[Port, ...]] = {}
    left_out = [*skipped, *(str(fault) for fault in entries.faults)]
    for entry in entries.entries:
        address = addresses.get(entry.key) if entry.address is None else entry.address
        if address is None:
            continue
        if entry.address is None or not bind:  # an address that is not ours cannot be bound
            for target in ports(entry, settings.service_vip_port):
                cluster = clusters.of(target.tags)
                by_place.setdefault(
                    (address, target.port),
                    Outbound(
                        address, target.port, cluster.service, target.tags, cluster.protocol, cluster.name,
                        cluster.rewrite,
                    ),
                )  # fmt: skip
        vip_ports[entry.key] = _ports(entry, settings.service_vip_port)
        for name in hostnames(entry.key, settings.domain):
            named[name] = (entry, address)
    outbounds = tuple(by_place[place] for place in sorted(by_place, key=_place_order))
    version = _version(named, vip_ports, outbounds)
    records, found, told = _records(named, vip_ports, settings.name, version)
    left_out += found
    rows = tuple(Hostname(name, named[name][1]) for name in sorted(named) if name.lower() in records)
    return MeshView(
        resources.mesh.name,
        Table(
            MappingProxyType(records),
            MappingProxyType({(each.address, each.port): each.service for each in outbounds}),
            lenient=True,
        ),
        rows,
        outbounds,
        MappingProxyType(clusters.all()),
        resources.by_name,
        bind,
        settings.network,
        resources.mesh.passthrough,
        version,
        tuple(left_out),
        (*notices, *told),
    )


def _place_order(place: tuple[IPAddress, int]) -> tuple[int, int, int]:
    return place[0].version, int(place[0]), place[1]


def _records(
    named: Mapping[str, tuple[Entry, IPAddress]],
    vip_ports: Mapping[EntryKey, tuple[Port, ...]],
    source: str,
    version: str,
) -> tuple[dict[str, NameRecord], list[str], tuple[str, ...]]:
    """Give the records of *named*, a line for each name that DNS cannot carry, and notices."""
    rows, skipped = [], []
    for name in sorted(named):
        entry, vip = named[name]
        try:
            check_name(name)
        except ResourceError as error:
            field = f"tag {SERVICE_TAG}" if entry.key.kind is Kind.SERVICE else ""
            skipped.append(str(Finding(entry.place.file, entry.place.line, "", field, f"makes the name {error}")))
            continue
        rows.append(Row(name, Hostname(name, vip).addresses(), DEFAULT_TTL))
    document = gather(rows, Origin(source))
    records = {}
    for key, record in document.records.items():
        entry = named[record.name][0]
        listening = vip_ports[entry.key]
        records[key] = replace(
            record,
            ports=listening,
            service=_service(entry, listening),
            origin=Origin(source, entry.targets[0].origin, version),
        )
    return records, skipped, document.notices


def _service(entry: Entry, listening: Sequence[Port]) -> str:
    return entry.key.name if entry.key.kind is Kind.SERVICE else listening[0].target


def _ports(entry: Entry, service_vip_port: int) -> tuple[Port, ...]:
    declared = {target.port for target in entry.targets}
    match = _SERVICE_PORT.search(entry.key.name) if entry.key.kind is Kind.SERVICE else None
    own = int(match[1]) if match is not None else 0
    return tuple(
        Port(
            target.port,
            tag(target.tags, SERVICE_TAG) or "",
            target.port == service_vip_port and target.port != own and target.port not in declared,
        )
        for target in ports(entry, service_vip_port)
    )


def _version(
    named: Mapping[str, tuple[Entry, IPAddress]],
    vip_ports: Mapping[EntryKey, tuple[Port, ...]],
    outbounds: Sequence[Outbound],
) -> str:
    digest = hashlib.sha256()
    for name in sorted(named):
        entry, vip = named[name]
        digest.update(f"{name}\0{int(vip)}\0{vip_ports[entry.key]}\n".encode())
    for each in outbounds:
        digest.update(f"{int(each.address)} {each.port}\0{each.service}\n".encode())
    return digest.hexdigest()[:16]
