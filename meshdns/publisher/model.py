"""The resources as values: what a Mesh, a Dataplane, an ExternalService and a VirtualOutbound say, defaults applied.

Names of fields are Kuma's where they mean the same. Lines of a file take no part in equality, so that a remark
added above a resource changes nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeAlias

from meshdns.publisher.template import Template

Tags: TypeAlias = tuple[tuple[str, str], ...]
"""Tags sorted by key: hashable, and equal whatever the order in the file."""

SERVICE_TAG, PROTOCOL_TAG, ZONE_TAG = "kuma.io/service", "kuma.io/protocol", "kuma.io/zone"

PROTOCOLS = ("tcp", "http", "http2", "grpc", "kafka")

RESERVED_PORT = 49151
"""The port of an inbound that stands for a pod without a Service; it gets no VIP (since Kuma 2.7)."""

DEFAULT_MESH = "default"

Identity: TypeAlias = tuple[str, str, str]
"""Type, mesh (empty for a Mesh) and name: what makes two documents the same resource."""


def tags_of(mapping: Mapping[str, str]) -> Tags:
    """Give *mapping* as Tags."""
    return tuple(sorted(mapping.items()))


def tag(tags: Tags, key: str) -> str | None:
    """Give the value of *key* in *tags*."""
    for each, value in tags:
        if each == key:
            return value
    return None


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with (or notable in) one resource. line: from 1; field: ``networking.inbound[0].port``."""

    file: str
    line: int | None
    resource: str
    field: str
    problem: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return ": ".join(part for part in (place, self.resource, self.field, self.problem) if part)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a resource is written; ``line`` is that of its beginning."""

    file: str
    line: int | None = None


NOWHERE = Place("")


@dataclass(frozen=True, slots=True)
class Mesh:
    """A mesh. passthrough: whether traffic to unknown addresses may leave it (transparent only)."""

    name: str
    passthrough: bool = True
    place: Place = field(default=NOWHERE, compare=False, repr=False)

    @property
    def identity(self) -> Identity:
        """What makes two documents the same resource."""
        return ("Mesh", "", self.name)


State = Literal["Ready", "NotReady", "Ignored"]


@dataclass(frozen=True, slots=True)
class Inbound:
    """A port of a data plane and the workload behind it.

    address, port: where the data plane listens. advertised: what others dial, if not ``address``.
    workload_address, workload_port: where the data plane sends what comes in.
    """

    address: str
    port: int
    workload_address: str
    workload_port: int
    tags: Tags
    state: State = "Ready"
    advertised: str = ""
    line: int | None = field(default=None, compare=False, repr=False)

    @property
    def service(self) -> str | None:
        """The ``kuma.io/service`` tag."""
        return tag(self.tags, SERVICE_TAG)

    @property
    def protocol(self) -> str:
        """The ``kuma.io/protocol`` tag; without one, TCP."""
        return tag(self.tags, PROTOCOL_TAG) or "tcp"

    @property
    def named(self) -> bool:
        """Whether this makes its service exist at all, healthy or not."""
        return self.state != "Ignored" and self.port != RESERVED_PORT and self.service is not None


@dataclass(frozen=True, slots=True)
class Dataplane:
    """A data plane: inbounds with their services, or a DELEGATED gateway (its tags), or neither (an observer).

    redirect_inbound, redirect_outbound: ports of transparent proxying, 0 where the resource names none. reachable:
    the only services that it is told of; None: all.
    """

    mesh: str
    name: str
    address: str
    inbounds: tuple[Inbound, ...] = ()
    gateway: Tags | None = None
    labels: Tags = ()
    redirect_inbound: int = 0
    redirect_outbound: int = 0
    ipv6: bool = True
    reachable: frozenset[str] | None = None
    place: Place = field(default=NOWHERE, compare=False, repr=False)

    @property
    def identity(self) -> Identity:
        """What makes two documents the same resource."""
        return ("Dataplane", self.mesh, self.name)


@dataclass(frozen=True, slots=True)
class ExternalTls:
    """TLS towards an ExternalService. authority: PEM, empty: its certificate is not verified (Kuma's way)."""

    server_name: str = ""
    authority: str = ""
    verify_name: bool = True


@dataclass(frozen=True, slots=True)
class ExternalService:
    """A service outside the mesh. host: a name or an IP address. host_entry: whether its own name gets a VIP."""

    mesh: str
    name: str
    host: str
    port: int
    tags: Tags
    host_entry: bool = True
    tls: ExternalTls | None = None
    place: Place = field(default=NOWHERE, compare=False, repr=False)
    address_line: int | None = field(default=None, compare=False, repr=False)

    @property
    def identity(self) -> Identity:
        """What makes two documents the same resource."""
        return ("ExternalService", self.mesh, self.name)

    @property
    def service(self) -> str:
        """The ``kuma.io/service`` tag, which it must have."""
        return tag(self.tags, SERVICE_TAG) or ""

    @property
    def protocol(self) -> str:
        """The ``kuma.io/protocol`` tag; without one, TCP."""
        return tag(self.tags, PROTOCOL_TAG) or "tcp"


@dataclass(frozen=True, slots=True)
class VirtualOutbound:
    """Names made of tags. selectors: tags to match, ``*`` any value. parameters: (name in templates, tag key).

    created: ``creationTime`` as written (RFC 3339 sorts as text), empty where unknown.
    """

    mesh: str
    name: str
    selectors: tuple[Tags, ...]
    host: Template
    port: Template
    parameters: tuple[tuple[str, str], ...]
    created: str = ""
    place: Place = field(default=NOWHERE, compare=False, repr=False)
    host_line: int | None = field(default=None, compare=False, repr=False)
    port_line: int | None = field(default=None, compare=False, repr=False)

    @property
    def identity(self) -> Identity:
        """What makes two documents the same resource."""
        return ("VirtualOutbound", self.mesh, self.name)


Resource: TypeAlias = Mesh | Dataplane | ExternalService | VirtualOutbound


@dataclass(frozen=True)
class MeshResources:
    """All resources of one mesh, each kind sorted by name."""

    mesh: Mesh
    dataplanes: tuple[Dataplane, ...] = ()
    external_services: tuple[ExternalService, ...] = ()
    virtual_outbounds: tuple[VirtualOutbound, ...] = ()

    @classmethod
    def of(cls, mesh: str, resources: Iterable[Resource]) -> "MeshResources":
        """Gather those of *resources* that belong to *mesh*."""
        mine = sorted((each for each in resources if each.identity[1] == mesh), key=lambda each: each.identity)
        meshes = [each for each in resources if isinstance(each, Mesh) and each.name == mesh]
        return cls(
            meshes[0] if meshes else Mesh(mesh),
            tuple(each for each in mine if isinstance(each, Dataplane)),
            tuple(each for each in mine if isinstance(each, ExternalService)),
            tuple(each for each in mine if isinstance(each, VirtualOutbound)),
        )

    @cached_property
    def by_name(self) -> Mapping[str, Dataplane]:
        """The Dataplanes by name."""
        return {dataplane.name: dataplane for dataplane in self.dataplanes}
