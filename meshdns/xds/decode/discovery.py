"""The messages of ``envoy.service.discovery.v3`` ↔ the session's values, both variants."""

from envoy.config.core.v3.base_pb2 import Node as NodeMessage
from envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)
from google.protobuf.message import DecodeError

from meshdns.errors import ResourceError
from meshdns.xds.node import Node
from meshdns.xds.session import Protocol, Request, Resource, Response

INVALID_ARGUMENT = 3
"""google.rpc.Code, what a NACK carries."""


def encode_request(request: Request, protocol: Protocol) -> bytes:
    """Give *request* as the message of *protocol*."""
    return _encode_delta(request) if protocol == "delta" else _encode_sotw(request)


def decode_response(message: bytes, protocol: Protocol) -> Response:
    """Read the response *message* of *protocol*. Raises ResourceError when it is none."""
    try:
        return _decode_delta(message) if protocol == "delta" else _decode_sotw(message)
    except DecodeError:
        raise ResourceError(f"a response of {len(message)} octets is not a discovery response") from None


def _encode_sotw(request: Request) -> bytes:
    message = DiscoveryRequest(
        version_info=request.version,
        node=_node(request.node),
        type_url=request.type_url,
        response_nonce=request.nonce,
    )
    if request.error:
        message.error_detail.code = INVALID_ARGUMENT
        message.error_detail.message = request.error
    encoded: bytes = message.SerializeToString()
    return encoded


def _encode_delta(request: Request) -> bytes:
    message = DeltaDiscoveryRequest(
        node=_node(request.node),
        type_url=request.type_url,
        response_nonce=request.nonce,
        initial_resource_versions=dict(request.initial_versions),
    )
    if request.error:
        message.error_detail.code = INVALID_ARGUMENT
        message.error_detail.message = request.error
    encoded: bytes = message.SerializeToString()
    return encoded


def _node(node: Node) -> NodeMessage:
    message = NodeMessage(id=node.id, cluster=node.cluster, user_agent_name=node.user_agent)
    message.metadata.update(dict(node.metadata))
    return message


def _decode_sotw(message: bytes) -> Response:
    response = DiscoveryResponse.FromString(message)
    resources = tuple(Resource(any_.type_url, any_.value) for any_ in response.resources)
    return Response(response.type_url, response.version_info, response.nonce, resources)


def _decode_delta(message: bytes) -> Response:
    response = DeltaDiscoveryResponse.FromString(message)
    resources = tuple(
        Resource(
            item.resource.type_url,
            item.resource.value if item.HasField("resource") else None,
            item.name,
            item.version,
        )
        for item in response.resources
    )
    return Response(
        response.type_url,
        response.system_version_info,
        response.nonce,
        resources,
        tuple(response.removed_resources),
    )
