"""Who we say we are: the node of an observer Dataplane, which sees the whole table and serves nothing.

A DELEGATED gateway without inbounds is no endpoint of any service and takes no VIP. Transparent proxying is stated
twice, in the metadata (read since 2.11) and in the Dataplane (read before): without it no control plane sends names.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from meshdns.xds.settings import KumaSettings

DNS_PORT = 15053
INBOUND_PORT = 15006
OUTBOUND_PORT = 15001
EMPTY_DNS_PORT = 15055
"""Read by 2.0 to 2.5 only; a string that is not zero is all they want."""

KUMA_DP_VERSION = "2.14.3"
"""The kuma-dp that we stand in for. Control planes from 2.7 to 3.0 took it; they only compare it for warnings."""

ENVOY_VERSION = "1.34.1"

WORKDIR = "/var/lib/meshdns"
"""The control plane only prints the path of a socket with it; nothing is made there."""


@dataclass(frozen=True, slots=True)
class Node:
    """``envoy.config.core.v3.Node`` as far as Kuma reads it. metadata: JSON values."""

    id: str
    cluster: str
    metadata: Mapping[str, Any]
    user_agent: str = "meshdns"


def observer_node(settings: KumaSettings, protocol: Literal["delta", "sotw"]) -> Node:
    """Give the node for one stream of *protocol*."""
    features = ["feature-embedded-dns", "feature-transparent-proxy-in-dataplane-metadata"]
    if protocol == "delta":
        features.append("feature-delta-grpc")
    metadata: dict[str, Any] = {
        "version": {
            "kumaDp": {
                "version": KUMA_DP_VERSION,
                "gitTag": f"v{KUMA_DP_VERSION}",
                "gitCommit": "unknown",
                "buildDate": "unknown",
            },
            "envoy": {
                "version": ENVOY_VERSION,
                "build": f"unknown/{ENVOY_VERSION}/Clean/RELEASE/BoringSSL",
                "kumaDpCompatible": True,
            },
        },
        "features": features,
        "workdir": WORKDIR,
        "dataplane.proxyType": "dataplane",
        "dataplane.dns.port": str(DNS_PORT),
        "dataplane.dns.empty.port": str(EMPTY_DNS_PORT),
        "transparentProxy": {
            "ipFamilyMode": "dualstack",
            "redirect": {
                "inbound": {"enabled": True, "port": INBOUND_PORT},
                "outbound": {"enabled": True, "port": OUTBOUND_PORT},
                "dns": {"enabled": True, "port": DNS_PORT},
                "vnet": {},
            },
        },
    }
    if settings.register_dataplane:
        metadata["dataplane.resource"] = json.dumps(observer_dataplane(settings.mesh, settings.dataplane))
    return Node(f"{settings.mesh}.{settings.dataplane}", settings.dataplane, metadata)


def observer_dataplane(mesh: str, name: str) -> dict[str, Any]:
    """Give the Dataplane resource of an observer; the same that an operator creates where ``register`` is false."""
    return {
        "type": "Dataplane",
        "mesh": mesh,
        "name": name,
        "networking": {
            "address": "127.0.0.1",
            "gateway": {"type": "DELEGATED", "tags": {"kuma.io/service": name}},
            "transparentProxying": {
                "redirectPortInbound": INBOUND_PORT,
                "redirectPortOutbound": OUTBOUND_PORT,
            },
        },
    }
