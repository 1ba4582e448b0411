"""A connecting node: what of its id and metadata decides what it is sent (Kuma's keys; JSON values in, no protobuf)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meshdns.errors import ResourceError

EMBEDDED_DNS, METADATA_PROXY, BIND_OUTBOUNDS = (
    "feature-embedded-dns",
    "feature-transparent-proxy-in-dataplane-metadata",
    "feature-bind-outbounds",
)

DEFAULT_OUTBOUND_PORT = 15001


@dataclass(frozen=True, slots=True)
class Node:
    """A data plane as it presents itself.

    dns_port: where its dns_filter is to listen, 0: it wants no names. workdir: directory of its sockets. ipv6: None
    where its Dataplane decides, likewise redirect_inbound and redirect_outbound (ports; 0: off). resource: a Dataplane
    in YAML or JSON that it brings along.
    """

    mesh: str
    dataplane: str
    features: frozenset[str] = frozenset()
    dns_port: int = 0
    workdir: str = ""
    ipv6: bool | None = None
    redirect_inbound: int | None = None
    redirect_outbound: int | None = None
    resource: str = ""


def read_node(node_id: str, metadata: Mapping[str, Any]) -> Node:
    """Read a node's id (``<mesh>.<dataplane>``, cut at the first dot) and its metadata.

    Raises ResourceError in Kuma's words for an id without a dot; whatever else is odd in the metadata is as if it
    were not there.
    """
    mesh, dot, name = node_id.partition(".")
    if not dot or not name:
        raise ResourceError("request must have a valid Proxy ID: the name should be provided after the dot")
    if not mesh:
        raise ResourceError("request must have a valid Proxy ID: the mesh should be provided before the dot")
    features = metadata.get("features")
    known = frozenset(each for each in features if isinstance(each, str)) if isinstance(features, list) else frozenset()
    ipv6 = inbound = outbound = None
    if METADATA_PROXY in known:
        proxy = _mapping(metadata.get("transparentProxy"))
        redirect = _mapping(proxy.get("redirect"))
        ipv6 = str(proxy.get("ipFamilyMode", "dualstack")).lower() != "ipv4"
        inbound = _redirect(_mapping(redirect.get("inbound")), 15006)
        outbound = _redirect(_mapping(redirect.get("outbound")), DEFAULT_OUTBOUND_PORT)
    resource = metadata.get("dataplane.resource")
    return Node(
        mesh,
        name,
        known,
        _port(metadata.get("dataplane.dns.port")),
        _text(metadata.get("workdir")),
        ipv6,
        inbound,
        outbound,
        _text(resource),
    )


def _redirect(value: Mapping[str, Any], default: int) -> int:
    if value.get("enabled", True) is False:
        return 0
    return _port(value["port"]) if "port" in value else default


def _port(value: Any) -> int:
    """Give a port that may be text or a float (a protobuf Struct has no integers); 0 for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:6])
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 65535 or value != int(value):
        return 0
    return int(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
