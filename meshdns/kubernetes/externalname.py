"""Services of type ExternalName for names of the mesh, and the Ingress or HTTPRoute that leads to each.

One Service for one service of the mesh: names that lead to the same addresses of the same service are names of one.
The ports are those on which its addresses have a listener, never one that the name spells. Values in, values out;
the same names and options give equal manifests in the same order.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from meshdns.inventory.kri import parse_kri
from meshdns.inventory.record import NameRecord
from meshdns.kubernetes.served import Served, plain, why_no_external_name
from meshdns.kubernetes.service_name import service_names, subject
from meshdns.kubernetes.service_port import ServicePort, http_port, service_ports
from meshdns.store.reader import StoredRecord

MANAGED_BY = {"app.kubernetes.io/managed-by": "meshdns"}

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Options:
    """What an operator chooses.

    namespace: of every manifest; without, it is left to who applies them. suffix: of every Service's name.
    name: of the one Service, whole. ingress: the IngressClass, for an Ingress to each Service. gateway: ``NAME`` or
    ``NAMESPACE/NAME``, for an HTTPRoute to each. path: of the Ingress and HTTPRoute, default ``/`` and the Service's
    name. route_name: of the Ingress and HTTPRoute, default the Service's. meshes: of the configured sources.
    """

    namespace: str | None = None
    suffix: str = ""
    name: str | None = None
    ingress: str | None = None
    gateway: str | None = None
    path: str | None = None
    route_name: str | None = None
    meshes: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """Which names became Services: the best one of each service. held: whether only the guard keeps it.

    skipped: a line for each name that cannot be one. unknown: what was asked for and is not there.
    """

    records: tuple[StoredRecord, ...]
    skipped: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Service:
    """A Service and what leads to it. name: as in Kubernetes; host: the mesh's name that it points at."""

    name: str
    host: str
    manifests: tuple[Manifest, ...]


@dataclass(frozen=True, slots=True)
class Generated:
    """Services sorted by name. notes: a line for each thing that an operator should know.

    missing: a line for each manifest that was asked for and could not be written.
    """

    services: tuple[Service, ...]
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def choose(served: Served, wanted: Sequence[str] = ()) -> Choice:
    """Choose the names of *wanted*, names and patterns; without any, every service under the zones.

    A pattern is matched with every name that is served, in lower case. A name by itself is taken as it is, only in
    its dotted spelling.
    """
    if not wanted:
        under = (stored for stored in served.records() if served.zone_of(stored.record.name))
        return _by_service(served, under)
    exact: dict[str, StoredRecord] = {}
    patterns: list[str] = []
    unknown: list[str] = []
    for word in wanted:
        name = word.lower().removesuffix(".")
        stored = served.record(name)
        if stored is not None:
            exact[name] = stored
        elif any(sign in name for sign in "*?["):
            patterns.append(name)
        else:
            nearest = served.closest(name)
            unknown.append(f"{word}: no such name" + (f"; the nearest: {', '.join(nearest)}" if nearest else ""))
    chosen: list[StoredRecord] = []
    skipped: list[str] = []
    for stored in exact.values():
        choice = _by_service(served, [stored])
        chosen += choice.records
        skipped += choice.skipped
    if patterns:
        unmatched = set(patterns)
        found: list[StoredRecord] = []
        for stored in served.records():
            name = stored.record.name.lower()
            matching = {pattern for pattern in patterns if fnmatchcase(name, pattern)}
            unmatched -= matching
            if matching:
                found.append(stored)
        unknown += [f"{pattern}: no name is like this" for pattern in patterns if pattern in unmatched]
        choice = _by_service(served, found)
        chosen += choice.records
        skipped += choice.skipped
    distinct = {stored.record.name.lower(): stored for stored in chosen}
    return Choice(tuple(distinct[name] for name in sorted(distinct)), tuple(dict.fromkeys(skipped)), tuple(unknown))


def _by_service(served: Served, found: Iterable[StoredRecord]) -> Choice:
    """Give the best name of each service among *found*, with the dotted spellings of those that have one."""
    services: dict[object, dict[str, StoredRecord]] = {}
    at_hand = {stored.record.name.lower(): stored for stored in found}
    for stored in at_hand.values():
        record = stored.record
        other = served.dotted(record, at_hand)
        named = [stored] if other is None else [stored, replace(stored, record=other)]
        # Names of an unknown service are one only where they are spellings of each other.
        service = record.service or (other or record).name.lower()
        names = services.setdefault((frozenset(record.addresses), service), {})
        for each in named:
            names[each.record.name.lower()] = each
    chosen: list[StoredRecord] = []
    skipped: list[str] = []
    for names in services.values():
        best = served.best(stored.record for stored in names.values())
        if best is not None:
            chosen.append(names[best.name.lower()])
            continue
        for stored in names.values():
            skipped.append(f"{stored.record.name}: skipped, {_why_not(served, stored.record)}")
    chosen.sort(key=lambda stored: stored.record.name.lower())
    return Choice(tuple(chosen), tuple(skipped))


