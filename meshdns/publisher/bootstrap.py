"""What an Envoy must be told to begin: who it is, and where its control plane is. A document, not a message."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from meshdns.publisher.node import EMBEDDED_DNS
from meshdns.publisher.session import Protocol

CLUSTER_NAME = "ads_cluster"
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_TYPES = "type.googleapis.com/"


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """Where the ADS server is.

    host: an address or a name. authority: PEM that signed its certificate, empty: plaintext. token: of this data
    plane, empty: none.
    """

    host: str
    port: int
    authority: str = ""
    token: str = ""


@dataclass(frozen=True, slots=True)
class Proxy:
    """An Envoy. admin_port: 0 takes a free one. dns_port: where its own DNS filter is to listen, 0: nowhere.

    workdir: directory for the socket of Kuma's newer way to tell names. resource: a Dataplane that it brings along.
    """

    mesh: str
    name: str
    admin_port: int = 0
    dns_port: int = 0
    workdir: str = ""
    resource: str = ""


def bootstrap(proxy: Proxy, control_plane: ControlPlane, protocol: Protocol) -> dict[str, Any]:
    """Give the whole bootstrap document of *proxy*."""
    service: dict[str, Any] = {"envoy_grpc": {"cluster_name": CLUSTER_NAME}}
    if control_plane.token:
        service["initial_metadata"] = [{"key": "authorization", "value": control_plane.token}]
    # without a limit: an Envoy that begins before its control plane waits for it, instead of serving nothing
    ads = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    return {
        "node": {"id": f"{proxy.mesh}.{proxy.name}", "cluster": proxy.name, "metadata": dict(_metadata(proxy))},
        "admin": {"address": _address("127.0.0.1", proxy.admin_port)},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC" if protocol == "delta" else "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [service],
            },
            "cds_config": ads,
            "lds_config": dict(ads),
        },
        "static_resources": {"clusters": [_cluster(control_plane)]},
    }


def _metadata(proxy: Proxy) -> Mapping[str, Any]:
    metadata: dict[str, Any] = {"dataplane.proxyType": "dataplane"}
    if proxy.dns_port:
        metadata["dataplane.dns.port"] = str(proxy.dns_port)
    if proxy.workdir:
        metadata["workdir"] = proxy.workdir
        metadata["features"] = [EMBEDDED_DNS]
    if proxy.resource:
        metadata["dataplane.resource"] = proxy.resource
    return metadata


def _cluster(control_plane: ControlPlane) -> dict[str, Any]:
    literal = is_literal(control_plane.host)
    http2 = {"connection_keepalive": {"interval": "30s", "timeout": "5s"}}
    cluster: dict[str, Any] = {
        "name": CLUSTER_NAME,
        "type": "STATIC" if literal else "STRICT_DNS",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            _HTTP_OPTIONS: {
                "@type": _TYPES + _HTTP_OPTIONS,
                "explicit_http_config": {"http2_protocol_options": http2},
            }
        },
        "load_assignment": {
            "cluster_name": CLUSTER_NAME,
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": _address(control_plane.host, control_plane.port)}}]}
            ],
        },
    }
    if control_plane.authority:
        cluster["transport_socket"] = _tls(control_plane, literal)
    return cluster


def _tls(control_plane: ControlPlane, literal: bool) -> dict[str, Any]:
    name = {"san_type": "IP_ADDRESS" if literal else "DNS", "matcher": {"exact": control_plane.host}}
    context: dict[str, Any] = {
        "@type": _TYPES + "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {
            "alpn_protocols": ["h2"],
            "validation_context": {
                "trusted_ca": {"inline_string": control_plane.authority},
                "match_typed_subject_alt_names": [name],
            },
        },
    }
    if not literal:
        context["sni"] = control_plane.host
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def is_literal(host: str) -> bool:
    """Tell whether *host* is an IP address, not a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
