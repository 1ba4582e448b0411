"""The instances of a service that have certain tags, and what they have in common: what Envoy calls a cluster."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from meshdns.publisher.model import (
    SERVICE_TAG,
    ZONE_TAG,
    ExternalService,
    ExternalTls,
    Inbound,
    MeshResources,
    Tags,
    tag,
)
from meshdns.publisher.reading_parts import is_address

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


class Clusters:
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
