"""What of a node's id and metadata counts."""

from typing import Any

import pytest

from meshdns.errors import ResourceError
from meshdns.publisher.node import Node, read_node

FEATURE = ["feature-transparent-proxy-in-dataplane-metadata"]

NODES: list[tuple[str, dict[str, Any], Node]] = [
    ("default.web-1", {}, Node("default", "web-1")),
    ("default.pod.ns", {}, Node("default", "pod.ns")),
    (
        "m.d",
        {"dataplane.dns.port": "15053", "workdir": "/run", "dataplane.resource": "type: Dataplane"},
        Node("m", "d", dns_port=15053, workdir="/run", resource="type: Dataplane"),
    ),
    ("m.d", {"dataplane.dns.port": 15053.0}, Node("m", "d", dns_port=15053)),
    ("m.d", {"dataplane.dns.port": "x", "workdir": 5, "features": "y", "dataplane.resource": []}, Node("m", "d")),
    ("m.d", {"dataplane.dns.port": True}, Node("m", "d")),
    ("m.d", {"dataplane.dns.port": 70000.0}, Node("m", "d")),
    ("m.d", {"dataplane.dns.port": 0.5}, Node("m", "d")),
    ("m.d", {"features": ["a", 5]}, Node("m", "d", frozenset({"a"}))),
    (
        "m.d",
        {"features": FEATURE},
        Node("m", "d", frozenset(FEATURE), ipv6=True, redirect_inbound=15006, redirect_outbound=15001),
    ),
    (
        "m.d",
        {
            "features": FEATURE,
            "transparentProxy": {"ipFamilyMode": "IPv4", "redirect": {"inbound": {"enabled": False}}},
        },
        Node("m", "d", frozenset(FEATURE), ipv6=False, redirect_inbound=0, redirect_outbound=15001),
    ),
    ("m.d", {"transparentProxy": {"ipFamilyMode": "IPv4"}}, Node("m", "d")),
]


@pytest.mark.parametrize(("node_id", "metadata", "expected"), NODES)
def test_a_node_is_read(node_id: str, metadata: dict[str, Any], expected: Node) -> None:
    assert read_node(node_id, metadata) == expected


@pytest.mark.parametrize("node_id", ["", "default", "default.", ".web"])
def test_an_id_that_is_none_is_refused(node_id: str) -> None:
    with pytest.raises(ResourceError, match="must have a valid Proxy ID"):
        read_node(node_id, {})
