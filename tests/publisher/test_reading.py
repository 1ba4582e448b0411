"""Kuma's YAML: defaults, and every bad input with its file, line and field; the rest of a file keeps working."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshdns.errors import ResourceError
from meshdns.publisher.model import Dataplane, ExternalService, ExternalTls, Mesh, VirtualOutbound
from meshdns.publisher.reading import UNPUBLISHED, read_joining_dataplane, read_resources
from tests.publisher.meshes import dataplane, external, gateway, lines, virtual, written
from tests.scale import scale

FULL = """\
# everything that a Dataplane may say
type: Dataplane
mesh: payments
name: pay-1
labels: {kuma.io/workload: pay}
networking:
  address: 192.168.1.1
  advertisedAddress: 10.0.0.1
  inbound:
  - port: 8080
    servicePort: 18080
    serviceAddress: 127.0.0.1
    tags: {kuma.io/service: pay, kuma.io/protocol: http, version: v1}
  - address: 192.168.1.2
    port: "9090"
    tags: {kuma.io/service: raw}
    health: {ready: false}
  - port: 7070
    state: Ignored
    tags: {kuma.io/service: old}
  transparentProxying:
    redirectPortInbound: 15006
    redirectPortOutbound: 15001
    ipFamilyMode: IPv4
    reachableServices: [ledger]
