"""Names and listeners joined: ports, placeholders, services, and what is noticed."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any

import pytest

from meshdns.inventory.record import Table
from meshdns.xds.decode.join import Joined, join
from meshdns.xds.decode.kuma import decode_listener
from meshdns.xds.session import LISTENER, Resource
from tests.xds.listeners import document, dynconf, outbound

ZONES = ("mesh", "mesh.local")


def joined(
    names: Mapping[str, Sequence[str]], *listeners: Any, previous: Table | None = None, service_vip_port: int = 80
) -> Joined:
    pieces = dict(
        decode_listener(Resource(LISTENER, listener.SerializeToString()), "v1", source="kuma")
        for listener in (dynconf(document(names)), *listeners)
    )
    return join(pieces, zones=ZONES, previous=previous, service_vip_port=service_vip_port)


def ports(result: Joined, name: str) -> list[tuple[int, str, bool]]:
    return [(port.number, port.target, port.placeholder) for port in result.table.records[name].ports]


A, B = "240.0.0.1", "240.0.0.2"
KRI = "kri_msvc_default_zone-1_ns_backend_http"
VO = {"kuma.io/service": "web", "version": "v1"}

CASES = [
    # legacy services: 80 stands for the port in the name
    ("other port", {"b_ns_svc_3001.mesh": [A]}, [outbound(A, 80, "b_ns_svc_3001")], [(80, "b_ns_svc_3001", True)]),
    ("dotted", {"b.ns.svc.3001.mesh": [A]}, [outbound(A, 80, "b_ns_svc_3001")], [(80, "b_ns_svc_3001", True)]),
    ("same port", {"b_ns_svc_80.mesh": [A]}, [outbound(A, 80, "b_ns_svc_80")], [(80, "b_ns_svc_80", False)]),
    ("universal", {"redis.mesh": [A]}, [outbound(A, 80, "redis")], [(80, "redis", True)]),
    ("capitals", {"Legacy_App.mesh": [A]}, [outbound(A, 80, "Legacy_App")], [(80, "Legacy_App", True)]),
    ("second zone", {"redis.mesh.local": [A]}, [outbound(A, 80, "redis")], [(80, "redis", True)]),
    ("mapped only", {"redis.mesh": [f"::ffff:{A}"]}, [outbound(A, 80, "redis")], [(80, "redis", True)]),
    # ExternalServices: the service's VIP, and the VIP of the real host
    (
        "external",
        {"my_ext.mesh": [A]},
        [outbound(A, 80, "my_ext"), outbound(A, 443, "my_ext")],
        [(80, "my_ext", True), (443, "my_ext", False)],
    ),
    (
        "host",
        {"httpbin.org": [A]},
        [outbound(A, 80, "my_ext"), outbound(A, 443, "my_ext")],
        [(80, "my_ext", True), (443, "my_ext", False)],
    ),
    ("host, really 80", {"httpbin.org": [A]}, [outbound(A, 80, "my_ext")], [(80, "my_ext", False)]),
    (
        "host of two services",
        {"httpbin.org": [A]},
        [outbound(A, 80, "plain"), outbound(A, 443, "secure")],
        [(80, "plain", False), (443, "secure", False)],
    ),
    # never: VirtualOutbound, crossMesh gateway, the new generation
    ("virtual outbound", {"web.v1.mesh": [A]}, [outbound(A, 80, tags=VO)], [(80, "web", False)]),
    ("virtual outbound, one tag", {"shop.mesh": [A]}, [outbound(A, 80, "web")], [(80, "web", False)]),
    ("shadowing", {"redis.mesh": [A]}, [outbound(A, 6380, "redis")], [(6380, "redis", False)]),
    (
        "cross mesh",
        {"internal.edge.payments.mesh": [A]},
        [outbound(A, 8080, tags={"kuma.io/service": "edge_gw", "expose": "yes"})],
        [(8080, "edge_gw", False)],
    ),
    ("kri", {"b.svc.mesh.local": [A]}, [outbound(A, 80, tags={"kuma.io/unified-name": KRI})], [(80, KRI, False)]),
    ("cluster", {"b.svc.mesh.local": [A]}, [outbound(A, 80, tags={}, cluster="b.svc")], [(80, "b.svc", False)]),
    ("sorted", {"b.mesh": [A]}, [outbound(A, 443, "x"), outbound(A, 80, "x")], [(80, "x", False), (443, "x", False)]),
    (
        "two VIPs",
        {"b.mesh": [A, B]},
        [outbound(B, 90, "y"), outbound(A, 91, "x")],
        [(90, "y", False), (91, "x", False)],
    ),
    ("no listener", {"b.mesh": [A]}, [outbound(B, 80, "b")], []),
]


@pytest.mark.parametrize(
    ("names", "listeners", "wanted"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_ports(names: dict[str, list[str]], listeners: list[Any], wanted: list[tuple[int, str, bool]]) -> None:
    (name,) = names
    assert ports(joined(names, *listeners), name.lower()) == wanted


def test_the_placeholder_follows_the_control_planes_setting() -> None:
    result = joined({"redis.mesh": [A]}, outbound(A, 8000, "redis"), outbound(A, 80, "redis"), service_vip_port=8000)
    assert ports(result, "redis.mesh") == [(80, "redis", False), (8000, "redis", True)]


@pytest.mark.parametrize(
    ("names", "listeners", "service"),
    [
        (["echo.mesh"], [outbound(A, 80, "echo")], "echo"),
        (["web.mesh"], [outbound(A, 80, "other"), outbound(A, 443, "web")], "web"),
        (["b.x.mesh"], [outbound(A, 90, "other"), outbound(A, 80, "first")], "first"),
        (["b.x.mesh"], [outbound(A, 80, tags={"kuma.io/unified-name": KRI})], "kri_msvc_default_zone-1_ns_backend_"),
        (["b.x.mesh"], [outbound(B, 80, "b")], None),
        (["b.x.mesh"], [], None),
    ],
)
def test_service(names: list[str], listeners: list[Any], service: str | None) -> None:
    result = joined({name: [A] for name in names}, *listeners)
    assert result.table.records[names[0]].service == service


def test_the_table_is_lenient_and_holds_every_listener() -> None:
    result = joined({}, outbound(A, 80, "echo", more=["10.43.0.1"]), outbound("192.0.2.10", 9000, "ext"))
    assert result.table.lenient
    assert result.table.listeners == {
        (ip_address(A), 80): "echo",
        (ip_address("10.43.0.1"), 80): "echo",
        (ip_address("192.0.2.10"), 9000): "ext",
    }


def test_a_vip_without_a_listener_is_noticed_once() -> None:
    names = {f"n{number}.mesh": [A] for number in range(7)}
    (line,) = joined(names, outbound(B, 80, "b")).notices
    assert line == f"no listener at {A}, the address of n0.mesh, n1.mesh, n2.mesh, n3.mesh, n4.mesh and 2 more: " + (
        "no port accepts there"
    )


def test_a_source_without_listeners_lacks_none() -> None:
    assert joined({"b.mesh": [A]}).notices == ()


@pytest.mark.parametrize(
    ("old", "new", "noticed"),
    [
        ("240.0.0.9", "241.0.0.1", True),
        ("240.0.0.9", "240.255.0.1", False),
        ("241.0.0.1", "242.0.0.1", True),
        ("fd00:fd00::1", "fd00:fd00::ffff", False),
        ("fd00:fd00::1", "fd00:fd01::1", True),
        ("240.0.0.9", "fd00:fd00::1", True),
        ("240.0.0.9", "::ffff:240.0.0.9", False),
    ],
)
def test_a_move_to_another_pool(old: str, new: str, noticed: bool) -> None:
    before = joined({"redis.mesh": [old]}).table
    after = joined({"redis.mesh": [new]}, previous=before)
    assert bool(after.notices) == noticed


def test_without_any_table_there_is_an_empty_one() -> None:
    assert join({}, zones=ZONES).table.records == {}


def test_faults_of_pieces_are_all_told() -> None:
    result = joined({"a..b.mesh": [A]}, outbound("nonsense", 80, "x"), outbound("worse", 80, "y"))
    assert [line.partition(":")[0] for line in result.skipped] == [
        "name 'a..b.mesh'",
        "listener 'outbound",
        "listener 'outbound",
    ]
