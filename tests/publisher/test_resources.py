"""What Envoys are sent: decoded again, by hand and by our own reader of control planes."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from meshdns.publisher.cluster import common_protocol
from meshdns.publisher.mesh_view import MeshView
from meshdns.publisher.packed import CLUSTER, ENDPOINT, LISTENER
from meshdns.publisher.snapshot import build_snapshot
from meshdns.xds.decode.join import join
from meshdns.xds.decode.kuma import decode_listener
from meshdns.xds.session import Resource
from tests.publisher.meshes import PROTOCOL, SERVICE, ZONE, dataplane, external, gateway, view, virtual
from tests.publisher.sent import EMBEDDED, manager, node, opened, places, proxy, sent

HTTP = {PROTOCOL: "http"}
OBSERVER = gateway("observer")

RICH = [
    OBSERVER,
    dataplane("echo-1", "echo_default_svc_80", tags=HTTP | {"version": "v1"}),
    dataplane("echo-2", "echo_default_svc_80", 9090, address="192.168.0.2", tags=HTTP | {"version": "v2", ZONE: "b"}),
    dataplane("back", "backend_ns_svc_3001", 3001, tags={PROTOCOL: "grpc"}),
    dataplane("redis", "redis", 6379, tags={PROTOCOL: "tcp"}),
    dataplane("upper", "Legacy_App", 9200),
    external("my-ext", "httpbin.org:443", "my_ext"),
    external("ext-ip", "192.0.2.10:9000"),
    external("quiet", "quiet.example.com:8443", tags=HTTP, disableHostDNSEntry=True),
    virtual("v", "{{.service}}.{{.version}}.mesh", "8080", match={"version": "*"}, version=""),
]


def read_back(seen: MeshView, **metadata: Any) -> Any:
    """The table that our own client of control planes makes of what it is sent."""
    snapshot = build_snapshot(seen, node(**metadata))
    pieces = {}
    for name, message in opened(snapshot)[LISTENER].items():
        found, piece = decode_listener(Resource(LISTENER, message.SerializeToString(), name), "1", source="own")
        pieces[found] = piece
    return join(pieces, zones=("mesh", "mesh.local"))


@pytest.mark.parametrize("features", [EMBEDDED, []], ids=["dynconf", "dns_filter"])
@pytest.mark.parametrize("vips", ["bind", "transparent"])
def test_our_own_reader_reads_our_own_table(features: list[str], vips: str) -> None:
    seen = view(*RICH, vips=vips)
    found = read_back(seen, features=features)
    assert not found.skipped
    assert not found.notices
    assert dict(found.table.records) == dict(seen.table.records)
    assert dict(found.table.listeners) == dict(seen.table.listeners)
    assert found.table.lenient
    assert seen.table.lenient


def test_placeholders_are_those_of_services_whose_port_is_another_or_unknown() -> None:
    records = view(*RICH, dataplane("x", "web_ns_svc_80"), external("plain", "plain.example:80")).table.records
    ports = {name: [(port.number, port.placeholder) for port in record.ports] for name, record in records.items()}
    assert ports["backend.ns.svc.3001.mesh"] == [(80, True)]
    assert ports["web.ns.svc.80.mesh"] == [(80, False)]
    assert ports["redis.mesh"] == [(80, True)]
    assert ports["my.ext.mesh"] == [(80, True), (443, False)]
    assert ports["httpbin.org"] == [(80, True), (443, False)]
    assert ports["plain.example"] == ports["plain.mesh"] == [(80, False)]
    assert ports["echo_default_svc_80.v1.mesh"] == [(8080, False)]


def test_a_listener_is_named_tagged_and_bound_as_kuma_and_the_setting_say() -> None:
    for vips, vip, bound in (("transparent", "240.0.0.1", False), ("bind", "127.80.0.1", True)):
        listener = sent(view(*RICH, vips=vips))[0][f"outbound:{vip}:80"]
        assert listener.bind_to_port.value is bound
        assert listener.traffic_direction == 2
        socket = listener.address.socket_address
        assert (socket.address, socket.port_value) == (vip, 80)
        assert dict(listener.metadata.filter_metadata["io.kuma.tags"]) == {SERVICE: "backend_ns_svc_3001"}


def test_where_listeners_bind_an_address_that_is_not_ours_gets_none() -> None:
    assert "outbound:192.0.2.10:9000" in sent(view(*RICH))[0]
    assert "outbound:192.0.2.10:9000" not in sent(view(*RICH, vips="bind"))[0]


def test_an_ipv6_vip_has_brackets_and_no_mapped_address() -> None:
    seen = view(dataplane("a", "web"), ranges={"services": "fd00:fd00::/64"})
    assert "outbound:[fd00:fd00::]:80" in sent(seen)[0]
    assert [str(each) for each in seen.table.records["web.mesh"].addresses] == ["fd00:fd00::"]


def test_http_is_routed_whatever_the_host_and_the_rest_is_handed_on() -> None:
    listeners, clusters, _ = sent(view(*RICH))
    routes = manager(listeners["outbound:240.0.0.2:80"]).route_config
    assert routes.name == "outbound:echo_default_svc_80"
    assert list(routes.virtual_hosts[0].domains) == ["*"]
    assert routes.virtual_hosts[0].routes[0].route.cluster == "echo_default_svc_80"
    assert not routes.validate_clusters.value
    assert proxy(listeners["outbound:240.0.0.6:80"].filter_chains[0]).cluster == "redis"
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    assert options in clusters["backend_ns_svc_3001"].typed_extension_protocol_options
    assert options not in clusters["redis"].typed_extension_protocol_options


PROTOCOLS = [
    (["http"], "http"),
    (["http", "http"], "http"),
    (["grpc", "http2"], "http2"),
    (["http", "grpc"], "tcp"),
    (["kafka"], "kafka"),
    (["http", "tcp"], "tcp"),
    ([], "tcp"),
]


@pytest.mark.parametrize(("given", "common"), PROTOCOLS)
def test_instances_that_differ_speak_what_they_have_in_common(given: list[str], common: str) -> None:
    assert common_protocol(given) == common


def test_endpoints_are_the_healthy_instances_by_zone() -> None:
    seen = view(
        dataplane("a", "web", tags={ZONE: "a"}),
        dataplane("b", "web", address="192.168.0.2", tags={ZONE: "b"}),
        dataplane("c", "web", address="192.168.0.3", tags={ZONE: "b"}, state="NotReady"),
        dataplane("d", "web", address="192.168.0.4", state="Ignored"),
        dataplane("e", "web", address="192.168.0.5", health={"ready": False}),
        dataplane("twin", "web", address="192.168.0.2", tags={ZONE: "b"}),
    )
    _, clusters, endpoints = sent(seen)
    assert places(endpoints["web"]) == {"a": [("192.168.0.1", 8080, 1)], "b": [("192.168.0.2", 8080, 2)]}
    assert clusters["web"].type == 3  # EDS
    assert clusters["web"].eds_cluster_config.eds_config.WhichOneof("config_source_specifier") == "ads"


def test_a_service_without_a_healthy_instance_has_a_name_and_no_endpoint() -> None:
    seen = view(dataplane("a", "web", state="NotReady"))
    assert "web.mesh" in seen.table.records
    assert places(sent(seen)[2]["web"]) == {}


def test_an_advertised_address_is_the_one_that_is_dialled() -> None:
    plane = dataplane("a", "web")
    plane["networking"]["advertisedAddress"] = "10.0.0.9"
    assert places(sent(view(plane))[2]["web"]) == {"": [("10.0.0.9", 8080, 1)]}


def test_tags_of_a_virtual_outbound_make_clusters_of_their_own() -> None:
    seen = view(*RICH)
    _, clusters, endpoints = sent(seen)
    one, two = (each.cluster for each in seen.outbounds if each.port == 8080)
    assert one != two
    assert all(name.startswith("echo_default_svc_80-") and len(name.rpartition("-")[2]) == 16 for name in (one, two))
    assert {one, two, "echo_default_svc_80"} <= clusters.keys()
    assert sorted(places(endpoints[one] if places(endpoints[one]).get("") else endpoints[two])[""]) == [
        ("192.168.0.1", 8080, 1)
    ]


def test_external_services_are_reached_by_name_or_address() -> None:
    tls = {"enabled": True, "caCert": {"inlineString": "PEM"}}
    seen = view(*RICH, external("secure", "api.example.com:443", tls=tls, tags={PROTOCOL: "http2"}))
    listeners, clusters, endpoints = sent(seen)
    assert not endpoints.keys() & {"my_ext", "ext-ip", "quiet", "secure"}
    assert clusters["my_ext"].type == 1  # STRICT_DNS
    assert places(clusters["my_ext"].load_assignment) == {"": [("httpbin.org", 443, 1)]}
    assert clusters["ext-ip"].type == 0  # STATIC
    assert clusters["secure"].transport_socket.name == "envoy.transport_sockets.tls"
    quiet = next(each for each in seen.outbounds if each.service == "quiet")
    route = manager(listeners[quiet.name]).route_config.virtual_hosts[0].routes[0].route
    assert route.auto_host_rewrite.value  # the host outside knows its own name only


def test_a_data_plane_that_gives_a_host_name_is_looked_up() -> None:
    _, clusters, endpoints = sent(view(dataplane("a", "web", address="node-1.example.com")))
    assert clusters["web"].type == 1
    assert "web" not in endpoints


TABLES = [
    ("dynconf", {}, "_kuma:dynamicconfig"),
    ("no feature", {"features": []}, "kuma:dns"),
    ("no directory for its socket", {"workdir": ""}, "kuma:dns"),
    ("a directory too long for a socket", {"workdir": "/" + "x" * 100}, "kuma:dns"),
    ("no port", {"dataplane_dns_port": "0"}, None),
    ("no port at all", {"dataplane_dns_port": None}, None),
    ("it binds outbounds itself", {"features": [*EMBEDDED, "feature-bind-outbounds"]}, None),
]


@pytest.mark.parametrize(("what", "metadata", "expected"), TABLES, ids=[case[0] for case in TABLES])
def test_the_encoding_of_the_table_goes_by_the_node(what: str, metadata: dict[str, Any], expected: str | None) -> None:
    found = sent(view(*RICH), node(**metadata))[0].keys() & {"_kuma:dynamicconfig", "kuma:dns"}
    assert found == ({expected} if expected else set())


def document(seen: MeshView, **metadata: Any) -> Any:
    listener = sent(seen, node(**metadata))[0]["_kuma:dynamicconfig"]
    same, whole = manager(listener).route_config.virtual_hosts[0].routes
    body = whole.direct_response.body.inline_string
    digest = hashlib.sha256(body.encode()).hexdigest()
    assert (same.direct_response.status, whole.direct_response.status) == (304, 200)
    assert same.match.headers[0].name == "If-None-Match"
    assert same.match.headers[0].string_match.exact == digest
    assert [(each.header.key, each.header.value) for each in whole.response_headers_to_add] == [("Etag", digest)]
    assert manager(listener).route_config.max_direct_response_body_size_bytes.value == len(body.encode())
    assert listener.address.pipe.path == "/run/meshdns/kuma-mesh-metric-config.sock"
    return json.loads(body)


def test_the_dns_document_is_kumas() -> None:
    found = document(view(OBSERVER, dataplane("a", "redis")))
    assert found == {
        "records": [{"name": "redis.mesh", "ips": ["240.0.0.0", "::ffff:f000:0"]}],
        "ttl": 30,
        "extraLabels": {"kuma_io_zone": "default", "mesh": "default"},
    }
    assert document(view(OBSERVER))["records"] == []


def test_labels_of_the_data_plane_are_in_the_document() -> None:
    labelled = OBSERVER | {"labels": {"kuma.io/workload": "shop", "other": "x"}}
    assert document(view(labelled))["extraLabels"]["kuma_workload"] == "shop"


def test_a_node_of_ipv4_only_gets_no_mapped_addresses() -> None:
    seen = view(OBSERVER, dataplane("a", "redis"))
    only_v4 = {"ipFamilyMode": "ipv4"}
    assert document(seen, transparentProxy=only_v4)["records"][0]["ips"] == ["240.0.0.0"]
    table = sent(seen, node(features=["feature-transparent-proxy-in-dataplane-metadata"], transparentProxy=only_v4))
    assert b"::ffff" not in table[0]["kuma:dns"].SerializeToString()


def test_a_data_plane_that_names_the_services_it_reaches_is_told_of_them_only() -> None:
    plane = gateway("observer")
    plane["networking"]["transparentProxying"] = {"reachableServices": ["redis"]}
    seen = view(plane, dataplane("a", "redis"), dataplane("b", "web"))
    listeners, clusters, endpoints = sent(seen)
    assert [name for name in listeners if name.startswith("outbound:240")] == ["outbound:240.0.0.0:80"]
    assert endpoints.keys() == {"redis"}
    assert "web" not in clusters
    assert [each["name"] for each in document(seen)["records"]] == ["redis.mesh"]


def test_transparent_interception_has_its_original_destination_listener() -> None:
    listeners, clusters, _ = sent(view(*RICH))
    redirect = listeners["outbound:passthrough:ipv4"]
    assert redirect.use_original_dst.value
    assert redirect.address.socket_address.port_value == 15001
    vips, itself = redirect.filter_chains
    assert vips.filter_chain_match.prefix_ranges[0].address_prefix == "240.0.0.0"
    assert proxy(vips).cluster == proxy(itself).cluster == "outbound:nowhere"
    assert proxy(redirect.default_filter_chain).cluster == "outbound:passthrough:ipv4"
    assert clusters["outbound:passthrough:ipv4"].type == 4  # ORIGINAL_DST
    assert "inbound:passthrough:ipv4" not in listeners


def test_where_listeners_bind_there_is_no_interception() -> None:
    listeners, clusters, _ = sent(view(*RICH, vips="bind"))
    assert not [name for name in (*listeners, *clusters) if "passthrough" in name or "nowhere" in name]


def test_the_ports_of_interception_are_the_nodes() -> None:
    redirect = {"outbound": {"port": 16001.0}, "inbound": {"enabled": True, "port": 16006.0}}
    plane = node("redis", transparentProxy={"redirect": redirect})
    listeners = sent(view(*RICH), plane)[0]
    assert listeners["outbound:passthrough:ipv4"].address.socket_address.port_value == 16001
    assert listeners["inbound:passthrough:ipv4"].address.socket_address.port_value == 16006
    off = node("redis", transparentProxy={"redirect": {"outbound": {"enabled": False}, "inbound": {"enabled": False}}})
    assert not [name for name in sent(view(*RICH), off)[0] if "passthrough" in name]


def test_a_mesh_may_forbid_to_pass_unknown_addresses_through() -> None:
    mesh = {"type": "Mesh", "name": "default", "networking": {"outbound": {"passthrough": False}}}
    listeners, clusters, _ = sent(view(mesh, *RICH))
    assert proxy(listeners["outbound:passthrough:ipv4"].default_filter_chain).cluster == "outbound:nowhere"
    assert "outbound:passthrough:ipv4" not in clusters


def test_a_data_plane_has_listeners_for_its_own_services() -> None:
    plane = dataplane("own", "web", 8080, tags=HTTP, serviceAddress="127.0.0.1", servicePort=18080)
    plane["networking"]["inbound"].append({"port": 9090, "tags": {SERVICE: "raw"}})
    for vips, expected in (("bind", ["inbound:192.168.0.1:8080"]),
                           ("transparent", ["inbound:192.168.0.1:8080", "inbound:192.168.0.1:9090"])):  # fmt: skip
        listeners, clusters, _ = sent(view(plane, vips=vips), node("own"))
        assert [name for name in listeners if name.startswith("inbound:1")] == expected
        first = listeners["inbound:192.168.0.1:8080"]
        assert first.traffic_direction == 1
        assert first.bind_to_port.value is (vips == "bind")
        assert manager(first).route_config.virtual_hosts[0].routes[0].route.cluster == "localhost:18080"
        assert places(clusters["localhost:18080"].load_assignment) == {"": [("127.0.0.1", 18080, 1)]}
        assert not [name for name in sent(view(plane, vips=vips), node("other"))[0] if name.startswith("inbound:1")]


def test_two_inbounds_of_one_workload_port_have_their_own_clusters() -> None:
    plane = dataplane("own", "web", 8080, tags=HTTP, servicePort=7000)
    plane["networking"]["inbound"].append({"port": 9090, "servicePort": 7000, "tags": {SERVICE: "raw"}})
    clusters = sent(view(plane), node("own"))[1]
    assert {"localhost:7000:192.168.0.1:8080", "localhost:7000:192.168.0.1:9090"} <= clusters.keys()


def test_a_service_that_moves_to_another_port_changes_its_endpoints_only() -> None:
    before, after = (build_snapshot(view(dataplane("a", "web", port), OBSERVER), node()) for port in (8080, 9090))
    assert after.version(LISTENER) == before.version(LISTENER)
    assert after.version(CLUSTER) == before.version(CLUSTER)
    assert after.version(ENDPOINT) != before.version(ENDPOINT)
    changed, gone = after.changed(before, ENDPOINT)
    assert (list(changed), gone) == (["web"], ())
    assert after.changed(before, LISTENER) == ({}, ())


def test_what_is_new_and_what_is_gone_is_told() -> None:
    before = build_snapshot(view(dataplane("a", "web"), OBSERVER), node())
    after = build_snapshot(view(dataplane("a", "web"), dataplane("b", "redis"), OBSERVER), node())
    changed, gone = after.changed(before, CLUSTER)
    assert (list(changed), gone) == (["redis"], ())
    assert before.changed(after, CLUSTER) == ({}, ("redis",))


PRINT = """
from tests.publisher.test_resources import RICH
from tests.publisher.meshes import view
from tests.publisher.sent import node
from meshdns.publisher.snapshot import build_snapshot
import hashlib
for vips in ("bind", "transparent"):
    for features in ([], ["feature-embedded-dns"]):
        snapshot = build_snapshot(view(*RICH, vips=vips), node("echo-1", features=features))
        for type_url, resources in snapshot.resources.items():
            body = b"".join(name.encode() + packed.any for name, packed in resources.items())
            print(type_url, snapshot.version(type_url), hashlib.sha256(body).hexdigest())
"""


def test_the_same_mesh_gives_the_same_bytes_in_every_process() -> None:
    printed = [
        subprocess.run(
            [sys.executable, "-c", PRINT],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=Path(__file__).parent.parent.parent,
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    ]
    assert printed[0] == printed[1]
    assert printed[0].count(b"\n") == 12
