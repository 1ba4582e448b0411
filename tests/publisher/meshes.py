"""Small meshes for the tests: resources as YAML, and everything that is made of them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from meshdns.publisher.mesh_view import MeshView, build_view
from meshdns.publisher.model import MeshResources
from meshdns.publisher.names import Entries, entries_of
from meshdns.publisher.reading import read_resources
from meshdns.publisher.settings import PublisherSettings
from meshdns.publisher.vips import Leases, allocate

SERVICE, PROTOCOL, ZONE = "kuma.io/service", "kuma.io/protocol", "kuma.io/zone"


def settings(path: Path = Path("mesh"), **more: Any) -> PublisherSettings:
    """Settings of a publisher ``own``, transparent unless said otherwise."""
    return PublisherSettings.model_validate({"name": "own", "path": path, "vips": "transparent"} | more)


def dataplane(name: str, service: str = "", port: int = 8080, *, address: str = "192.168.0.1", **more: Any) -> Any:
    """A Dataplane with one inbound. more: of the inbound; ``tags`` are added to its service."""
    tags = ({SERVICE: service} if service else {}) | more.pop("tags", {})
    inbound = {"port": port, "tags": tags} | more
    return {"type": "Dataplane", "mesh": "default", "name": name,
            "networking": {"address": address, "inbound": [inbound]}}  # fmt: skip


def gateway(name: str) -> Any:
    """A DELEGATED gateway."""
    networking = {"address": "127.0.0.1", "gateway": {"type": "DELEGATED", "tags": {SERVICE: name}}}
    return {"type": "Dataplane", "mesh": "default", "name": name, "networking": networking}


def external(name: str, address: str, service: str = "", **more: Any) -> Any:
    """An ExternalService. more: of ``networking``."""
    tags = {SERVICE: service or name} | more.pop("tags", {})
    return {"type": "ExternalService", "mesh": "default", "name": name, "tags": tags,
            "networking": {"address": address} | more}  # fmt: skip


def virtual(
    name: str, host: str, port: str = "80", *, match: Mapping[str, str] | None = None, created: str = "", **keys: str
) -> Any:
    """A VirtualOutbound. keys: further parameters, name to tag key ("" for the same; ``port_tag``: the name port)."""
    parameters = [{"name": "service", "tagKey": SERVICE}]
    parameters += [{"name": each.removesuffix("_tag")} | ({"tagKey": key} if key else {}) for each, key in keys.items()]
    resource = {
        "type": "VirtualOutbound", "mesh": "default", "name": name,
        "selectors": [{"match": dict(match or {SERVICE: "*"})}],
        "conf": {"host": host, "port": port, "parameters": parameters},
    }  # fmt: skip
    return resource | ({"creationTime": created} if created else {})


def written(*resources: Any) -> str:
    """Resources as a file of several documents (JSON is YAML)."""
    return "\n---\n".join(json.dumps(each, indent=1) for each in resources)


def read(*resources: Any, mesh: str = "default", faulty: bool = False) -> MeshResources:
    """Resources as values; none may have a fault unless *faulty*."""
    reading = read_resources(written(*resources), "mesh.yaml")
    assert faulty or not reading.faults, [str(fault) for fault in reading.faults]
    return MeshResources.of(mesh, reading.resources.values())


def entries(*resources: Any) -> Entries:
    """What gets a VIP."""
    return entries_of(read(*resources))


def view(
    *resources: Any,
    leases: Leases = MappingProxyType({}),
    mesh: str = "default",
    faulty: bool = False,
    **more: Any,
) -> MeshView:
    """The view of a mesh, VIPs given out in one go; no resource may have a fault unless *faulty*."""
    chosen = settings(mesh=mesh, **more)
    found = read(*resources, mesh=mesh, faulty=faulty)
    made = entries_of(found)
    fixed = [entry.address for entry in made.entries if entry.address is not None]
    wanted = [entry.key for entry in made.entries if entry.address is None]
    allocation = allocate(leases, wanted, chosen.network, now=0, quarantine=0, reserved=fixed)
    return build_view(found, made, allocation.addresses, chosen)


def names(seen: MeshView) -> dict[str, str]:
    """Name → VIP."""
    return {each.name: str(each.vip) for each in seen.hostnames}


def services(seen: MeshView) -> dict[str, str]:
    """``VIP:port`` → service."""
    return {f"{each.address}:{each.port}": each.service for each in seen.outbounds}


def lines(found: Sequence[object]) -> list[str]:
    """Findings as an operator reads them."""
    return [str(each) for each in found]
