"""What gets a VIP, its names and its ports: Kuma's tables V1 to V8 and A1 to A6, and VirtualOutbounds."""

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from meshdns.publisher.model import SERVICE_TAG, Inbound, MeshResources, tags_of
from meshdns.publisher.model import Dataplane as DataplaneValue
from meshdns.publisher.model import Mesh as MeshValue
from meshdns.publisher.names import Entry, Target, entries_of, hostnames, ports
from meshdns.publisher.vips import EntryKey, Kind
from tests.publisher.meshes import dataplane, entries, external, gateway, lines, names, services, view, virtual
from tests.publisher.sent import sent
from tests.scale import scale

TAGS = ((SERVICE_TAG, "example"),)


def entry(kind: Kind, name: str, *numbers: int) -> Entry:
    return Entry(EntryKey(kind, name), tuple(Target(number, TAGS) for number in numbers))


OUTBOUNDS = [
    ("V2", entry(Kind.HOST, "example.com", 1234), ["example.com"], [80, 1234]),
    ("V3", entry(Kind.HOST, "example.com", 80), ["example.com"], [80]),
    ("V5", entry(Kind.SERVICE, "example", 0), ["example.mesh"], [80]),
    ("V6", entry(Kind.SERVICE, "example", 1234), ["example.mesh"], [80, 1234]),
    ("V7", entry(Kind.SERVICE, "example_svc_80", 0), ["example_svc_80.mesh", "example.svc.80.mesh"], [80]),
    ("V8", entry(Kind.FQDN, "foo.example", 1, 2), ["foo.example"], [1, 2]),
    ("an address", entry(Kind.HOST, "192.0.2.10", 9000), [], [9000]),
    ("an IPv6 address", entry(Kind.HOST, "2001:db8::1", 9000), [], [9000]),
    ("no lower-casing", entry(Kind.SERVICE, "Legacy_App", 0), ["Legacy_App.mesh", "Legacy.App.mesh"], [80]),
    ("every underscore", entry(Kind.SERVICE, "a_b_c", 0), ["a_b_c.mesh", "a.b.c.mesh"], [80]),
    ("dots stay", entry(Kind.SERVICE, "api.shop", 0), ["api.shop.mesh"], [80]),
    ("not a DNS name", entry(Kind.FQDN, "*.example", 80), [], [80]),
]


@pytest.mark.parametrize(("what", "given", "domains", "numbers"), OUTBOUNDS, ids=[case[0] for case in OUTBOUNDS])
def test_an_entry_gives_names_and_ports(what: str, given: Entry, domains: list[str], numbers: list[int]) -> None:
    assert list(hostnames(given.key, "mesh")) == domains
    assert [target.port for target in ports(given, 80)] == numbers


def test_v1_nothing_gives_nothing() -> None:
    assert entries().entries == ()
    assert names(view()) == services(view()) == {}


def test_v4_an_entry_without_an_address_gives_nothing() -> None:
    seen = view(dataplane("a", "a"), dataplane("b", "b"), ranges={"services": "240.0.0.0/32"})
    assert names(seen) == {"a.mesh": "240.0.0.0"}
    assert services(seen) == {"240.0.0.0:80": "a"}


def test_the_domain_and_the_port_can_be_others() -> None:
    seen = view(dataplane("a", "x_y"), domain="svc.internal", service_vip_port=8080)
    assert names(seen) == {"x.y.svc.internal": "240.0.0.0", "x_y.svc.internal": "240.0.0.0"}
    assert services(seen) == {"240.0.0.0:8080": "x_y"}


def keys(*resources: Any) -> list[str]:
    return [str(each.key) for each in entries(*resources).entries]


def test_a3_a_virtual_outbound_makes_entries() -> None:
    web = [dataplane("a", "web", tags={"version": "v1"}), dataplane("b", "web", tags={"version": "v2"})]
    made = virtual("v", "{{.service}}.{{.version}}.mesh", version="")
    assert keys(*web, made) == ["0:web", "2:web.v1.mesh", "2:web.v2.mesh"]
    seen = view(*web, made)
    assert services(seen) == {"240.0.0.0:80": "web", "240.0.0.1:80": "web", "240.0.0.2:80": "web"}
    assert [each.tags for each in seen.outbounds[1:]] == [
        (("kuma.io/service", "web"), ("version", "v1")),
        (("kuma.io/service", "web"), ("version", "v2")),
    ]