def _why_not(served: Served, record: NameRecord) -> str:
    reason = why_no_external_name(record.name.lower())
    assert reason is not None
    zone = served.zone_of(record.name)
    if "_" in record.name and zone is not None and record.name.lower() != zone:
        left = record.name.lower().removesuffix(zone)
        spelled = left.replace("_", ".") + zone
        there = served.record(spelled)
        if there is None:
            return f"{reason}, and {spelled} is not served"
        return f"{reason}, and {spelled} is another service's name ({there.record.service or 'other addresses'})"
    return reason


def generate(served: Served, chosen: Sequence[StoredRecord], options: Options) -> Generated:
    """Give the manifests for the names *chosen*.

    With ``name`` or ``route_name`` among the options there is one chosen name at most.
    """
    subjects = [subject(stored.record, served.zone_of(stored.record.name)) for stored in chosen]
    names = [options.name] * len(chosen) if options.name else service_names(subjects, options.suffix)
    services: list[Service] = []
    notes: list[str] = []
    missing: list[str] = []
    portless: Counter[str] = Counter()
    for stored, name, about in zip(chosen, names, subjects, strict=True):
        record = stored.record
        ports = service_ports(served.ports(record))
        manifests = [_service(record, name, ports, options)]
        if not ports and served.must_have_ports(record):
            notes.append(f"{record.name}: nothing listens on {_address(record)}, so Service {name} has no port")
        elif not ports:
            portless[record.origin.source] += 1
        if stored.held:
            notes.append(f"{record.name}: the last push does not have it any more; it is only kept for a while")
        if options.namespace and (name, options.namespace) == (about.base, about.namespace):
            notes.append(
                f"{record.name}: Service {options.namespace}/{name} may be the service itself, which this one would "
                "replace; --suffix -multizone gives it a name of its own"
            )
        target = http_port(ports)
        if target is not None:
            manifests += _routes(name, target, options)
        elif options.ingress or options.gateway:
            missing.append(f"{record.name}: skipped the route to it, no port of {_address(record)} is known")
        services.append(Service(name, record.name.lower(), tuple(manifests)))
    for source, count in sorted(portless.items()):
        few = "1 Service has" if count == 1 else f"{count} Services have"
        notes.append(f"{few} no port: source {source} does not say on which ports its names are served")
    services.sort(key=lambda each: each.name)
    return Generated(tuple(services), tuple(notes), tuple(missing))


def _address(record: NameRecord) -> str:
    return ", ".join(dict.fromkeys(str(plain(address)) for address in record.addresses))


def _service(record: NameRecord, name: str, ports: Sequence[ServicePort], options: Options) -> Manifest:
    spec: Manifest = {"type": "ExternalName", "externalName": record.name.lower()}
    if ports:
        spec["ports"] = [{"name": port.name, "port": port.number, "protocol": "TCP"} for port in ports]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(name, options, _annotations(record, options)),
        "spec": spec,
    }


def _annotations(record: NameRecord, options: Options) -> dict[str, str]:
    """Say where the Service comes from.

    The push is the one that last changed the record, so the same record gives the same text whatever else was pushed.
    """
    kri = parse_kri(record.service or "")
    mesh = kri.mesh if kri is not None else (options.meshes or {}).get(record.origin.source, "")
    said = {
        # Kuma before 2.6 made a virtual IP without a name of an ExternalName Service in a mesh's namespace (kuma#8168).
        "kuma.io/ignore": "true",
        "meshdns.io/source": record.origin.source,
        "meshdns.io/mesh": mesh,
        "meshdns.io/service": record.service or "",
        "meshdns.io/push": record.origin.version,
    }
    # What a control plane calls a service may be anything; half a surrogate pair is no text.
    return {key: value.encode("utf-8", "replace").decode() for key, value in said.items() if value}


def _metadata(name: str, options: Options, annotations: Mapping[str, str] | None = None) -> Manifest:
    metadata: Manifest = {"name": name}
    if options.namespace:
        metadata["namespace"] = options.namespace
    metadata["labels"] = dict(MANAGED_BY)
    if annotations:
        metadata["annotations"] = dict(annotations)
    return metadata


def _routes(service: str, port: ServicePort, options: Options) -> list[Manifest]:
    name = options.route_name or service
    path = options.path or f"/{service}"
    routes: list[Manifest] = []
    if options.ingress:
        backend = {"service": {"name": service, "port": {"number": port.number}}}
        paths = [{"path": path, "pathType": "ImplementationSpecific", "backend": backend}]
        routes.append(
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "Ingress",
                "metadata": _metadata(name, options),
                "spec": {"ingressClassName": options.ingress, "rules": [{"http": {"paths": paths}}]},
            }
        )
    if options.gateway:
        namespace, _, gateway = options.gateway.rpartition("/")
        parent = {"name": gateway, "namespace": namespace} if namespace else {"name": gateway}
        rule = {
            "matches": [{"path": {"type": "PathPrefix", "value": path}}],
            "backendRefs": [{"name": service, "port": port.number}],
        }
        routes.append(
            {
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "HTTPRoute",
                "metadata": _metadata(name, options),
                "spec": {"parentRefs": [parent], "rules": [rule]},
            }
        )
    return routes