"""


def only(text: str) -> Any:
    reading = read_resources(text, "f.yaml")
    assert not reading.faults, lines(reading.faults)
    (resource,) = reading.resources.values()
    return resource


def test_a_dataplane_is_read_with_its_defaults() -> None:
    found = only(FULL)
    assert isinstance(found, Dataplane)
    assert found.identity == ("Dataplane", "payments", "pay-1")
    first, second, third = found.inbounds
    assert (first.address, first.port, first.workload_address, first.workload_port) == (
        "192.168.1.1", 8080, "127.0.0.1", 18080,
    )  # fmt: skip
    assert (first.service, first.protocol, first.state, first.advertised) == ("pay", "http", "Ready", "10.0.0.1")
    assert (second.address, second.port, second.workload_address, second.workload_port) == (
        "192.168.1.2", 9090, "192.168.1.2", 9090,
    )  # fmt: skip
    assert (second.protocol, second.state) == ("tcp", "NotReady")
    assert (third.state, third.named) == ("Ignored", False)
    assert (found.redirect_inbound, found.redirect_outbound, found.ipv6) == (15006, 15001, False)
    assert found.reachable == {"ledger"}
    assert first.line == 13


def test_a_delegated_gateway_and_the_default_mesh() -> None:
    found = only(written({key: value for key, value in gateway("edge").items() if key != "mesh"}))
    assert isinstance(found, Dataplane)
    assert found.identity == ("Dataplane", "default", "edge")
    assert found.gateway == (("kuma.io/service", "edge"),)


def test_an_external_service_is_read_with_its_defaults() -> None:
    assert only(written(external("e", "httpbin.org:443"))) == ExternalService(
        "default", "e", "httpbin.org", 443, (("kuma.io/service", "e"),)
    )
    found = only(
        written(
            external(
                "e", "[2001:db8::1]:443", tls={"enabled": True, "serverName": "x", "caCert": {"inlineString": "PEM"}},
                disableHostDNSEntry=True,
            )
        )
    )  # fmt: skip
    assert (found.host, found.host_entry, found.tls) == ("2001:db8::1", False, ExternalTls("x", "PEM"))
    assert only(written(external("e", "a.b:1", tls={"enabled": True}))).tls == ExternalTls("a.b")
    assert only(written(external("e", "a.b:1", tls={"enabled": False}))).tls is None


def test_a_virtual_outbound_is_read_with_its_defaults() -> None:
    found = only(written(virtual("v", "{{.service}}.{{.version}}.mesh", version="")))
    assert isinstance(found, VirtualOutbound)
    assert found.parameters == (("service", "kuma.io/service"), ("version", "version"))
    assert found.selectors == ((("kuma.io/service", "*"),),)


def test_a_mesh_says_whether_unknown_addresses_may_be_reached() -> None:
    assert only("{type: Mesh, name: default}") == Mesh("default")
    assert only("{type: Mesh, name: m, networking: {outbound: {passthrough: false}}}") == Mesh("m", passthrough=False)


def test_documents_are_cut_at_their_marks_and_lines_count_on() -> None:
    text = "%YAML 1.2\n---\n# nothing\n---\ntype: Mesh\nname: a\n--- {type: Mesh, name: b}\n---\nname: x\ntype: Meshh\n"
    found = read_resources(text, "f.yaml")
    assert [each[2] for each in found.resources] == ["a", "b"]
    assert "f.yaml:10: Meshh 'x': type: unknown type 'Meshh'" in lines(found.faults)[-1]


PLANE, EXT, VO = dataplane("d", "web"), external("e", "httpbin.org:443"), virtual("v", "{{.service}}.mesh")
GATE = gateway("g")
IN = "networking/inbound/0"

BAD = [
    (PLANE, "networking", None, "networking", "missing"),
    (PLANE, "networking", 5, "networking", "must be a mapping (key: value), not 5"),
    (PLANE, "networking/address", None, "networking.address", "missing"),
    (PLANE, "networking/address", "", "networking.address", "must not be empty"),
    (PLANE, "networking/address", "0.0.0.0", "networking.address", "0.0.0.0 is every address"),
    (PLANE, "networking/address", "::", "networking.address", "every address"),
    (PLANE, "networking/address", "a b", "networking.address", "neither an IP address nor a host name"),
    (PLANE, "networking/address", 7, "networking.address", "must be text, not 7 (write it in quotes)"),
    (PLANE, "networking/inbound", None, "networking.inbound", "at least one inbound, or a gateway"),
    (PLANE, "networking/inbound", {}, "networking.inbound", "must be a list, not a mapping"),
    (PLANE, IN, "x", "networking.inbound[0]", "must be a mapping (key: value), not 'x'"),
    (PLANE, IN + "/port", None, "networking.inbound[0].port", "missing"),
    (PLANE, IN + "/port", 0, "networking.inbound[0].port", "a number from 1 to 65535, not 0"),
    (PLANE, IN + "/port", 65536, "networking.inbound[0].port", "a number from 1 to 65535, not 65536"),
    (PLANE, IN + "/port", "http", "networking.inbound[0].port", "not 'http'"),
    (PLANE, IN + "/port", True, "networking.inbound[0].port", "not true"),
    (PLANE, IN + "/servicePort", -1, "networking.inbound[0].servicePort", "not -1"),
    (PLANE, IN + "/serviceAddress", "name", "networking.inbound[0].serviceAddress", "'name' is not an IP address"),
    (PLANE, IN + "/address", "name", "networking.inbound[0].address", "is not an IP address"),
    (PLANE, IN + "/state", "Sick", "networking.inbound[0].state", "must be Ready, NotReady, Ignored, not 'Sick'"),
    (PLANE, IN + "/health", True, "networking.inbound[0].health", "must be a mapping"),
    (PLANE, IN + "/health", {"ready": "no"}, "networking.inbound[0].health.ready", "must be true or false"),
    (PLANE, IN + "/tags", None, "networking.inbound[0].tags", "mandatory tag 'kuma.io/service' is missing"),
    (PLANE, IN + "/tags", {"version": "v1"}, "networking.inbound[0].tags", "mandatory tag 'kuma.io/service'"),
    (PLANE, IN + "/tags/version", 1, "networking.inbound[0].tags.version", "must be text, not 1"),
    (PLANE, IN + "/tags/kuma.io~1service", "", 'tags["kuma.io/service"]', "must not be empty"),
    (PLANE, IN + "/tags/kuma.io~1service", "a b", 'tags["kuma.io/service"]', "dots, dashes and underscores, not 'a b'"),
    (PLANE, IN + "/tags/kuma.io~1service", "é", 'tags["kuma.io/service"]', "letters, digits"),
    (PLANE, IN + "/tags/a b", "c", 'tags["a b"]', "the name of a tag consists of"),
    (PLANE, IN + "/tags/kuma.io~1protocol", "udp", 'tags["kuma.io/protocol"]', "'udp' is no protocol; allowed are"),
    (GATE, "networking/gateway/type", "BUILTIN", "networking.gateway.type", "no builtin gateways here"),
    (GATE, "networking/gateway/type", "X", "networking.gateway.type", "must be DELEGATED, not 'X'"),
    (GATE, "networking/gateway/tags", None, "networking.gateway.tags", "mandatory tag"),
    (GATE, "networking/inbound", [{"port": 1, "tags": {"kuma.io/service": "a"}}], "networking.inbound", "no inbounds"),
    (PLANE, "networking/transparentProxying", {"redirectPortInbound": 99999}, "redirectPortInbound", "from 1 to 65535"),
    (PLANE, "networking/transparentProxying", {"ipFamilyMode": "IPv6"}, "ipFamilyMode", "DualStack or IPv4"),
    (PLANE, "networking/transparentProxying", {"reachableServices": [5]}, "reachableServices[0]", "must be text"),
    (PLANE, "name", None, "name", "missing"),
    (PLANE, "name", "Foo", "name", "'Foo': a name has lower-case letters"),
    (PLANE, "name", "a" * 300, "name", "a name has"),
    (PLANE, "mesh", 5, "mesh", "must be text"),
    (EXT, "networking", None, "networking", "missing"),
    (EXT, "networking/address", None, "networking.address", "missing"),
    (EXT, "networking/address", "httpbin.org", "networking.address", "is not host:port"),
    (EXT, "networking/address", "2001:db8::1:443", "networking.address", "is not host:port"),
    (EXT, "networking/address", "httpbin.org:0", "networking.address", "the port must be a number from 1 to 65535"),
    (EXT, "networking/address", "httpbin.org:99999", "networking.address", "the port must be"),
    (EXT, "networking/address", "-a-.b c:1", "networking.address", "neither an IP address nor a host name"),
    (EXT, "networking/address", "[x]:1", "networking.address", "neither an IP address nor"),
    (EXT, "networking/address", "e:443", "networking.address", "must differ from the tag kuma.io/service"),
    (EXT, "networking/disableHostDNSEntry", "yes", "networking.disableHostDNSEntry", "must be true or false"),
    (EXT, "tags", None, "tags", "mandatory tag 'kuma.io/service' is missing"),
    (VO, "selectors", None, "selectors", "at least one selector"),
    (VO, "selectors", [{}], "selectors[0].match", "at least one tag to match"),
    (VO, "selectors", [{"match": {"a": "b c"}}], "selectors[0].match.a", "the value of a tag"),
    (VO, "conf", None, "conf", "missing"),
    (VO, "conf/host", None, "conf.host", "missing"),
    (VO, "conf/host", "{{.service", "conf.host", "{{ without }} (at character 1)"),
    (VO, "conf/host", "{{.other}}.mesh", "conf.host", "uses .other, and there is no parameter of that name"),
    (VO, "conf/port", None, "conf.port", "missing"),
    (VO, "conf/port", 80, "conf.port", "must be text, not 80 (write it in quotes)"),
    (VO, "conf/port", "0", "conf.port", "0 is not a port from 1 to 65535"),
    (VO, "conf/port", "{{.service | len}}", "conf.port", "only {{.name}}"),
    (VO, "conf/parameters", [], "conf.parameters", "a parameter with the tagKey 'kuma.io/service'"),
    (VO, "conf/parameters/0/name", "a-b", "conf.parameters[0].name", "consists of letters and digits"),
    (VO, "conf/parameters/0/name", None, "conf.parameters[0].name", "missing"),
    ({"type": "Mesh", "name": "a"}, "name", "a.b", "name", "lower-case letters, digits, '-' and '_', and begins"),
    ({"type": "Mesh", "name": "a"}, "name", None, "name", "missing"),
    (PLANE, "type", None, "type", "missing; the types are Mesh, Dataplane, ExternalService, VirtualOutbound"),
    (PLANE, "type", "Datplane", "type", "unknown type 'Datplane'; the types are"),
    (PLANE, "type", "Datplane", "type", "did you mean 'Dataplane'?"),
    (PLANE, "type", 7, "type", "must be text, not 7"),
]  # fmt: skip


@pytest.mark.parametrize(("base", "at", "value", "field", "problem"), BAD)
def test_a_fault_is_named_with_line_and_field_and_its_neighbours_work(
    base: Any, at: str, value: Any, field: str, problem: str
) -> None:
    parts = at.split("/")
    broken = changed_path(base, [part.replace("~1", "/") for part in parts], value)
    before, after = dataplane("before", "one"), dataplane("after", "two")
    found = read_resources(written(before, broken, after), "dir/f.yaml")
    assert [identity[2] for identity in found.resources] == ["before", "after"]
    told = [fault for fault in found.faults if field in fault.field and problem in fault.problem]
    assert told, lines(found.faults)
    first = written(before).count("\n") + 2
    assert first < (told[0].line or 0) <= first + written(broken).count("\n") + 2
    assert str(told[0]).startswith(f"dir/f.yaml:{told[0].line}: ")


def changed_path(base: Any, parts: list[str], value: Any) -> Any:
    copy = json.loads(json.dumps(base))
    where = copy
    for part in parts[:-1]:
        where = where[int(part) if isinstance(where, list) else part]
    last: Any = int(parts[-1]) if isinstance(where, list) else parts[-1]
    if value is None:
        del where[last]
    else:
        where[last] = value
    return copy


BROKEN_TEXTS = [
    ("type: [Mesh\n", "f.yaml:3: not YAML"),
    ("type: Mesh\n\tname: x\n", "indented with a tab"),
    ("- type: Mesh\n", "a resource must be a mapping (key: value), not a list"),
    ("just words\n", "must be a mapping (key: value), not 'just words'"),
    ("type: !!python/name:os.system ''\n", "the tag"),
    ("apiVersion: kuma.io/v1alpha1\nkind: Mesh\nmetadata: {name: x}\n", "f.yaml:3: kind: this is Kubernetes' format"),
    ("type: Mesh\nname: x\nname: y\n", "f.yaml:4: Mesh 'x': name: there twice (first on line 3)"),
]


@pytest.mark.parametrize(("text", "problem"), BROKEN_TEXTS)
def test_a_broken_document_is_named_and_the_others_work(text: str, problem: str) -> None:
    found = read_resources(f"---\n{text}---\ntype: Mesh\nname: good\n", "f.yaml")
    assert [identity[2] for identity in found.resources] == ["good"]
    assert problem in lines(found.faults)[0]


def test_one_resource_written_twice_is_taken_once() -> None:
    found = read_resources(written(dataplane("a", "one"), dataplane("a", "two")), "f.yaml")
    (taken,) = found.resources.values()
    assert isinstance(taken, Dataplane)
    assert taken.inbounds[0].service == "one"
    assert lines(found.faults) == ["f.yaml:18: Dataplane 'a': name: there twice; the first, on line 1, is taken"]


def test_two_inbounds_of_one_port_are_named() -> None:
    twice = dataplane("a", "one")
    twice["networking"]["inbound"] *= 2
    assert (
        "networking.inbound[1].port: 192.168.0.1:8080 is taken by inbound[0] already"
        in (lines(read_resources(written(twice), "f.yaml").faults)[0])
    )


def test_what_is_unknown_or_not_done_is_noticed_and_taken() -> None:
    mesh = {"type": "Mesh", "name": "default", "mtls": {"enabledBackend": "ca"}}
    odd = dataplane("a", "one", servicPort=5)
    found = read_resources(written(mesh, odd), "f.yaml")
    assert len(found.resources) == 2
    assert lines(found.notices) == [
        "f.yaml:5: Mesh 'default': mtls.enabledBackend: there is no mTLS here: data planes speak to each other "
        "without TLS",
        "f.yaml:21: Dataplane 'a': networking.inbound[0].servicPort: unknown field, left out of account; "
        "did you mean 'servicePort'?",
    ]


def test_kinds_of_kuma_that_are_not_published_are_counted() -> None:
    others = [{"type": kind, "mesh": "default", "name": "x"} for kind in (*sorted(UNPUBLISHED), "MeshService")]
    found = read_resources(written(*others), "f.yaml")
    assert not found.faults
    assert not found.resources
    assert found.ignored["MeshService"] == 2


def test_what_was_valid_stays_until_its_replacement_is() -> None:
    good = read_resources(written(dataplane("a", "one"), dataplane("b", "two"), dataplane("c", "three")), "f.yaml")
    bad = changed_path(dataplane("b", "two"), ["networking", "address"], "0.0.0.0")
    found = read_resources(written(dataplane("a", "other"), bad), "f.yaml", good.resources)
    assert {key[2]: each.inbounds[0].service for key, each in found.resources.items()} == {"a": "other", "b": "two"}  # type: ignore[union-attr]
    mended = read_resources(written(dataplane("b", "mended")), "f.yaml", found.resources)
    assert [each[2] for each in mended.resources] == ["b"]


@pytest.mark.parametrize(
    "broken", ["type: [", "- 5", "kind: Mesh", "{type: Dataplane, name: B AD}", "{type: Dataplan}"]
)
def test_while_it_cannot_be_told_what_is_broken_nothing_goes(broken: str) -> None:
    good = read_resources(written(dataplane("a", "one"), dataplane("b", "two")), "f.yaml")
    found = read_resources(f"{written(dataplane('a', 'other'))}\n---\n{broken}\n", "f.yaml", good.resources)
    assert found.faults
    assert {each[2] for each in found.resources} == {"a", "b"}


def test_a_dataplane_that_a_node_brings_along() -> None:
    found = read_joining_dataplane(written(dataplane("a", "one")), "default", "a")
    assert found.name == "a"
    for text, problem in (
        (written(dataplane("b", "one")), "proxyId default.a does not match proxy resource Dataplane 'b'"),
        (written({"type": "Mesh", "name": "a"}), "does not match proxy resource Mesh 'a'"),
        ("", "holds no Dataplane"),
        ("type: [", "not YAML"),
        (written(dataplane("a", "")), "mandatory tag 'kuma.io/service' is missing"),
    ):
        with pytest.raises(ResourceError) as caught:
            read_joining_dataplane(text, "default", "a")
        assert problem in str(caught.value)


VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["Mesh", "*", "a.b:1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["type", "name", "mesh", "networking", "address", "inbound", "port", "tags", "kuma.io/service", "conf", "host",
         "parameters", "selectors", "match", "gateway", "tls", "health", "ready", "state"]), inner, max_size=5),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=scale(3000))
@given(st.sampled_from(["Mesh", "Dataplane", "ExternalService", "VirtualOutbound"]), VALUES, VALUES)
def test_no_value_whatever_breaks_the_reader(kind: str, networking: Any, conf: Any) -> None:
    given = {"type": kind, "name": "a", "networking": networking, "conf": conf, "tags": conf, "selectors": networking}
    found = read_resources(written(given, dataplane("good", "web")), "f.yaml")
    assert ("Dataplane", "default", "good") in found.resources


@settings(max_examples=scale(3000))
@given(st.text(alphabet="-:[]{}'\"#&*!|> \n\tab", max_size=60))
def test_no_text_whatever_breaks_the_reader(text: str) -> None:
    found = read_resources(f"{text}\n---\n{written(dataplane('good', 'web'))}", "f.yaml")
    assert ("Dataplane", "default", "good") in found.resources
