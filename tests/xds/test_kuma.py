"""What a listener means."""

from ipaddress import ip_address
from typing import Any

import pytest
from envoy.service.discovery.v3.discovery_pb2 import Resource as Wrapper

from meshdns.xds.decode.kuma import Outbound, Piece, decode_listener
from meshdns.xds.session import LISTENER, FaultyResourceError, Resource
from tests.xds.listeners import dns_filter, document, dynconf, outbound, passthrough


def decode(listener: Any, name: str = "") -> tuple[str, Piece]:
    resource = Resource(LISTENER, listener.SerializeToString(), name)
    return decode_listener(resource, "v1", source="kuma")


NAMES = {"Echo.mesh": ["240.0.0.1", "::ffff:f000:1"], "web.mesh": ["240.0.0.2"]}


@pytest.mark.parametrize(
    ("listener", "encoding"),
    [
        (dynconf(document(NAMES)), "dynconf"),
        (dynconf(document(NAMES), "system_dynamicconfig"), "dynconf"),
        (dynconf(document(NAMES), "any name, on a pipe"), "dynconf"),
        (dynconf(document(NAMES), pipe=False), "dynconf"),
        (dynconf(document(NAMES, extraLabels={"mesh": "default"}).encode()), "dynconf"),
        (dns_filter(NAMES), "dns_filter"),
        (dns_filter(NAMES, "system_dns"), "dns_filter"),
        (dns_filter(NAMES, alpha=True), "dns_filter"),
        (dns_filter(NAMES, ttl=None), "dns_filter"),
    ],
)
def test_a_table_of_names_in_every_encoding(listener: Any, encoding: str) -> None:
    name, piece = decode(listener)
    assert name == listener.name
    assert piece.outbound is None
    assert piece.table is not None
    assert piece.table.encoding == encoding
    records = piece.table.document.records
    assert {record.name: record.addresses for record in records.values()} == {
        name: tuple(map(ip_address, addresses)) for name, addresses in NAMES.items()
    }
    assert {record.ttl for record in records.values()} == {30}
    assert {(record.origin.source, record.origin.resource, record.origin.version) for record in records.values()} == {
        ("kuma", listener.name, "v1")
    }


def test_a_ttl_of_the_filter_is_taken() -> None:
    _, piece = decode(dns_filter(NAMES, ttl=5))
    assert piece.table is not None
    assert {record.ttl for record in piece.table.document.records.values()} == {5}


def test_a_filter_with_one_odd_name_keeps_the_rest() -> None:
    listener = dns_filter({**NAMES, "a..b.mesh": ["240.0.0.3"], "bad.mesh": ["240.0.0"]})
    config = listener.listener_filters[0].typed_config
    _, piece = decode(listener)
    assert piece.table is not None
    assert len(piece.table.document.records) == 2
    assert [line.split(":")[0] for line in piece.table.document.skipped] == [
        "name 'a..b.mesh'",
        "address of 'bad.mesh'",
        "name 'bad.mesh'",
    ]
    assert config.type_url.endswith("dns_filter.v3.DnsFilterConfig")


def test_an_empty_filter_is_an_empty_table() -> None:
    _, piece = decode(dns_filter({}))
    assert piece.table is not None
    assert piece.table.document.records == {}


@pytest.mark.parametrize(
    ("listener", "service", "tagged"),
    [
        (outbound("240.0.0.1", 80, "echo_default_svc_80"), "echo_default_svc_80", True),
        (outbound("240.0.0.1", 80, tags={"kuma.io/service": "web", "version": "v1"}), "web", False),
        (outbound("240.0.0.1", 80, tags={"kuma.io/unified-name": "kri_a"}), "kri_a", False),
        (outbound("240.0.0.1", 80, tags={"kuma.io/unified-name": "kri_a", "kuma.io/service": "b"}), "kri_a", False),
        (outbound("240.0.0.1", 80, "web", name="kri_msvc_default___web_80"), "kri_msvc_default___web_80", False),
        (outbound("240.0.0.1", 80, tags={}, cluster="default_web__z_msvc_80"), "default_web__z_msvc_80", False),
        (outbound("240.0.0.1", 80, cluster="web-1"), "web-1", False),
        (outbound("240.0.0.1", 80, cluster="web-1", http=True), "web-1", False),
        (
            outbound("240.0.0.1", 80, "p", name="kri_msvc_default___passthrough_80"),
            "kri_msvc_default___passthrough_80",
            False,
        ),
    ],
)
def test_where_an_outbound_listener_leads(listener: Any, service: str, tagged: bool) -> None:
    _, piece = decode(listener)
    assert piece == Piece(Outbound(((ip_address("240.0.0.1"), 80),), service, tagged))