def test_a3_one_host_with_two_ports_has_one_vip() -> None:
    inbounds = [dataplane("a", "web", tags={"port": "80"}), dataplane("b", "web", tags={"port": "8080"})]
    seen = view(*inbounds, virtual("v", "{{.service}}.ports.mesh", "{{.port}}", port_tag=""))
    assert names(seen)["web.ports.mesh"] == "240.0.0.1"
    assert [each.port for each in seen.outbounds if str(each.address) == "240.0.0.1"] == [80, 8080]


def test_a3_of_two_with_one_host_and_port_the_closer_match_keeps_it_and_the_other_is_named() -> None:
    found = entries(
        dataplane("a", "web", tags={"version": "v1"}),
        virtual("close", "x.mesh", match={SERVICE_TAG: "web", "version": "v1"}, version=""),
        virtual("wide", "x.mesh", match={SERVICE_TAG: "*"}),
    )
    kept = next(each for each in found.entries if each.key.kind is Kind.FQDN)
    assert kept.targets[0].origin == "virtual-outbound:close"
    assert lines(found.faults) == [
        "mesh.yaml:58: VirtualOutbound 'wide': conf.host: makes x.mesh:80 of kuma.io/service=web, "
        "which VirtualOutbound 'close' (mesh.yaml:19) makes of kuma.io/service=web, version=v1 already"
    ]


MATCHES = [
    ("a value beats any value", {SERVICE_TAG: "web"}, {SERVICE_TAG: "*"}, "", "", "a"),
    ("more tags beat a value", {SERVICE_TAG: "web"}, {SERVICE_TAG: "*", "version": "*"}, "", "", "b"),
    (
        "of equals the youngest",
        {SERVICE_TAG: "*"},
        {SERVICE_TAG: "*"},
        "2024-01-01T00:00:00Z",
        "2025-01-01T00:00:00Z",
        "b",
    ),
    ("of equals of one age the first by name", {SERVICE_TAG: "*"}, {SERVICE_TAG: "*"}, "", "", "a"),
    ("no match at all", {SERVICE_TAG: "other"}, {SERVICE_TAG: "*"}, "", "", "b"),
    ("a tag that is not there", {SERVICE_TAG: "web", "zone": "*"}, {SERVICE_TAG: "*"}, "", "", "b"),
]


@pytest.mark.parametrize(("what", "a", "b", "born_a", "born_b", "keeps"), MATCHES, ids=[case[0] for case in MATCHES])
def test_which_virtual_outbound_keeps_a_host_and_port(
    what: str, a: dict[str, str], b: dict[str, str], *, born_a: str, born_b: str, keeps: str
) -> None:
    found = entries(
        dataplane("d", "web", tags={"version": "v1"}),
        virtual("a", "x.mesh", match=a, created=born_a),
        virtual("b", "x.mesh", match=b, created=born_b),
    )
    kept = next(each for each in found.entries if each.key.kind is Kind.FQDN)
    assert kept.targets[0].origin == f"virtual-outbound:{keeps}"


def test_two_instances_of_one_service_make_one_host_without_a_fault() -> None:
    found = entries(dataplane("a", "web"), dataplane("b", "web"), virtual("v", "{{.service}}.mesh"))
    assert not found.faults


def test_a_virtual_outbound_matches_external_services_too() -> None:
    seen = view(external("ext", "httpbin.org:443"), virtual("v", "{{.service}}.out.mesh", "443"))
    assert services(seen)[f"{names(seen)['ext.out.mesh']}:443"] == "ext"


def test_a5_external_services_of_one_host_share_its_vip() -> None:
    seen = view(external("one", "httpbin.org:443"), external("two", "httpbin.org:8000"))
    vip = names(seen)["httpbin.org"]
    assert {place: each for place, each in services(seen).items() if place.startswith(vip + ":")} == {
        f"{vip}:80": "one",
        f"{vip}:443": "one",
        f"{vip}:8000": "two",
    }


