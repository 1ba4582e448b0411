"""(resources, VIPs) → what the mesh looks like at one moment: the table for our own store, and what Envoys are sent.

A value: nothing in it changes, views are compared and handed from thread to thread.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType
from typing import Literal

from meshdns.errors import ResourceError
from meshdns.inventory.dns_document import Entry as Row
from meshdns.inventory.dns_document import gather
from meshdns.inventory.name import check_name
from meshdns.inventory.record import DEFAULT_TTL, IPAddress, NameRecord, Origin, Port, Table
from meshdns.publisher.model import (
    SERVICE_TAG,
    ZONE_TAG,
    Dataplane,
    ExternalService,
    ExternalTls,
    Finding,
    Inbound,
    MeshResources,
    Tags,
    tag,
)
from meshdns.publisher.names import Entries, Entry, hostnames, ports
from meshdns.publisher.reading_parts import is_address
from meshdns.publisher.settings import Network, PublisherSettings
from meshdns.publisher.vips import EntryKey, Kind

_SERVICE_PORT = re.compile(r"_svc_([0-9]{1,5})\Z")

_STACKS: Mapping[str, Sequence[str]] = {
    "grpc": ("grpc", "http2", "tcp"),
    "http2": ("http2", "tcp"),
    "http": ("http", "tcp"),
    "kafka": ("kafka", "tcp"),
    "tcp": ("tcp",),
}
"""What a protocol is also an instance of; instances that differ have the first in common (Kuma's rule)."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an instance is reached. weight: how many instances there are at this address and port."""

    address: str
    port: int
    weight: int = 1
    zone: str = ""


@dataclass(frozen=True, slots=True)
class Cluster:
    """The instances of a service that have certain tags.

    discovery: ``eds`` for IP addresses that come and go, ``static`` and ``dns`` for external services (and data planes
    that give a host name). protocol: what all of them speak. tls: towards an ExternalService. rewrite: whether the
    name in a request is to become the endpoint's own.
    """

    name: str
    service: str
    tags: Tags
    protocol: str
    discovery: Literal["eds", "static", "dns"]
    endpoints: tuple[Endpoint, ...]
    tls: ExternalTls | None = None
    rewrite: bool = False


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

    def addresses(self, ipv6: bool = True) -> tuple[IPAddress, ...]:
        """Give the addresses, without the mapped one unless *ipv6*."""
        return (self.vip, mapped(self.vip)) if ipv6 and isinstance(self.vip, IPv4Address) else (self.vip,)


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


def mapped(address: IPv4Address) -> IPv6Address:
    """Give the IPv4-mapped form of *address*, which Kuma adds to each name."""
    return IPv6Address((0xFFFF << 32) | int(address))


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
    clusters = _Clusters(resources)
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
    records, found, told = _records(named, vip_ports, settings)
    left_out += found
    table = Table(
        MappingProxyType(records),
        MappingProxyType({(each.address, each.port): each.service for each in outbounds}),
        lenient=True,
    )
    version = _version(table)
    origins = {key: replace(record, origin=replace(record.origin, version=version)) for key, record in records.items()}
    rows = tuple(Hostname(name, named[name][1]) for name in sorted(named) if name.lower() in records)
    return MeshView(
        resources.mesh.name,
        replace(table, records=MappingProxyType(origins)),
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
    settings: PublisherSettings,
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
        rows.append(Row(name, tuple(str(each) for each in Hostname(name, vip).addresses()), DEFAULT_TTL))
    document = gather(rows, Origin(settings.name))
    records = {}
    for key, record in document.records.items():
        entry = named[record.name][0]
        listening = vip_ports[entry.key]
        records[key] = replace(
            record,
            ports=listening,
            service=_service(entry, listening),
            origin=Origin(settings.name, entry.targets[0].origin),
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


def _version(table: Table) -> str:
    digest = hashlib.sha256()
    for key, record in sorted(table.records.items()):
        digest.update(f"{key}\0{record.name}\0{record.addresses}\0{record.ports}\0{record.service}\n".encode())
    for (address, port), service in table.listeners.items():
        digest.update(f"{address} {port}\0{service}\n".encode())
    return digest.hexdigest()[:16]


def cluster_name(tags: Tags) -> str:
    """Give the name of the cluster of *tags*: the service, and a digest of the other tags where there are any."""
    service = tag(tags, SERVICE_TAG) or ""
    if len(tags) == 1:
        return service
    return f"{service}-{hashlib.sha256(repr(tags).encode()).hexdigest()[:16]}"


def common_protocol(protocols: Iterable[str]) -> str:
    """Give what instances that speak *protocols* have in common; TCP where there is nothing else."""
    common: Sequence[str] | None = None
    for protocol in protocols:
        stack = _STACKS.get(protocol, ("tcp",))
        common = stack if common is None else [each for each in common if each in stack]
    return common[0] if common else "tcp"


class _Clusters:
    """Clusters, each made once, from the instances of every service."""

    def __init__(self, resources: MeshResources) -> None:
        self._inbounds: dict[str | None, list[Inbound]] = defaultdict(list)
        for dataplane in resources.dataplanes:
            for inbound in dataplane.inbounds:
                if inbound.named:
                    self._inbounds[inbound.service].append(inbound)
        self._externals: dict[str, list[ExternalService]] = defaultdict(list)
        for external in resources.external_services:
            self._externals[external.service].append(external)
        self._made: dict[Tags, Cluster] = {}

    def all(self) -> dict[str, Cluster]:
        """Give every cluster that was asked for, by name."""
        return {cluster.name: cluster for cluster in sorted(self._made.values(), key=lambda each: each.name)}

    def of(self, tags: Tags) -> Cluster:
        """Give the cluster of the instances that have all of *tags*."""
        cluster = self._made.get(tags)
        if cluster is None:
            cluster = self._made[tags] = self._make(tags)
        return cluster

    def _make(self, tags: Tags) -> Cluster:
        service = tag(tags, SERVICE_TAG) or ""
        wanted = set(tags)
        inbounds = [each for each in self._inbounds[service] if wanted.issubset(each.tags)]
        externals = [each for each in self._externals[service] if wanted.issubset(each.tags)]
        counts: dict[tuple[str, str, int], int] = defaultdict(int)
        for inbound in inbounds:
            if inbound.state == "Ready":
                place = (tag(inbound.tags, ZONE_TAG) or "", inbound.advertised or inbound.address, inbound.port)
                counts[place] += 1
        for external in externals:
            counts[tag(external.tags, ZONE_TAG) or "", external.host, external.port] += 1
        endpoints = tuple(Endpoint(host, port, counts[zone, host, port], zone) for zone, host, port in sorted(counts))
        literal = all(is_address(each.address) for each in endpoints)
        discovery: Literal["eds", "static", "dns"] = "eds"
        if externals or not literal:
            discovery = "static" if literal else "dns"
        return Cluster(
            cluster_name(tags),
            service,
            tags,
            common_protocol([*(each.protocol for each in inbounds), *(each.protocol for each in externals)]),
            discovery,
            endpoints,
            next((each.tls for each in externals if each.tls is not None), None) if not inbounds else None,
            bool(externals) and not inbounds and not literal,
        )
