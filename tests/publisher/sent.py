"""What a node is sent, opened: snapshots and the messages in them."""

from collections.abc import Mapping
from typing import Any

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy
from google.protobuf.any_pb2 import Any as AnyMessage

from meshdns.publisher.mesh_view import MeshView
from meshdns.publisher.node import Node, read_node
from meshdns.publisher.packed import CLUSTER, ENDPOINT, LISTENER
from meshdns.publisher.snapshot import Snapshot, build_snapshot

EMBEDDED = ["feature-embedded-dns", "feature-transparent-proxy-in-dataplane-metadata"]

MESSAGES = {CLUSTER: Cluster, ENDPOINT: ClusterLoadAssignment, LISTENER: Listener}


def node(name: str = "observer", mesh: str = "default", **metadata: Any) -> Node:
    """A node that wants a table, in the dynconf encoding unless said otherwise. Underscores stand for dots."""
    given: dict[str, Any] = {"dataplane.dns.port": "15053", "workdir": "/run/meshdns", "features": EMBEDDED}
    given |= {key.replace("_", "."): value for key, value in metadata.items()}
    return read_node(f"{mesh}.{name}", given)


def opened(snapshot: Snapshot) -> dict[str, dict[str, Any]]:
    """Type URL → name → message; every name is that of its message."""
    found: dict[str, dict[str, Any]] = {}
    for type_url, resources in snapshot.resources.items():
        found[type_url] = {}
        for name, packed in resources.items():
            whole = AnyMessage.FromString(packed.any)
            assert whole.type_url == type_url
            message = MESSAGES[type_url].FromString(whole.value)
            assert (message.cluster_name if type_url == ENDPOINT else message.name) == name
            found[type_url][name] = message
    return found


def sent(view: MeshView, to: Node | None = None) -> tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]:
    """Listeners, clusters, endpoints by name."""
    found = opened(build_snapshot(view, to or node()))
    return found[LISTENER], found[CLUSTER], found[ENDPOINT]


def manager(listener: Any) -> Any:
    """The HTTP connection manager of a listener's only chain."""
    (chain,) = listener.filter_chains
    return HttpConnectionManager.FromString(chain.filters[0].typed_config.value)


def proxy(chain: Any) -> Any:
    """The TCP proxy of a chain."""
    return TcpProxy.FromString(chain.filters[0].typed_config.value)


def places(assignment: Any) -> dict[str, list[tuple[str, int, int]]]:
    """Zone → (address, port, weight)."""
    return {
        group.locality.zone: [
            (each.endpoint.address.socket_address.address, each.endpoint.address.socket_address.port_value,
             each.load_balancing_weight.value)
            for each in group.lb_endpoints
        ]
        for group in assignment.endpoints
    }  # fmt: skip
