"""The messages of ``envoy.service.discovery.v3`` ↔ the session's values, both variants."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
    Resource,
)
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError

from meshdns.errors import ResourceError
from meshdns.publisher.session import Protocol, Request, Response

_RESOURCES, _RESOURCE = 2, 2
"""Field numbers: of the resources in either response, and of the Any in a delta response's resource."""


@dataclass(frozen=True, slots=True)
class Hail:
    """A request with the node that sent it. node_id: empty where the request says none (only the first must)."""

    request: Request
    node_id: str
    metadata: Mapping[str, Any]


def decode_request(message: bytes, protocol: Protocol, *, first: bool) -> Hail:
    """Read the request *message* of *protocol*; the node's metadata only of the *first*.

    Raises ResourceError when it is no request.
    """
    try:
        return _decode_delta(message, first) if protocol == "delta" else _decode_sotw(message, first)
    except DecodeError:
        raise ResourceError(f"a request of {len(message)} octets is not a discovery request") from None
    except RecursionError:
        raise ResourceError("the node's metadata is nested too deeply") from None


def encode_response(response: Response, protocol: Protocol) -> bytes:
    """Give *response* as the message of *protocol*; resources are copied as they are."""
    if protocol == "sotw":
        head: bytes = DiscoveryResponse(
            version_info=response.version, type_url=response.type_url, nonce=response.nonce
        ).SerializeToString()
        return head + b"".join(_field(_RESOURCES, packed.any) for packed in response.resources.values())
    parts = [
        DeltaDiscoveryResponse(
            system_version_info=response.version,
            type_url=response.type_url,
            nonce=response.nonce,
            removed_resources=response.removed,
        ).SerializeToString()
    ]
    for name, packed in response.resources.items():
        resource = Resource(name=name, version=packed.version).SerializeToString()
        parts.append(_field(_RESOURCES, resource + _field(_RESOURCE, packed.any)))
    return b"".join(parts)


def _decode_sotw(message: bytes, first: bool) -> Hail:
    request = DiscoveryRequest.FromString(message)
    return Hail(
        Request(
            request.type_url,
            request.response_nonce,
            request.version_info,
            tuple(request.resource_names),
            error=_error(request),
        ),
        request.node.id,
        _metadata(request) if first else {},
    )


def _decode_delta(message: bytes, first: bool) -> Hail:
    request = DeltaDiscoveryRequest.FromString(message)
    return Hail(
        Request(
            request.type_url,
            request.response_nonce,
            names=tuple(request.resource_names_subscribe),
            unsubscribed=tuple(request.resource_names_unsubscribe),
            initial_versions=dict(request.initial_resource_versions),
            error=_error(request),
        ),
        request.node.id,
        _metadata(request) if first else {},
    )


def _error(request: Any) -> str:
    if not request.HasField("error_detail"):
        return ""
    return request.error_detail.message or "refused without a reason"


def _metadata(request: Any) -> Mapping[str, Any]:
    metadata: Mapping[str, Any] = MessageToDict(request.node.metadata)
    return metadata


def _field(number: int, content: bytes) -> bytes:
    """Give *content* as the length-delimited field *number* (below 16) of a message."""
    return bytes((number << 3 | 2,)) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    octets = bytearray()
    while value > 0x7F:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)
