"""What listeners are made of: addresses, filter chains for TCP and HTTP."""

from typing import Any

from envoy.config.core.v3.address_pb2 import Address, Pipe, SocketAddress
from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain
from envoy.config.route.v3.route_components_pb2 import Route, RouteAction, RouteMatch, VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    HttpFilter,
)
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from meshdns.publisher.resources.packing import any_of

HTTP_PROTOCOLS = frozenset({"http", "http2", "grpc"})

_RETRY_ON = "connect-failure,refused-stream,reset-before-request"
"""Only what cannot have reached the service is tried again."""


def socket_address(host: str, port: int, *, udp: bool = False) -> Address:
    """Give an IP address (or, for clusters of type DNS, a name) and port."""
    protocol = SocketAddress.UDP if udp else SocketAddress.TCP
    return Address(socket_address=SocketAddress(protocol=protocol, address=host, port_value=port))


def pipe(path: str) -> Address:
    """Give a unix socket."""
    return Address(pipe=Pipe(path=path))


def tcp_chain(cluster: str, stat_prefix: str) -> FilterChain:
    """Give a chain that hands bytes to *cluster*."""
    proxy = TcpProxy(
        stat_prefix=stat_prefix, cluster=cluster, idle_timeout=Duration(seconds=3600),
        max_connect_attempts=UInt32Value(value=5),
    )  # fmt: skip
    return FilterChain(filters=[Filter(name="envoy.filters.network.tcp_proxy", typed_config=any_of(proxy))])


def http_chain(routes: RouteConfiguration, stat_prefix: str, **more: Any) -> FilterChain:
    """Give a chain that speaks HTTP, whichever version the client begins with."""
    manager = HttpConnectionManager(
        stat_prefix=stat_prefix,
        route_config=routes,
        http_filters=[HttpFilter(name="envoy.filters.http.router", typed_config=any_of(Router()))],
        **more,
    )
    name = "envoy.filters.network.http_connection_manager"
    return FilterChain(filters=[Filter(name=name, typed_config=any_of(manager))])


def routes_to(cluster: str, name: str, host: str, *, retry: bool, rewrite: bool = False) -> RouteConfiguration:
    """Give routes that send every request to *cluster*, whatever its host.

    retry: whether a request that reached nobody is tried again. rewrite: whether the host becomes the endpoint's.
    """
    action = RouteAction(cluster=cluster, timeout=Duration())  # 0: a long answer is not cut
    if retry:
        action.retry_policy.retry_on = _RETRY_ON
        action.retry_policy.num_retries.value = 3
    if rewrite:
        action.auto_host_rewrite.value = True
    route = Route(match=RouteMatch(prefix="/"), route=action)
    return RouteConfiguration(
        name=name,
        virtual_hosts=[VirtualHost(name=host, domains=["*"], routes=[route])],
        validate_clusters=BoolValue(value=False),  # an unknown cluster is a 503 for it, not the loss of the listener
    )


def chain_to(cluster: str, protocol: str, route_name: str, host: str, *, retry: bool, rewrite: bool = False) -> Any:
    """Give the chain for *protocol* that leads to *cluster*."""
    if protocol in HTTP_PROTOCOLS:
        return http_chain(routes_to(cluster, route_name, host, retry=retry, rewrite=rewrite), _prefix(host))
    return tcp_chain(cluster, _prefix(host))


def _prefix(name: str) -> str:
    return name.replace(":", "_").replace(".", "_")
