"""The table of names as a listener, in either of Kuma's encodings.

``kuma:dns`` (a dns_filter on UDP, Kuma 1.2 to 2.14), and for a node with ``feature-embedded-dns`` (2.11 and later)
``_kuma:dynamicconfig``: a unix socket where ``GET /dns`` gives a JSON document, and 304 to who has it already.
"""

import hashlib
import json
import os
from functools import lru_cache

from envoy.config.core.v3.base_pb2 import DataSource, HeaderValue, HeaderValueOption, TrafficDirection
from envoy.config.listener.v3.listener_components_pb2 import ListenerFilter
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_components_pb2 import (
    DirectResponseAction,
    HeaderMatcher,
    Route,
    RouteMatch,
    VirtualHost,
)
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.data.dns.v3.dns_table_pb2 import DnsTable
from envoy.extensions.filters.udp.dns_filter.v3.dns_filter_pb2 import DnsFilterConfig
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from meshdns.inventory.record import DEFAULT_TTL
from meshdns.publisher.mesh_view import Hostname, MeshView
from meshdns.publisher.model import Dataplane, tag
from meshdns.publisher.node import BIND_OUTBOUNDS, EMBEDDED_DNS, Node
from meshdns.publisher.packed import Packed
from meshdns.publisher.resources.filters import http_chain, pipe, socket_address
from meshdns.publisher.resources.packing import any_of, pack

FILTER, DYNAMIC = "kuma:dns", "_kuma:dynamicconfig"

SOCKET = "kuma-mesh-metric-config.sock"

MAX_SOCKET_PATH = 107
"""Octets of a unix socket's path on Linux; Envoy refuses a longer one."""

_PATH = "/dns"
_ZONE = "default"
_LABELS = (("kuma.io/workload", "kuma_workload"), ("k8s.kuma.io/namespace", "k8s_kuma_io_namespace"))


def add(view: MeshView, dataplane: Dataplane | None, node: Node, listeners: dict[str, Packed]) -> None:
    """Add the table to *listeners*, if *node* wants one (it names a port for DNS): names whose VIP it can reach."""
    if not node.dns_port or BIND_OUTBOUNDS in node.features:
        return
    ipv6 = node.ipv6 if node.ipv6 is not None else dataplane is None or dataplane.ipv6
    hostnames = view.hostnames
    if dataplane is not None and dataplane.reachable is not None:
        reached = {each.address for each in view.outbounds if each.service in dataplane.reachable}
        hostnames = tuple(each for each in hostnames if each.vip in reached)
    path = f"{node.workdir.rstrip('/')}/{SOCKET}"
    if EMBEDDED_DNS in node.features and node.workdir and len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        labels = {"kuma_io_zone": _ZONE, "mesh": view.mesh}
        for key, label in _LABELS:
            value = tag(dataplane.labels, key) if dataplane is not None else None
            if value:
                labels[label] = value
        listeners[DYNAMIC] = _dynamic(_document(hostnames, ipv6, tuple(sorted(labels.items()))), path)
    else:
        listeners[FILTER] = _filter(hostnames, ipv6, node.dns_port)


@lru_cache(maxsize=8)
def _document(hostnames: tuple[Hostname, ...], ipv6: bool, labels: tuple[tuple[str, str], ...]) -> str:
    records = [{"name": each.name, "ips": each.addresses(ipv6)} for each in hostnames]
    document = {"records": records, "ttl": DEFAULT_TTL, "extraLabels": dict(labels)}
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


@lru_cache(maxsize=64)
def _dynamic(body: str, path: str) -> Packed:
    tag = hashlib.sha256(body.encode()).hexdigest()
    known = HeaderMatcher(name="If-None-Match", string_match=StringMatcher(exact=tag))
    etag = HeaderValueOption(header=HeaderValue(key="Etag", value=tag))
    same = Route(
        match=RouteMatch(path=_PATH, headers=[known]),
        direct_response=DirectResponseAction(status=304),
        response_headers_to_add=[etag],
    )
    whole = Route(
        name=f"{DYNAMIC}:{_PATH}",
        match=RouteMatch(path=_PATH),
        direct_response=DirectResponseAction(status=200, body=DataSource(inline_string=body)),
        response_headers_to_add=[etag],
    )
    routes = RouteConfiguration(
        virtual_hosts=[VirtualHost(name=DYNAMIC, domains=["*"], routes=[same, whole])],
        # Envoy refuses a longer body than this, and 4,096 octets without it
        max_direct_response_body_size_bytes=UInt32Value(value=len(body.encode())),
    )
    return pack(Listener(name=DYNAMIC, address=pipe(path), filter_chains=[http_chain(routes, "kuma_dynamicconfig")]))


@lru_cache(maxsize=8)
def _filter(hostnames: tuple[Hostname, ...], ipv6: bool, port: int) -> Packed:
    table = DnsTable()
    for each in hostnames:
        domain = table.virtual_domains.add(name=each.name, answer_ttl=Duration(seconds=DEFAULT_TTL))
        domain.endpoint.address_list.address.extend(each.addresses(ipv6))
    config = DnsFilterConfig(stat_prefix="kuma_dns")
    config.server_config.inline_dns_table.CopyFrom(table)
    return pack(
        Listener(
            name=FILTER,
            address=socket_address("127.0.0.1", port, udp=True),
            listener_filters=[ListenerFilter(name="envoy.filters.udp.dns_filter", typed_config=any_of(config))],
            enable_reuse_port=BoolValue(value=True),
            traffic_direction=TrafficDirection.INBOUND,
        )
    )
