"""Transparent interception: the listeners to which traffic is redirected, and what becomes of the rest of it.

A VIP without a listener is refused at once; other addresses are connected to as they are, unless the Mesh forbids it.
"""

from envoy.config.core.v3.address_pb2 import CidrRange
from envoy.config.core.v3.base_pb2 import TrafficDirection
from envoy.config.listener.v3.listener_components_pb2 import FilterChainMatch
from envoy.config.listener.v3.listener_pb2 import Listener
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from meshdns.publisher.mesh_view import MeshView
from meshdns.publisher.model import Dataplane
from meshdns.publisher.node import DEFAULT_OUTBOUND_PORT, Node
from meshdns.publisher.packed import Packed
from meshdns.publisher.resources.clusters import empty_cluster, original_destination_cluster
from meshdns.publisher.resources.filters import socket_address, tcp_chain
from meshdns.publisher.resources.packing import pack

OUTBOUND, INBOUND, NOWHERE = "outbound:passthrough:ipv4", "inbound:passthrough:ipv4", "outbound:nowhere"

_INBOUND_SOURCE = "127.0.0.6"
"""Kuma's (and Istio's) source address of passed-through inbound traffic, which interception leaves alone."""


def add(
    view: MeshView,
    dataplane: Dataplane | None,
    node: Node,
    listeners: dict[str, Packed],
    clusters: dict[str, Packed],
) -> None:
    """Add the redirect listeners of *node* to *listeners* and *clusters*; none where listeners bind."""
    if view.bind:
        return
    port = _first(node.redirect_outbound, dataplane.redirect_outbound if dataplane else 0, DEFAULT_OUTBOUND_PORT)
    if port:
        listeners[OUTBOUND] = _outbound(view, port)
        clusters[NOWHERE] = empty_cluster(NOWHERE)
        if view.passthrough:
            clusters[OUTBOUND] = original_destination_cluster(OUTBOUND)
    inbound_port = _first(node.redirect_inbound, dataplane.redirect_inbound if dataplane else 0, 0)
    if inbound_port and dataplane is not None and dataplane.inbounds:
        listeners[INBOUND] = _inbound(inbound_port)
        clusters[INBOUND] = original_destination_cluster(INBOUND, _INBOUND_SOURCE)


def _first(of_node: int | None, of_dataplane: int, default: int) -> int:
    return of_node if of_node is not None else of_dataplane or default


def _outbound(view: MeshView, port: int) -> Packed:
    network = view.network
    vips = tcp_chain(NOWHERE, "outbound_nowhere")
    vips.filter_chain_match.prefix_ranges.append(
        CidrRange(address_prefix=str(network.network_address), prefix_len=UInt32Value(value=network.prefixlen))
    )
    itself = tcp_chain(NOWHERE, "outbound_nowhere")  # dialled directly, it would pass to itself for ever
    itself.filter_chain_match.CopyFrom(FilterChainMatch(destination_port=UInt32Value(value=port)))
    vips.name, itself.name = "vips", "itself"
    rest = tcp_chain(OUTBOUND if view.passthrough else NOWHERE, "outbound_passthrough_ipv4")
    return pack(
        Listener(
            name=OUTBOUND,
            address=socket_address("0.0.0.0", port),
            filter_chains=[vips, itself],
            default_filter_chain=rest,
            use_original_dst=BoolValue(value=True),
            traffic_direction=TrafficDirection.OUTBOUND,
        )
    )


def _inbound(port: int) -> Packed:
    itself = tcp_chain(NOWHERE, "inbound_nowhere")
    itself.name = "itself"
    itself.filter_chain_match.CopyFrom(FilterChainMatch(destination_port=UInt32Value(value=port)))
    return pack(
        Listener(
            name=INBOUND,
            address=socket_address("0.0.0.0", port),
            filter_chains=[itself],
            default_filter_chain=tcp_chain(INBOUND, "inbound_passthrough_ipv4"),
            use_original_dst=BoolValue(value=True),
            traffic_direction=TrafficDirection.INBOUND,
        )
    )