def test_a5_of_two_with_one_host_and_port_the_first_by_name_keeps_it_and_the_other_is_named() -> None:
    found = entries(external("b", "httpbin.org:443"), external("a", "HTTPBIN.org:443"))
    host = next(each for each in found.entries if each.key.kind is Kind.HOST)
    assert host.targets[0].tags == ((SERVICE_TAG, "a"),)
    assert lines(found.faults) == [
        "mesh.yaml:9: ExternalService 'b': networking.address: httpbin.org:443 is that of ExternalService 'a' "
        "(mesh.yaml:13) already, which keeps it"
    ]
    assert [str(each.key) for each in found.entries] == ["0:a", "0:b", "1:HTTPBIN.org"]


def test_an_external_service_without_a_host_entry_has_its_service_name_only() -> None:
    assert keys(external("quiet", "quiet.example.com:8443", disableHostDNSEntry=True)) == ["0:quiet"]


def test_the_host_of_an_external_service_that_is_an_address_keeps_it() -> None:
    found = entries(external("ip", "192.0.2.10:9000"))
    assert [(str(each.key), each.address) for each in found.entries] == [
        ("0:ip", None),
        ("1:192.0.2.10", ip_address("192.0.2.10")),
    ]
    seen = view(external("ip", "192.0.2.10:9000"))
    assert services(seen) == {"192.0.2.10:9000": "ip", "240.0.0.0:80": "ip", "240.0.0.0:9000": "ip"}
    assert names(seen) == {"ip.mesh": "240.0.0.0"}


NAMELESS = [
    ("an ignored inbound", dataplane("a", "web", state="Ignored")),
    ("the reserved port", dataplane("a", "jobs_default_svc", 49151)),
    ("a gateway", gateway("edge")),
]


@pytest.mark.parametrize("given", [case[1] for case in NAMELESS], ids=[case[0] for case in NAMELESS])
def test_a6_what_gets_no_entry(given: Any) -> None:
    assert keys(given) == []


def test_a6_an_inbound_without_a_service_gets_no_entry() -> None:
    inbound = Inbound("192.168.0.1", 80, "192.168.0.1", 80, tags_of({"version": "v1"}))
    mesh = MeshResources(MeshValue("default"), (DataplaneValue("default", "a", "192.168.0.1", (inbound,)),))
    assert entries_of(mesh).entries == ()


def test_a_service_that_is_not_ready_has_its_name_all_the_same() -> None:
    assert keys(dataplane("a", "web", state="NotReady"), dataplane("b", "api", health={"ready": False})) == [
        "0:api",
        "0:web",
    ]


def test_a8_two_meshes_have_the_same_vips() -> None:
    both = [
        {"type": "Mesh", "name": "payments"},
        dataplane("a", "web"),
        dataplane("b", "ledger") | {"mesh": "payments"},
    ]
    assert names(view(*both)) == {"web.mesh": "240.0.0.0"}
    assert names(view(*both, mesh="payments")) == {"ledger.mesh": "240.0.0.0"}


def test_a_later_kind_of_entry_takes_a_name_from_an_earlier_one() -> None:
    seen = view(dataplane("a", "redis", 6379), virtual("v", "{{.service}}.mesh", "6380"))
    assert names(seen) == {"redis.mesh": "240.0.0.1"}
    assert services(seen) == {"240.0.0.0:80": "redis", "240.0.0.1:6380": "redis"}
    record = seen.table.records["redis.mesh"]
    assert [(port.number, port.placeholder) for port in record.ports] == [(6380, False)]
    external_wins = view(dataplane("a", "httpbin"), external("e", "httpbin.mesh:443", "other"))
    assert names(external_wins)["httpbin.mesh"] == "240.0.0.2"


BAD_TEMPLATES = [
    ("{{.service}}.{{.version}}.mesh", "80", "conf.host: uses .version, and there is no tag 'version' on api, web"),
    ("{{.service}}.mesh", "{{.version}}", "conf.port: uses .version, and there is no tag 'version' on api, web"),
    ("-{{.service}}.mesh", "80", "conf.host: '-api.mesh', made of kuma.io/service=api, is not a DNS name"),
    ("*.{{.service}}.mesh", "80", "'*.api.mesh', made of kuma.io/service=api, is not a DNS name"),
    ("{{if .version}}x.mesh{{end}}", "80", "'', made of kuma.io/service=api, is not a DNS name"),
    ("{{.service}}.mesh", "{{.service}}", "conf.port: 'api', made of kuma.io/service=api, is not a port from 1 to"),
]


