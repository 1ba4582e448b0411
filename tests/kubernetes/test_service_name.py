"""What Services and their ports are called."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshdns.inventory.record import Port
from meshdns.kubernetes.service_name import Subject, is_service_name, service_names, subject
from meshdns.kubernetes.service_port import http_port, service_ports
from tests.kubernetes.mesh import RULES, record

HOSTS = [
    # what the mesh calls it: service, name → what the Service is called
    ("echo_default_svc_80", "echo.default.svc.80.mesh", "echo"),
    ("echo_default_svc", "echo.default.svc.mesh", "echo"),
    ("api.shop", "api.shop.mesh", "api-shop"),
    ("my_ext", "my.ext.mesh", "my-ext"),
    ("Legacy_App", "Legacy.App.mesh", "legacy-app"),
    ("kri_msvc_default_zone-1_shop_orders_", "orders.shop.svc.zone-1.mesh.local", "orders"),
    ("kri_extsvc_default___vendor-api_", "vendor-api.extsvc.mesh.local", "vendor-api"),
    ("edge-gateway", "internal.edge.payments.mesh", "internal-edge-payments"),
    ("backend_demo_svc_80", "v1.backend.mesh", "v1-backend"),
    ("my_ext", "httpbin.org", "httpbin-org"),
    (None, "echo.default.svc.80.mesh", "echo"),
    (None, "orders.svc.mesh.local", "orders"),
    (None, "orders.shop.svc.zone-1.mesh.local", "orders"),
    (None, "redis-all.mzsvc.mesh.local", "redis-all"),
    (None, "redis-0.redis.shop.svc.zone-1.mesh.local", "redis-0-redis-shop-svc-zone-1"),
    (None, "web.mesh", "web"),
    ("3scale", "3scale.mesh", "mesh-3scale"),
    ("_._", "_._.mesh", "mesh"),
]


@pytest.mark.parametrize(
    ("service", "name", "called"), HOSTS, ids=[f"{name} of {service}" for service, name, _ in HOSTS]
)
def test_a_service_is_called_as_in_the_mesh(service: str | None, name: str, called: str) -> None:
    zone = next((zone for zone in sorted(RULES.zones, key=len, reverse=True) if name.endswith("." + zone)), None)
    assert service_names([subject(record(name, "240.0.0.1", service=service), zone)]) == [called]


def legacy(name: str, namespace: str, port: str) -> Subject:
    return Subject(name, f"{name}.{namespace}.svc.{port}.mesh", port, namespace)


ECHO = legacy("echo", "default", "80")
CLASHES = [
    ([ECHO], ["echo"]),
    ([ECHO, legacy("web", "default", "80")], ["echo", "web"]),
    ([ECHO, legacy("echo", "default", "8080")], ["echo-80", "echo-8080"]),
    ([ECHO, legacy("echo", "other", "80")], ["echo-default", "echo-other"]),
    (
        [ECHO, legacy("echo", "default", "8080"), legacy("echo", "other", "80")],
        ["echo-default-80", "echo-default-8080", "echo-other-80"],
    ),
    (
        [ECHO, legacy("echo", "default", "8080"), Subject("echo-80", "echo-80.mesh")],
        ["echo-default-80", "echo-default-8080", "echo-80"],
    ),
    (
        [Subject("redis", "redis.mesh"), Subject("redis", "redis.svc.mesh.local", zone="east", kind="msvc")],
        ["redis", "redis-east"],
    ),
    (
        [
            Subject("redis", "redis.svc.mesh.local", kind="msvc"),
            Subject("redis", "redis.mzsvc.mesh.local", kind="mzsvc"),
        ],
        ["redis-msvc", "redis-mzsvc"],
    ),
    ([Subject("a.b", "a.b.mesh"), Subject("a-b", "a-b.mesh")], ["a-b-mesh-85a89728", "a-b-mesh-d2bec171"]),
    ([Subject("a.b", "a.b.mesh"), Subject("a-b", "a-b.mesh.local")], ["a-b-mesh", "a-b-mesh-local"]),
]


@pytest.mark.parametrize(("subjects", "names"), CLASHES, ids=[", ".join(names) for _, names in CLASHES])
def test_only_those_that_would_be_called_the_same_get_more(subjects: list[Subject], names: list[str]) -> None:
    assert service_names(subjects) == names
    assert service_names([*reversed(subjects)]) == [*reversed(names)]
    assert service_names(subjects, "-mesh") == [f"{name}-mesh" for name in names]


def test_a_long_name_is_cut_and_stays_its_own() -> None:
    subjects = [Subject("a" * 70 + end, f"{'a' * 70}{end}.mesh") for end in "bc"]
    names = service_names(subjects, "-multizone")
    assert [len(name) for name in names] == [63, 63]
    assert len(set(names)) == 2
    assert all(name.endswith("-multizone") for name in names)


WORDS = st.text("ab-_.1Ä", max_size=70)
SUBJECTS = st.lists(
    st.builds(Subject, WORDS, st.text("ab.", min_size=1, max_size=12), *[st.sampled_from(["", "a", "b"])] * 4),
    max_size=12,
    unique_by=lambda each: each.host,
)


@given(SUBJECTS, st.sampled_from(["", "-mesh", "-" + "x" * 39]))
def test_names_are_labels_and_differ(subjects: list[Subject], suffix: str) -> None:
    names = service_names(subjects, suffix)
    assert len(set(names)) == len(subjects)
    assert all(is_service_name(name) for name in names)


PORTS = [
    ([Port(80, "kri_msvc_default_z__orders_http"), Port(9443, "kri_msvc_default_z__orders_raw")], "http 80, raw 9443"),
    ([Port(6379, "kri_mzsvc_default___redis_6379")], "tcp-6379 6379"),
    ([Port(443, "kri_extsvc_default___vendor_443")], "https-443 443"),
    ([Port(8080, "kri_msvc_default_z__cart_8080")], "http-8080 8080"),
    ([Port(80, "echo_default_svc_80")], "http-80 80"),
    ([Port(80, "echo_default_svc_8080", placeholder=True)], "http-80 80"),
    ([Port(80, "backend_demo_svc_3001", placeholder=True)], "tcp-80 80"),
    ([Port(80, "redis", placeholder=True)], "tcp-80 80"),
    ([Port(80, "my_ext", placeholder=True), Port(443, "my_ext")], "tcp-80 80, https-443 443"),
    ([Port(443, "b"), Port(80, "a")], "http-80 80, https-443 443"),
    # section names that are no port names, and that two addresses have twice
    ([Port(9000, "kri_msvc_default_z__a_Admin_Port")], "admin-port 9000"),
    ([Port(9000, "kri_msvc_default_z__a_a-very-long-section-name")], "tcp-9000 9000"),
    ([Port(9000, "kri_msvc_default_z__a_a--b")], "tcp-9000 9000"),
    ([Port(80, "kri_msvc_m_z__a_http"), Port(81, "kri_msvc_m_z__b_http")], "http 80, http-81 81"),
    ([Port(8001, "kri_msvc_m_z__a_fifteen-octets-"), Port(8002, "kri_msvc_m_z__b_x")], "tcp-8001 8001, x 8002"),
    (
        [Port(1, "kri_msvc_m_z__a_fifteen-letters"), Port(65535, "kri_msvc_m_z__b_fifteen-letters")],
        "fifteen-letters 1, fifteen-l-65535 65535",
    ),
    ([], ""),
]


@pytest.mark.parametrize(("ports", "named"), PORTS, ids=[named or "none" for _, named in PORTS])
def test_ports_are_named_by_protocol_where_it_is_known(ports: list[Port], named: str) -> None:
    assert ", ".join(f"{port.name} {port.number}" for port in service_ports(ports)) == named


@pytest.mark.parametrize(
    ("ports", "number"),
    [
        ([Port(9443, "kri_msvc_m_z__a_raw"), Port(3001, "kri_msvc_m_z__a_http")], 3001),
        ([Port(443, "a"), Port(8080, "a")], 8080),
        ([Port(80, "a", placeholder=True), Port(79, "a")], 80),
        ([Port(6379, "a"), Port(6380, "a")], 6379),
        ([], None),
    ],
)
def test_a_route_is_for_the_port_that_speaks_http(ports: list[Port], number: int | None) -> None:
    chosen = http_port(service_ports(ports))
    assert (chosen.number if chosen else None) == number
