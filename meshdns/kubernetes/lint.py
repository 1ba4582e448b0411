"""Linting manifests: Services of type ExternalName that point into the mesh, and the routes that lead to them.

All files are judged together: an Ingress in one is for a Service in another. What is not about such a Service is
not looked at. A name outside our zones is the operator's own business, but for what Kubernetes would refuse.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import yaml

from meshdns.errors import ConfigError
from meshdns.inventory.record import NameRecord
from meshdns.kubernetes.finding import Finding, found
from meshdns.kubernetes.lint_name import judge_name
from meshdns.kubernetes.lint_port import Backend, Target, judge_backend, judge_ports
from meshdns.kubernetes.manifest_nodes import Edit, ManifestFile, apply_edits, documents, get, items, text_of
from meshdns.kubernetes.served import Served

PASSES = 5
"""How often a file is corrected and linted again: a corrected Service can show what is wrong with its Ingress."""

_ROUTES = {"HTTPRoute", "GRPCRoute", "TCPRoute", "TLSRoute"}
_GATEWAY_API = "gateway.networking.k8s.io/"


@dataclass(slots=True)
class _Service:
    """A Service of the input. label: its own name. name: what it points at; resolved: the record behind that."""

    file: ManifestFile
    namespace: str
    label: str
    node: yaml.MappingNode
    external: bool
    name: str = ""
    resolved: NameRecord | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.namespace, self.label

    def __str__(self) -> str:
        return f"{self.namespace}/{self.label}"


@dataclass(frozen=True, slots=True)
class Linted:
    """What is wrong in files, in their order and by line. unusable: those that are not YAML, with the line."""

    findings: tuple[Finding, ...] = ()
    unusable: tuple[ConfigError, ...] = ()


@dataclass(frozen=True, slots=True)
class Corrected:
    """What ``fix`` made of the files, all in their order. fixed: what was corrected; left: what was not."""

    files: tuple[ManifestFile, ...]
    fixed: tuple[Finding, ...]
    left: Linted


def lint(files: Sequence[ManifestFile], served: Served, *, namespace: str = "default") -> Linted:
    """Give what is wrong in *files*. namespace: of manifests that name none."""
    manifests: list[tuple[ManifestFile, yaml.MappingNode]] = []
    unusable: list[ConfigError] = []
    for file in files:
        try:
            manifests += [(file, node) for node in documents(file)]
        except ConfigError as error:
            unusable.append(error)
    services: dict[tuple[str, str], _Service] = {}
    findings: list[Finding] = []
    for file, node in manifests:
        service = _as_service(file, node, namespace)
        if service is None:
            continue
        first = services.setdefault(service.key, service) if service.label else service
        if first is not service and (first.external or service.external):
            findings.append(_duplicate(service, first))
        if service.external:
            findings += _judge_service(service, served)
    findings += _loops(services)
    for file, node in manifests:
        for backend in _backends(node, namespace):
            target = services.get((backend.namespace, backend.service))
            if target is not None and target.external:
                findings += judge_backend(file, backend, _target(target, served))
    order = {file.path: place for place, file in enumerate(files)}
    unique = dict.fromkeys(findings)  # an anchor's value is found wherever an alias repeats it
    findings = sorted(unique, key=lambda each: (order[each.path], each.line, each.column))
    return Linted(tuple(findings), tuple(unusable))


def fix(files: Sequence[ManifestFile], served: Served, *, namespace: str = "default") -> Corrected:
    """Correct *files* where there is no doubt; nothing but the wrong values changes."""
    now = tuple(files)
    fixed: list[Finding] = []
    left = lint(now, served, namespace=namespace)
    for _ in range(PASSES):
        edits: dict[str, list[Edit]] = {}
        for finding in left.findings:
            edits.setdefault(finding.path, []).extend(finding.edits)
        corrected = tuple(replace(file, text=apply_edits(file.text, edits.get(file.path, ()))) for file in now)
        if corrected == now:
            break
        after = lint(corrected, served, namespace=namespace)
        if len(after.unusable) > len(left.unusable):  # never seen: what we would break stays as it is
            break
        fixed += [finding for finding in left.findings if finding.fixable]
        now, left = corrected, after
    return Corrected(now, tuple(fixed), left)


def _as_service(file: ManifestFile, node: yaml.MappingNode, namespace: str) -> _Service | None:
    if text_of(get(node, "kind")) != "Service" or text_of(get(node, "apiVersion")) != "v1":
        return None
    name = text_of(get(node, "metadata", "name")) or ""  # generateName: nothing can lead to it
    external = text_of(get(node, "spec", "type")) == "ExternalName"
    return _Service(file, _namespace(node, namespace), name, node, external)


def _namespace(node: yaml.MappingNode, default: str) -> str:
    return text_of(get(node, "metadata", "namespace")) or default


def _duplicate(service: _Service, first: _Service) -> Finding:
    name = get(service.node, "metadata", "name")
    assert name is not None
    mark = get(first.node, "metadata", "name")
    assert mark is not None
    where = f"{first.file.path}:{mark.start_mark.line + 1}"
    return found(
        service.file,
        name,
        "duplicate",
        f"Service {service} is in the input already, at {where}: the one applied last wins",
        "keep one of them, or give them different names",
    )


def _judge_service(service: _Service, served: Served) -> Iterator[Finding]:
    judged = judge_name(service.file, service.node, served)
    service.name, service.resolved = judged.name, judged.record
    yield from judged.findings
    if judged.record is not None:
        yield from judge_ports(service.file, _target(service, served))


def _target(service: _Service, served: Served) -> Target:
    return Target(str(service), get(service.node, "spec", "ports"), service.resolved, served)


def _loops(services: Mapping[tuple[str, str], _Service]) -> Iterator[Finding]:
    """Find the Services whose names lead back to themselves, by way of ``<svc>.<ns>.svc.<cluster domain>``."""
    for service in services.values():
        seen = [service]
        here: _Service | None = service
        while here is not None and here.external:
            parts = here.name.split(".")
            is_cluster_name = len(parts) > 3 and parts[2] == "svc" and here.resolved is None
            here = services.get((parts[1], parts[0])) if is_cluster_name else None
            if here is service:
                path = " → ".join(str(each) for each in (*seen, service))
                node = get(service.node, "spec", "externalName")
                assert node is not None
                yield found(
                    service.file,
                    node,
                    "loop",
                    f"Service {service} leads to itself: {path}",
                    "point one of them at a name that is served",
                )
            if here is None or any(here is each for each in seen):
                break
            seen.append(here)


def _backends(node: yaml.MappingNode, default: str) -> Iterator[Backend]:
    kind, version = text_of(get(node, "kind")), text_of(get(node, "apiVersion")) or ""
    namespace = _namespace(node, default)
    spec = get(node, "spec")
    if kind == "Ingress":
        nodes = [get(spec, "defaultBackend"), get(spec, "backend")]
        for rule in items(get(spec, "rules")):
            nodes += [get(path, "backend") for path in items(get(rule, "http", "paths"))]
        for backend in nodes:
            service = get(backend, "service")
            if service is not None and (name := text_of(get(service, "name"))):
                yield Backend(namespace, name, service, get(service, "port"))
            elif backend is not None and (name := text_of(get(backend, "serviceName"))):  # before 1.19
                yield Backend(namespace, name, backend, get(backend, "servicePort"))
    elif kind in _ROUTES and version.startswith(_GATEWAY_API):
        for rule in items(get(spec, "rules")):
            references = [*items(get(rule, "backendRefs"))]
            for behind in (rule, *references):
                for each in items(get(behind, "filters")):
                    mirror = get(each, "requestMirror", "backendRef")
                    references += [mirror] if mirror is not None else []
            for reference in references:
                name = text_of(get(reference, "name"))
                is_service = (text_of(get(reference, "kind")) or "Service") == "Service"
                if name and is_service and not text_of(get(reference, "group")):
                    there = text_of(get(reference, "namespace")) or namespace
                    yield Backend(there, name, reference, get(reference, "port"))
