"""What Kuma's listeners mean: the table of names in either encoding, and which service a ``VIP:port`` leads to.

The table is a ``dns_filter`` (before 2.11, and later without ``feature-embedded-dns``) or the body of a ``/dns``
route in a listener on a pipe (2.11 and later). Both are recognised by type, not by name: with unified naming the
names differ. A listener is decoded once, when it is received; ``decode.join`` makes the table of all of them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from envoy.config.core.v3.address_pb2 import Address
from envoy.config.core.v3.base_pb2 import TrafficDirection
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy
from envoy.extensions.filters.udp.dns_filter.v3.dns_filter_pb2 import DnsFilterConfig
from envoy.service.discovery.v3.discovery_pb2 import Resource as Wrapper
from google.protobuf.message import DecodeError

from meshdns.errors import ResourceError
from meshdns.inventory.dns_document import Document, Entry, gather, parse_document
from meshdns.inventory.kri import PREFIX as KRI_PREFIX
from meshdns.inventory.name import check_address
from meshdns.inventory.record import DEFAULT_TTL, IPAddress, Origin
from meshdns.xds.session import LISTENER, FaultyResourceError, Resource

_WRAPPER = "type.googleapis.com/envoy.service.discovery.v3.Resource"
_HTTP = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_TCP = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
_DNS_FILTERS = (
    "envoy.extensions.filters.udp.dns_filter.v3.DnsFilterConfig",
    "envoy.extensions.filters.udp.dns_filter.v3alpha.DnsFilterConfig",  # Envoy before 1.20; the fields are the same
)
_DYNAMIC = frozenset({"_kuma:dynamicconfig", "system_dynamicconfig"})
_DNS_PATH = "/dns"
_PASSTHROUGH = ("outbound:passthrough:", "inbound:passthrough:", "self_transparentproxy_")
_TAGS = "io.kuma.tags"


@dataclass(frozen=True, slots=True)
class Outbound:
    """Where a listener leads.

    places: every (address, port) it listens on. service: a ``kuma.io/service`` or a KRI (or a cluster's name, where
    a listener says nothing else). tagged: named by a ``kuma.io/service`` tag and no other, as the listeners of
    legacy services and ExternalServices are.
    """

    places: tuple[tuple[IPAddress, int], ...]
    service: str
    tagged: bool


@dataclass(frozen=True, slots=True)
class NameTable:
    """The table of names that a listener carries."""

    encoding: Literal["dynconf", "dns_filter"]
    document: Document


@dataclass(frozen=True, slots=True)
class Piece:
    """What one listener says; most say one thing, passthrough listeners nothing. skipped: as in a Document."""

    outbound: Outbound | None = None
    table: NameTable | None = None
    skipped: tuple[str, ...] = ()


def decode_listener(resource: Resource, version: str, *, source: str) -> tuple[str, Piece]:
    """Give the name of the listener *resource* and what it says.

    version: of the response, source: as configured; both become the origin of records.

    Raises FaultyResourceError when it is no listener, or its table of names is no table at all.
    """
    listener = _listener(resource)
    name = resource.name or listener.name
    if not name:
        raise FaultyResourceError("", "a listener without a name")
    try:
        table = _table(listener, source, name if name.isprintable() else ascii(name), version)
    except DecodeError:
        raise FaultyResourceError(name, "the configuration of its filter cannot be read") from None
    except ResourceError as error:
        raise FaultyResourceError(name, str(error).removeprefix(f"{name}: ")) from None
    if table is not None:
        return name, Piece(table=table)
    if listener.traffic_direction != TrafficDirection.OUTBOUND or listener.name.startswith(_PASSTHROUGH):
        return name, Piece()
    return name, _outbound(listener, name)


def _listener(resource: Resource) -> Any:
    type_url, body = resource.type_url, resource.body
    try:
        if type_url == _WRAPPER and body is not None:
            inner = Wrapper.FromString(body).resource
            type_url, body = inner.type_url, inner.value
        if body is None:
            raise FaultyResourceError(resource.name, "a resource without content")
        if type_url != LISTENER:
            raise FaultyResourceError(resource.name, f"not a listener but {type_url[:100]!r}")
        return Listener.FromString(body)
    except DecodeError:
        raise FaultyResourceError(resource.name, "not a readable protobuf message") from None


def _table(listener: Any, source: str, name: str, version: str) -> NameTable | None:
    for listener_filter in listener.listener_filters:
        if _type(listener_filter.typed_config) in _DNS_FILTERS:
            config = DnsFilterConfig.FromString(listener_filter.typed_config.value)
            return NameTable("dns_filter", _from_filter(config, Origin(source, name, version)))
    if listener.address.WhichOneof("address") == "pipe" or not _DYNAMIC.isdisjoint((name, listener.name)):
        body = _dns_body(listener)
        if body is not None:
            return NameTable("dynconf", parse_document(body, source=source, resource=name, version=version))
    return None


def _from_filter(config: Any, origin: Origin) -> Document:
    if not config.server_config.HasField("inline_dns_table"):
        raise ResourceError("its dns_filter holds no inline table")
    skipped: list[str] = []
    entries = []
    for domain in config.server_config.inline_dns_table.virtual_domains:
        if domain.endpoint.WhichOneof("endpoint_config") != "address_list":
            skipped.append(f"name {domain.name[:80]!r}: its endpoint is not a list of addresses")
            continue
        ttl = domain.answer_ttl.seconds if domain.HasField("answer_ttl") else DEFAULT_TTL
        entries.append(Entry(domain.name, tuple(domain.endpoint.address_list.address), ttl))
    document = gather(entries, origin)
    return Document(document.records, (*skipped, *document.skipped), document.notices)


def _dns_body(listener: Any) -> str | bytes | None:
    """Give the document behind ``/dns``. A route with the same path that answers 304 stands before it."""
    for route_config in _route_configs(listener):
        for host in route_config.virtual_hosts:
            for route in host.routes:
                if route.match.path != _DNS_PATH or route.direct_response.status != 200:
                    continue
                body = route.direct_response.body
                kind = body.WhichOneof("specifier")
                if kind == "inline_string":
                    text: str = body.inline_string
                    return text
                if kind == "inline_bytes":
                    octets: bytes = body.inline_bytes
                    return octets
                raise ResourceError("the /dns document is not inline")
    return None


def _route_configs(listener: Any) -> Iterable[Any]:
    for chain in listener.filter_chains:
        for network_filter in chain.filters:
            if _type(network_filter.typed_config) == _HTTP:
                yield HttpConnectionManager.FromString(network_filter.typed_config.value).route_config


def _outbound(listener: Any, name: str) -> Piece:
    places: list[tuple[IPAddress, int]] = []
    skipped: list[str] = []
    for address in (listener.address, *(more.address for more in listener.additional_addresses)):
        _place(address, name, places, skipped)
    if not places:
        return Piece(skipped=tuple(skipped))
    service, tagged = _service(listener)
    if not service or not service.isprintable():  # it is shown on terminals
        return Piece(skipped=(*skipped, f"listener {name!r}: no service can be read from it"))
    return Piece(Outbound(tuple(places), service, tagged), skipped=tuple(skipped))


def _place(address: Address, name: str, places: list[tuple[IPAddress, int]], skipped: list[str]) -> None:
    if address.WhichOneof("address") != "socket_address":
        return
    socket = address.socket_address
    if socket.address in ("0.0.0.0", "::"):  # a passthrough of some version; no client dials it
        return
    try:
        places.append((check_address(socket.address), socket.port_value))
    except ResourceError as error:
        skipped.append(f"listener {name!r}: {error}")


def _service(listener: Any) -> tuple[str, bool]:
    """Give the service of an outbound listener, and whether a ``kuma.io/service`` tag alone names it."""
    if listener.name.startswith(KRI_PREFIX):
        return listener.name, False
    tags: dict[str, str] = {}
    if _TAGS in listener.metadata.filter_metadata:
        fields = listener.metadata.filter_metadata[_TAGS].fields
        tags = {key: value.string_value for key, value in fields.items()}
    if tags.get("kuma.io/unified-name"):
        return tags["kuma.io/unified-name"], False
    if tags.get("kuma.io/service"):
        return tags["kuma.io/service"], len(tags) == 1
    try:
        return _first_cluster(listener), False
    except DecodeError:
        return "", False


def _first_cluster(listener: Any) -> str:
    for chain in listener.filter_chains:
        for network_filter in chain.filters:
            if _type(network_filter.typed_config) == _TCP:
                proxy = TcpProxy.FromString(network_filter.typed_config.value)
                cluster = proxy.cluster or _weighted(proxy.weighted_clusters)
                if cluster:
                    return cluster
    for route_config in _route_configs(listener):
        for host in route_config.virtual_hosts:
            for route in host.routes:
                cluster = route.route.cluster or _weighted(route.route.weighted_clusters)
                if cluster:
                    return cluster
    return ""


def _weighted(clusters: Any) -> str:
    name: str = clusters.clusters[0].name if clusters.clusters else ""
    return name


def _type(config: Any) -> str:
    name: str = config.type_url.rpartition("/")[2]
    return name