@pytest.mark.parametrize(("host", "port", "problem"), BAD_TEMPLATES)
def test_what_a_template_cannot_make_is_named_and_the_rest_works(host: str, port: str, problem: str) -> None:
    found = entries(dataplane("a", "web"), dataplane("b", "api"), virtual("v", host, port, version=""))
    assert [str(each.key) for each in found.entries] == ["0:api", "0:web"]
    assert found.faults
    assert lines(found.faults)[0].startswith("mesh.yaml:")
    assert "VirtualOutbound 'v'" in lines(found.faults)[0]
    assert problem in lines(found.faults)[0]


def test_a_parameter_reads_the_tag_that_it_names() -> None:
    seen = view(
        dataplane("a", "web", tags={"kuma.io/zone": "west"}),
        virtual("v", "{{.service}}.{{.place}}.mesh", place="kuma.io/zone"),
    )
    assert "web.west.mesh" in names(seen)


def test_a_final_dot_in_a_template_is_no_part_of_the_name() -> None:
    assert "web.mesh" in names(view(dataplane("a", "x"), virtual("v", "web.mesh.")))


def test_a_name_that_cannot_be_asked_for_is_named_and_its_listener_stays() -> None:
    seen = view(dataplane("a", "a..b"), dataplane("b", "web"), dataplane("c", "x" * 64))
    assert names(seen) == {"web.mesh": "240.0.0.1"}
    assert services(seen) == {"240.0.0.0:80": "a..b", "240.0.0.1:80": "web", "240.0.0.2:80": "x" * 64}
    assert seen.skipped == (
        "mesh.yaml:11: tag kuma.io/service: makes the name 'a..b.mesh': empty label",
        f"mesh.yaml:45: tag kuma.io/service: makes the name '{'x' * 64}.mesh': label of 64 octets, the limit is 63",
    )


def test_names_that_differ_in_case_only_are_one_and_it_is_noticed() -> None:
    seen = view(dataplane("a", "Web"), dataplane("b", "web"))
    assert str(seen.table.records["web.mesh"].addresses[0]) == "240.0.0.1"
    assert "differ only in case" in seen.notices[0]


WORDS = st.text(alphabet="aA_.-1", min_size=1, max_size=6)
PLANES = st.builds(
    lambda number, service, port, address, version, state: dataplane(
        f"d{number}", service, port, address=address, tags={"v": version}, state=state
    ),
    st.integers(0, 9), WORDS, st.sampled_from([80, 8080, 49151]), st.sampled_from(["10.0.0.1", "h.example", "fd00::1"]),
    WORDS, st.sampled_from(["Ready", "NotReady", "Ignored"]),
)  # fmt: skip
EXTERNALS = st.builds(
    lambda number, address, service: external(f"e{number}", address, service),
    st.integers(0, 9), st.sampled_from(["a.b:80", "A.b.:80", "192.0.2.1:443", "240.0.0.1:80", "[::1]:80"]), WORDS,
)  # fmt: skip
VIRTUALS = st.builds(
    lambda number, host, port: virtual(f"v{number}", host, port, v=""),
    st.integers(0, 9),
    st.sampled_from(["{{.service}}.{{.v}}.", "{{.v}}", "{{if .v}}{{.service}}{{end}}.mesh", "x.mesh"]),
    st.sampled_from(["80", "{{.v}}"]),
)  # fmt: skip


@settings(max_examples=scale(2000))
@drawn(st.lists(PLANES | EXTERNALS | VIRTUALS, max_size=8), st.sampled_from(["bind", "transparent"]))
def test_whatever_services_are_called_every_name_is_in_the_table_and_every_listener_in_the_snapshot(
    resources: list[Any], vips: str
) -> None:
    seen = view(*{(each["type"], each["name"]): each for each in resources}.values(), faulty=True, vips=vips)
    assert {each.name.lower() for each in seen.hostnames} == seen.table.records.keys()
    listeners, clusters, endpoints = sent(seen)
    assert {each.name for each in seen.outbounds} <= listeners.keys()
    assert {each.cluster for each in seen.outbounds} <= clusters.keys()
    assert {name for name, cluster in clusters.items() if cluster.type == 3} == endpoints.keys()
    for record in seen.table.records.values():
        assert record.ports
        assert all((record.addresses[0], port.number) in seen.table.listeners for port in record.ports)
