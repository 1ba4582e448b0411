"""What every node of a mesh has in common: a listener for each VIP and port, the clusters behind them."""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from envoy.config.core.v3.base_pb2 import Metadata, TrafficDirection
from envoy.config.listener.v3.listener_pb2 import Listener
from google.protobuf.wrappers_pb2 import BoolValue

from meshdns.publisher.mesh_view import MeshView, Outbound
from meshdns.publisher.packed import Packed
from meshdns.publisher.resources.clusters import packed_cluster, packed_endpoints
from meshdns.publisher.resources.filters import chain_to, socket_address
from meshdns.publisher.resources.packing import pack

TAGS_METADATA = "io.kuma.tags"

Resources = tuple[Mapping[str, Packed], Mapping[str, Packed], Mapping[str, Packed]]
"""Listeners, clusters, endpoints."""


@lru_cache(maxsize=4)
def resources(view: MeshView, reachable: frozenset[str] | None) -> Resources:
    """Give the outbound listeners, clusters and endpoints of *view*.

    reachable: the only services that the node is told of, None: all. Kept, because most nodes ask for the same.
    """
    outbounds = [each for each in view.outbounds if reachable is None or each.service in reachable]
    listeners = {each.name: _packed(each, view.bind) for each in outbounds}
    clusters, endpoints = {}, {}
    for name in {each.cluster for each in outbounds}:
        cluster = view.clusters[name]
        if cluster.discovery == "eds":
            endpoints[name] = packed_endpoints(name, cluster.endpoints)
            cluster = replace(cluster, endpoints=())  # the cluster is the same whatever they are
        clusters[name] = packed_cluster(cluster)
    return listeners, clusters, endpoints


@lru_cache(maxsize=2**16)
def _packed(outbound: Outbound, bind: bool) -> Packed:
    metadata = Metadata()
    metadata.filter_metadata[TAGS_METADATA].update(dict(outbound.tags))
    chain = chain_to(
        outbound.cluster,
        outbound.protocol,
        f"outbound:{outbound.service}",
        outbound.service,
        retry=True,
        rewrite=outbound.rewrite,
    )
    return pack(
        Listener(
            name=outbound.name,
            address=socket_address(str(outbound.address), outbound.port),
            filter_chains=[chain],
            metadata=metadata,
            traffic_direction=TrafficDirection.OUTBOUND,
            bind_to_port=BoolValue(value=bind),
        )
    )
