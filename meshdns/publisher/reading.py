"""Text → resources: Kuma's universal format, several documents in a file; every fault named with line and field.

A broken document costs that document only. Field names, defaults and what is refused are those of Kuma 2.14; fields
that are Kuma's but mean nothing here are passed over in silence, unknown ones are noticed.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import MappingProxyType

from meshdns.errors import ResourceError
from meshdns.publisher.model import Dataplane, Finding, Identity, Mesh, Place, Resource
from meshdns.publisher.reading_dataplane import read_dataplane
from meshdns.publisher.reading_external import read_external_service
from meshdns.publisher.reading_parts import META_KEYS
from meshdns.publisher.reading_virtual import read_virtual_outbound
from meshdns.publisher.section import Report, Section, shown
from meshdns.yaml_document import DocumentError, YamlMapping, read

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,251}[a-z0-9])?\Z")
"""What Kuma takes as the name of a resource (and, without dots, of a mesh)."""

# fmt: off
UNPUBLISHED = frozenset({
    "CircuitBreaker", "DataplaneInsight", "DataplaneOverview", "FaultInjection", "GlobalSecret", "HealthCheck",
    "HostnameGenerator", "MeshAccessLog", "MeshCircuitBreaker", "MeshExternalService", "MeshFaultInjection",
    "MeshGateway", "MeshGatewayInstance", "MeshGatewayRoute", "MeshGlobalRateLimit", "MeshHTTPRoute",
    "MeshHealthCheck", "MeshIdentity", "MeshInsight", "MeshLoadBalancingStrategy", "MeshMetric",
    "MeshMultiZoneService", "MeshOPA", "MeshPassthrough", "MeshProxyPatch", "MeshRateLimit", "MeshRetry",
    "MeshService", "MeshTCPRoute", "MeshTLS", "MeshTimeout", "MeshTrace", "MeshTrafficPermission", "MeshTrust",
    "OPAPolicy", "ProxyTemplate", "RateLimit", "Retry", "Secret", "ServiceInsight", "Timeout", "TrafficLog",
    "TrafficPermission", "TrafficRoute", "TrafficTrace", "Workload", "Zone", "ZoneEgress", "ZoneIngress",
    "ZoneInsight",
})
# fmt: on
"""Kinds of Kuma that this control plane does not have."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a file says. resources: by identity, what was valid before in the place of what is not valid now.

    ignored: how many resources are of each kind that is not published.
    """

    resources: Mapping[Identity, Resource]
    faults: tuple[Finding, ...] = ()
    notices: tuple[Finding, ...] = ()
    ignored: Mapping[str, int] = field(default_factory=dict)


def read_resources(text: str, file: str, before: Mapping[Identity, Resource] = MappingProxyType({})) -> Reading:
    """Read *text*, the content of *file*.

    before: what was valid of it at the last reading; it stays where its replacement is not valid, and all of it
    where something is so broken that it cannot be told what it was.
    """
    resources: dict[Identity, Resource] = {}
    refused: set[Identity] = set()
    faults: list[Finding] = []
    notices: list[Finding] = []
    ignored: dict[str, int] = {}
    nameless = False
    for offset, chunk in _documents(text):
        report = Report(file, offset)
        identity, resource = _document(chunk, report, ignored)
        faults += report.faults
        notices += report.notices
        if resource is None or report.faults:
            if report.faults:
                nameless = nameless or identity is None
                if identity is not None:
                    refused.add(identity)
            continue
        if resource.identity in resources:
            first = resources[resource.identity].place
            line = resource.place.line
            problem = f"there twice; the first, on line {first.line}, is taken"
            faults.append(Finding(file, line, _label(resource.identity), "name", problem))
        else:
            resources[resource.identity] = resource
    for identity, resource in before.items():
        if identity not in resources and (nameless or identity in refused):
            resources[identity] = resource
    return Reading(resources, tuple(faults), tuple(notices), ignored)


def read_joining_dataplane(text: str, mesh: str, name: str) -> Dataplane:
    """Read the Dataplane that a node brings along in its metadata (``dataplane.resource``), YAML or JSON.

    Raises ResourceError when it cannot be used, or is another than that of the node's id.
    """
    found = read_resources(text, f"the metadata of node {mesh}.{name}")
    if found.faults:
        raise ResourceError("; ".join(str(fault) for fault in found.faults))
    for resource in found.resources.values():
        if isinstance(resource, Dataplane) and (resource.mesh, resource.name) == (mesh, name):
            return resource
        problem = f"does not match proxy resource {_label(resource.identity)} of mesh {resource.identity[1]!r}"
        raise ResourceError(f"proxyId {mesh}.{name} {problem}")
    raise ResourceError(f"the metadata of node {mesh}.{name} holds no Dataplane")


def _label(identity: Identity) -> str:
    return f"{identity[0]} {identity[2]!r}"


def _documents(text: str) -> Iterator[tuple[int, str]]:
    """Cut *text* at lines that begin a document, so that a broken one leaves the others readable.

    Three hyphens at the beginning of a line cannot be anything else in YAML (1.2.2 §9.1.2).
    """
    start = line = first = 0
    for match in re.finditer(r"^---(?=\s|\Z)", text, re.MULTILINE):
        chunk = text[start : match.start()]
        yield first, chunk
        line += chunk.count("\n")
        start, first = match.start(), line
    yield first, text[start:]


def _document(chunk: str, report: Report, ignored: dict[str, int]) -> tuple[Identity | None, Resource | None]:
    try:
        tree = read(chunk)
    except DocumentError as error:
        line = error.fault.line
        report.fault(None if line is None else report.offset + line, "", error.fault.problem)
        return None, None
    if tree is None:
        return None, None
    if not isinstance(tree, YamlMapping):
        report.fault(report.offset + 1, "", f"a resource must be a mapping (key: value), not {shown(tree)}")
        return None, None
    if isinstance(tree.get("type"), str) and isinstance(tree.get("name"), str):
        report.resource = _label((tree["type"], "", tree["name"]))
    section = Section(report, tree)
    kind = section.text("type")
    if not kind:
        if not report.faults:
            if "kind" in section or "apiVersion" in section:
                problem = "this is Kubernetes' format; the universal one is wanted (type, mesh, name at the top)"
                section.refuse("kind" if "kind" in section else "apiVersion", problem)
            else:
                section.refuse("type", f"missing; the types are {', '.join(_READERS)}")
        return None, None
    if kind in UNPUBLISHED:
        ignored[kind] = ignored.get(kind, 0) + 1
        report.faults.clear()
        return None, None
    if kind not in _READERS:
        close = get_close_matches(kind, _READERS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        section.refuse("type", f"unknown type {shown(kind)}; the types are {', '.join(_READERS)}{hint}")
        return None, None
    return _resource(kind, section, report)


def _resource(kind: str, section: Section, report: Report) -> tuple[Identity | None, Resource | None]:
    name = section.text("name", required=True)
    mesh = "" if kind == "Mesh" else section.text("mesh") or "default"
    if not name:
        report.resource = kind
        return None, None
    identity = (kind, mesh, name)
    if not _NAME.match(name) or (kind == "Mesh" and "." in name):
        rule = "lower-case letters, digits, '-' and '_'" + ("" if kind == "Mesh" else " and '.'")
        section.refuse("name", f"{shown(name)}: a name has {rule}, and begins and ends with a letter or digit")
        return None, None
    resource = _READERS[kind](section, mesh, name, Place(report.file, section.line()))
    return identity, resource


def _read_mesh(section: Section, mesh: str, name: str, place: Place) -> Mesh:
    section.known(*META_KEYS, "networking", "mtls", "routing", "constraints", "logging", "tracing", "metrics",
                  "meshServices", "skipCreatingInitialPolicies")  # fmt: skip
    passthrough = True
    networking = section.section("networking")
    outbound = networking.section("outbound") if networking is not None else None
    if outbound is not None:
        passthrough = outbound.flag("passthrough", True)
    mtls = section.section("mtls")
    if mtls is not None and mtls.text("enabledBackend"):
        mtls.notice("enabledBackend", "there is no mTLS here: data planes speak to each other without TLS")
    return Mesh(name, passthrough, place)


_READERS: dict[str, Callable[[Section, str, str, Place], Resource]] = {
    "Mesh": _read_mesh,
    "Dataplane": read_dataplane,
    "ExternalService": read_external_service,
    "VirtualOutbound": read_virtual_outbound,
}
