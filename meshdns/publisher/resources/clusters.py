"""Clusters and their endpoints."""

from collections import defaultdict
from functools import lru_cache
from typing import Any

from envoy.config.cluster.v3.cluster_pb2 import Cluster as ClusterMessage
from envoy.config.core.v3.base_pb2 import DataSource, Locality, TransportSocket
from envoy.config.core.v3.config_source_pb2 import AggregatedConfigSource, ApiVersion, ConfigSource
from envoy.config.core.v3.protocol_pb2 import Http1ProtocolOptions, Http2ProtocolOptions
from envoy.config.endpoint.v3.endpoint_components_pb2 import Endpoint as EndpointMessage
from envoy.config.endpoint.v3.endpoint_components_pb2 import LbEndpoint, LocalityLbEndpoints
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import CertificateValidationContext
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import UpstreamTlsContext
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import UInt32Value

from meshdns.publisher.cluster import Cluster, Endpoint
from meshdns.publisher.model import ExternalTls
from meshdns.publisher.packed import Packed
from meshdns.publisher.resources.filters import socket_address
from meshdns.publisher.resources.packing import any_of, pack

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_CONNECT_TIMEOUT = 5
_ADS = ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)


@lru_cache(maxsize=2**16)
def packed_cluster(cluster: Cluster) -> Packed:
    """Give the cluster resource. For ``eds`` its endpoints are no part of it: give ``cluster`` without them."""
    message = _message(cluster.name, cluster.protocol)
    if cluster.discovery == "eds":
        message.type = ClusterMessage.EDS
        message.eds_cluster_config.eds_config.CopyFrom(_ADS)
        return pack(message)
    message.load_assignment.CopyFrom(_assignment(cluster.name, cluster.endpoints))
    message.type = ClusterMessage.STATIC if cluster.discovery == "static" else ClusterMessage.STRICT_DNS
    if cluster.tls is not None:
        message.transport_socket.CopyFrom(_tls(cluster.tls, cluster.protocol))
    return pack(message)


@lru_cache(maxsize=2**16)
def packed_endpoints(name: str, endpoints: tuple[Endpoint, ...]) -> Packed:
    """Give the ClusterLoadAssignment of the cluster *name*."""
    return pack(_assignment(name, endpoints))


def local_cluster(name: str, protocol: str, address: str, port: int) -> Packed:
    """Give the cluster of a node's own workload."""
    message = _message(name, protocol)
    message.type = ClusterMessage.STATIC
    message.load_assignment.CopyFrom(_assignment(name, (Endpoint(address, port),)))
    return pack(message)


def original_destination_cluster(name: str, source: str = "") -> Packed:
    """Give a cluster that connects to where the client wanted. source: the address to connect from."""
    message = _message(name, "tcp")
    message.type = ClusterMessage.ORIGINAL_DST
    message.lb_policy = ClusterMessage.CLUSTER_PROVIDED
    if source:
        message.upstream_bind_config.source_address.address = source
        message.upstream_bind_config.source_address.port_value = 0
    return pack(message)


def empty_cluster(name: str) -> Packed:
    """Give a cluster that leads nowhere: what is sent to it is refused at once."""
    message = _message(name, "tcp")
    message.type = ClusterMessage.STATIC
    message.load_assignment.cluster_name = name
    return pack(message)


def _message(name: str, protocol: str) -> Any:
    message = ClusterMessage(name=name, connect_timeout=Duration(seconds=_CONNECT_TIMEOUT))
    options = HttpProtocolOptions()
    if protocol in ("http2", "grpc"):
        options.explicit_http_config.http2_protocol_options.CopyFrom(Http2ProtocolOptions())
    elif protocol == "http":
        # a workload without a data plane of its own need not know HTTP/2
        options.explicit_http_config.http_protocol_options.CopyFrom(Http1ProtocolOptions())
    else:
        return message
    message.typed_extension_protocol_options[_HTTP_OPTIONS].CopyFrom(any_of(options))
    return message


def _assignment(name: str, endpoints: tuple[Endpoint, ...]) -> Any:
    by_zone: dict[str, list[Endpoint]] = defaultdict(list)
    for endpoint in endpoints:
        by_zone[endpoint.zone].append(endpoint)
    return ClusterLoadAssignment(
        cluster_name=name,
        endpoints=[
            LocalityLbEndpoints(
                locality=Locality(zone=zone),  # also where it is empty: gRPC's own client refuses endpoints without one
                load_balancing_weight=UInt32Value(value=sum(each.weight for each in group)),
                lb_endpoints=[
                    LbEndpoint(
                        endpoint=EndpointMessage(address=socket_address(each.address, each.port)),
                        load_balancing_weight=UInt32Value(value=each.weight),
                    )
                    for each in group
                ],
            )
            for zone, group in sorted(by_zone.items())
        ],
    )


def _tls(tls: ExternalTls, protocol: str) -> Any:
    context = UpstreamTlsContext(sni=tls.server_name)
    if tls.authority:
        validation = CertificateValidationContext(trusted_ca=DataSource(inline_string=tls.authority))
        if tls.verify_name and tls.server_name:
            matcher = validation.match_typed_subject_alt_names.add()
            matcher.san_type = 2  # DNS
            matcher.matcher.exact = tls.server_name
        context.common_tls_context.validation_context.CopyFrom(validation)
    if protocol in ("http2", "grpc"):
        context.common_tls_context.alpn_protocols.append("h2")
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=any_of(context))