def test_additional_addresses_lead_there_too() -> None:
    """2.6 to 2.8 merged the VIPs into the listener of the cluster IP."""
    _, piece = decode(outbound("10.43.0.1", 80, "echo", more=["240.0.0.1", "fd00:fd00::1"]))
    assert piece.outbound is not None
    assert [str(address) for address, _ in piece.outbound.places] == ["10.43.0.1", "240.0.0.1", "fd00:fd00::1"]


@pytest.mark.parametrize(
    "listener",
    [
        passthrough(),
        passthrough("::", "outbound:passthrough:ipv6"),
        passthrough("::", "self_transparentproxy_passthrough_outbound_ipv6"),
        passthrough("0.0.0.0", "of a name yet unknown"),
        passthrough("10.0.0.1", "outbound:passthrough:ipv4"),
    ],
)
def test_passthrough_is_left_out(listener: Any) -> None:
    assert decode(listener)[1] == Piece()


def test_inbound_and_pipes_without_a_document_say_nothing() -> None:
    inbound = outbound("10.0.0.1", 80, "web", name="inbound:10.0.0.1:80")
    inbound.traffic_direction = 1
    assert decode(inbound)[1] == Piece()
    pipe = dynconf("{}")
    for host in pipe.filter_chains:
        host.filters[0].typed_config.value = b""
    assert decode(pipe)[1] == Piece()


@pytest.mark.parametrize(
    ("listener", "line"),
    [
        (
            outbound("host.example", 80, "web"),
            "listener 'outbound:host.example:80': 'host.example' is not an IP address",
        ),
        (outbound("240.0.0.1", 80), "listener 'outbound:240.0.0.1:80': no service can be read from it"),
        (outbound("240.0.0.1", 80, "a\x1b[31m"), "listener 'outbound:240.0.0.1:80': no service can be read from it"),
    ],
)
def test_an_outbound_listener_that_says_too_little_is_skipped(listener: Any, line: str) -> None:
    assert decode(listener)[1] == Piece(skipped=(line,))


def spoiled(listener: Any) -> Any:
    """*listener* with a filter whose configuration is no protobuf."""
    filters = listener.listener_filters or listener.filter_chains[0].filters
    filters[0].typed_config.value = b"\x0a\xff\xff"
    return listener


@pytest.mark.parametrize(
    ("resource", "name", "problem"),
    [
        (Resource(LISTENER, b"\x0a\xff\xff\xff"), "", "not a readable protobuf message"),
        (Resource(LISTENER, b"\x0a\xff\xff\xff", "x"), "x", "not a readable protobuf message"),
        (Resource(LISTENER, b""), "", "a listener without a name"),
        (Resource(LISTENER, None, "x"), "x", "a resource without content"),
        (Resource("type.googleapis.com/envoy.config.cluster.v3.Cluster", b"", "x"), "x", "not a listener but"),
        (dynconf("not json"), "_kuma:dynamicconfig", "the /dns document is not JSON"),
        (dynconf('{"records": 7}'), "_kuma:dynamicconfig", "is not a list"),
        (spoiled(dynconf("{}")), "_kuma:dynamicconfig", "configuration of its filter cannot be read"),
        (spoiled(dns_filter({})), "kuma:dns", "configuration of its filter cannot be read"),
    ],
)
def test_what_is_faulty_is_named(resource: Any, name: str, problem: str) -> None:
    if not isinstance(resource, Resource):
        resource = Resource(LISTENER, resource.SerializeToString())
    with pytest.raises(FaultyResourceError) as error:
        decode_listener(resource, "v1", source="kuma")
    assert error.value.name == name
    assert problem in error.value.problem
    assert name not in error.value.problem or not name


def test_a_filter_without_an_inline_table_is_faulty() -> None:
    listener = dns_filter({})
    listener.listener_filters[0].typed_config.value = b""
    with pytest.raises(FaultyResourceError, match="no inline table"):
        decode(listener)


def test_a_broken_filter_of_an_outbound_listener_does_not_matter_where_tags_say_enough() -> None:
    assert decode(spoiled(outbound("240.0.0.1", 80, "web")))[1].outbound is not None
    assert "no service" in decode(spoiled(outbound("240.0.0.1", 80, http=True)))[1].skipped[0]


def test_a_wrapped_resource_is_unwrapped() -> None:
    wrapper = Wrapper(name="outer")
    wrapper.resource.Pack(outbound("240.0.0.1", 80, "web"))
    resource = Resource("type.googleapis.com/envoy.service.discovery.v3.Resource", wrapper.SerializeToString())
    name, piece = decode_listener(resource, "v1", source="kuma")
    assert name == "outbound:240.0.0.1:80"
    assert piece.outbound is not None
