"""Listeners as Kuma builds them, and the discovery responses around them, for scenarios that nobody recorded."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy
from envoy.extensions.filters.udp.dns_filter.v3.dns_filter_pb2 import DnsFilterConfig
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryResponse, DiscoveryResponse
from google.protobuf.any_pb2 import Any as AnyMessage

TYPE = "type.googleapis.com/envoy.config.listener.v3.Listener"
V3ALPHA = "type.googleapis.com/envoy.extensions.filters.udp.dns_filter.v3alpha.DnsFilterConfig"


def document(names: Mapping[str, Sequence[str]], **more: Any) -> str:
    """The ``/dns`` document."""
    records = [{"name": name, "ips": list(ips)} for name, ips in names.items()]
    return json.dumps({"records": records, "ttl": 30, **more}, separators=(",", ":"))


def dynconf(body: str | bytes, name: str = "_kuma:dynamicconfig", *, pipe: bool = True) -> Any:
    """The listener of the ``/dns`` route: the route that answers 304 first."""
    octets = body if isinstance(body, bytes) else body.encode()
    digest = hashlib.sha256(octets).hexdigest()
    manager = HttpConnectionManager(stat_prefix="dynconf")
    host = manager.route_config.virtual_hosts.add(name=name, domains=["*"])
    unmodified = host.routes.add()
    unmodified.match.path = "/dns"
    unmodified.match.headers.add(name="If-None-Match").string_match.exact = digest
    unmodified.direct_response.status = 304
    other = host.routes.add()
    other.match.path = "/meshmetric"
    other.direct_response.status = 200
    other.direct_response.body.inline_string = "{}"
    route = host.routes.add(name=f"{name}:/dns")
    route.match.path = "/dns"
    route.direct_response.status = 200
    if isinstance(body, bytes):
        route.direct_response.body.inline_bytes = body
    else:
        route.direct_response.body.inline_string = body
    listener = Listener(name=name)
    if pipe:
        listener.address.pipe.path = "/var/lib/meshdns/kuma-mesh-metric-config.sock"
    listener.filter_chains.add().filters.add(name="hcm").typed_config.Pack(manager)
    return listener


def dns_filter(
    names: Mapping[str, Sequence[str]], name: str = "kuma:dns", *, ttl: int | None = 30, alpha: bool = False
) -> Any:
    """The listener of Envoy's own DNS filter. alpha: as sent to an Envoy before 1.20."""
    config = DnsFilterConfig(stat_prefix="kuma_dns")
    config.server_config.inline_dns_table.SetInParent()
    for host, ips in names.items():
        domain = config.server_config.inline_dns_table.virtual_domains.add(name=host)
        domain.endpoint.address_list.address.extend(ips)
        if ttl is not None:
            domain.answer_ttl.seconds = ttl
    listener = Listener(name=name, traffic_direction=1)
    listener.address.socket_address.protocol = 1
    listener.address.socket_address.address = "127.0.0.1"
    listener.address.socket_address.port_value = 15053
    typed = listener.listener_filters.add(name="envoy.filters.udp.dns_filter").typed_config
    typed.Pack(config)
    if alpha:
        typed.type_url = V3ALPHA
    return listener


def outbound(
    address: str,
    port: int,
    service: str = "",
    *,
    name: str = "",
    tags: Mapping[str, str] | None = None,
    cluster: str = "",
    http: bool = False,
    more: Iterable[str] = (),
) -> Any:
    """An outbound listener. service: its ``kuma.io/service`` tag. more: additional addresses."""
    listener = Listener(name=name or f"outbound:{address}:{port}", traffic_direction=2)
    listener.address.socket_address.address = address
    listener.address.socket_address.port_value = port
    for extra in more:
        socket = listener.additional_addresses.add().address.socket_address
        socket.address, socket.port_value = extra, port
    tags = tags if tags is not None else {"kuma.io/service": service} if service else None
    if tags is not None:
        listener.metadata.filter_metadata["io.kuma.tags"].update(dict(tags))
    typed = listener.filter_chains.add().filters.add(name="f").typed_config
    if http:
        manager = HttpConnectionManager(stat_prefix="s")
        route = manager.route_config.virtual_hosts.add(name="v", domains=["*"]).routes.add()
        route.match.prefix = "/"
        split = route.route.weighted_clusters.clusters.add(name=cluster)
        split.weight.value = 1
        typed.Pack(manager)
    else:
        typed.Pack(TcpProxy(stat_prefix="s", cluster=cluster))
    return listener


def passthrough(address: str = "0.0.0.0", name: str = "outbound:passthrough:ipv4") -> Any:
    """What every transparent proxy has."""
    return outbound(address, 15001, name=name, cluster=name)


def packed(listener: Any) -> Any:
    """*listener* as an Any."""
    message = AnyMessage()
    message.Pack(listener)
    return message


def delta(version: str, listeners: Iterable[Any] = (), removed: Iterable[str] = ()) -> Any:
    """A DeltaDiscoveryResponse; each resource's version is a hash of its content, as kuma-cp's are."""
    response = DeltaDiscoveryResponse(system_version_info=version, type_url=TYPE, removed_resources=list(removed))
    for listener in listeners:
        item = response.resources.add(name=listener.name)
        item.resource.Pack(listener)
        item.version = hashlib.sha256(item.resource.value).hexdigest()
    return response


def sotw(version: str, listeners: Iterable[Any] = ()) -> Any:
    """A DiscoveryResponse."""
    response = DiscoveryResponse(version_info=version, type_url=TYPE)
    for listener in listeners:
        response.resources.add().Pack(listener)
    return response
