"""What a node has for its own services: a listener for each inbound, the workload behind it."""

from collections import Counter

from envoy.config.core.v3.base_pb2 import Metadata, TrafficDirection
from envoy.config.listener.v3.listener_pb2 import Listener
from google.protobuf.wrappers_pb2 import BoolValue

from meshdns.publisher.mesh_view import MeshView
from meshdns.publisher.model import Dataplane, Inbound
from meshdns.publisher.packed import Packed
from meshdns.publisher.resources.clusters import local_cluster
from meshdns.publisher.resources.filters import chain_to, socket_address
from meshdns.publisher.resources.outbound import TAGS_METADATA
from meshdns.publisher.resources.packing import pack


def add(view: MeshView, dataplane: Dataplane, listeners: dict[str, Packed], clusters: dict[str, Packed]) -> None:
    """Add the inbounds of *dataplane* to *listeners* and *clusters*.

    Where listeners bind, an inbound at the very address and port of its workload gets none: the workload is there.
    """
    inbounds = [
        each
        for each in dataplane.inbounds
        if each.state != "Ignored"
        and not (view.bind and (each.address, each.port) == (each.workload_address, each.workload_port))
    ]
    twice = Counter(each.workload_port for each in inbounds)
    for inbound in inbounds:
        host = f"[{inbound.address}]" if ":" in inbound.address else inbound.address
        cluster = f"localhost:{inbound.workload_port}"
        if twice[inbound.workload_port] > 1:  # two inbounds may differ in protocol or address of the workload
            cluster += f":{host}:{inbound.port}"
        name = f"inbound:{host}:{inbound.port}"
        listeners[name] = _listener(name, inbound, cluster, bind=view.bind)
        clusters[cluster] = local_cluster(cluster, inbound.protocol, inbound.workload_address, inbound.workload_port)


def _listener(name: str, inbound: Inbound, cluster: str, *, bind: bool) -> Packed:
    metadata = Metadata()
    metadata.filter_metadata[TAGS_METADATA].update(dict(inbound.tags))
    service = inbound.service or cluster
    chain = chain_to(cluster, inbound.protocol, f"inbound:{service}", service, retry=False)
    return pack(
        Listener(
            name=name,
            address=socket_address(inbound.address, inbound.port),
            filter_chains=[chain],
            metadata=metadata,
            traffic_direction=TrafficDirection.INBOUND,
            bind_to_port=BoolValue(value=bind),
        )
    )
