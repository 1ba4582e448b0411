"""What is written for each resolver: every zone, every address, its reasons, and the same bytes each time."""

import json
from ipaddress import ip_network

import pytest
import yaml

from meshdns.kubernetes.corefile import CorefileError, own_lines, server_blocks
from meshdns.kubernetes.forwarders import FORWARDERS, Target
from meshdns.kubernetes.forwarders.target import parse_endpoint, remark

REVERSE = (ip_network("240.0.0.0/4"), ip_network("fd00:fd00::/64"))
ULA_ZONE = "0.0.0.0.0.0.0.0.0.0.d.f.0.0.d.f.ip6.arpa"
CLUSTER = Target((parse_endpoint("10.96.0.53:53"),), ("mesh", "mesh.local"), REVERSE)
LOOPBACK = Target((parse_endpoint("127.0.0.1:15053"),), ("mesh", "mesh.local"), REVERSE)
BOTH = Target((parse_endpoint("10.96.0.53"), parse_endpoint("[fd00::53]:5353")), ("mesh",))
EVERY_PART = [(name, part) for name, forwarder in FORWARDERS.items() for part in forwarder.parts]


def written(name: str, part: str, target: Target = CLUSTER) -> str:
    return FORWARDERS[name].parts[part](target)


@pytest.mark.parametrize(("name", "part"), EVERY_PART)
def test_every_part_names_every_zone(name: str, part: str) -> None:
    text = written(name, part)
    assert len(CLUSTER.names) == 2 + 16 + 1
    for zone in CLUSTER.names:
        assert zone in text


@pytest.mark.parametrize(("name", "part"), EVERY_PART)
def test_every_part_is_plain_lines_with_reasons(name: str, part: str) -> None:
    text = written(name, part)
    assert text == written(name, part)
    assert text.isascii()
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    assert all(line == line.rstrip() and len(line) <= 120 for line in text.splitlines())
    assert text[0] in "#;/-"


ADDRESSED = [
    ("coredns", "block", "forward . 10.96.0.53:53 [fd00::53]:5353 {"),
    ("nodelocal", "block", "forward . 10.96.0.53:53 [fd00::53]:5353 {"),
    ("kube-dns", "configmap", '"mesh": ["10.96.0.53:53", "[fd00::53]:5353"]'),
    ("systemd-resolved", "resolved", "DNS=10.96.0.53:53 [fd00::53]:5353"),
    ("systemd-resolved", "delegate", "DNS=10.96.0.53:53 [fd00::53]:5353"),
    ("dnsmasq", "conf", "server=/mesh/10.96.0.53#53\nserver=/mesh/fd00::53#5353\n"),
    ("unbound", "conf", "    forward-addr: 10.96.0.53@53\n    forward-addr: fd00::53@5353\n"),
    ("knot-resolver", "conf", "policy.STUB({'10.96.0.53@53', 'fd00::53@5353'})"),
    ("bind", "zones", "forwarders { 10.96.0.53 port 53; fd00::53 port 5353; };"),
    ("pdns-recursor", "conf", "forward-zones+=mesh=10.96.0.53:53;[fd00::53]:5353"),
]


@pytest.mark.parametrize(("name", "part", "expected"), ADDRESSED)
def test_addresses_are_spelled_as_the_resolver_reads_them(name: str, part: str, expected: str) -> None:
    assert expected in written(name, part, BOTH)


SETTINGS = [
    ("coredns", "block", CLUSTER, "        success 9984 30 0\n        denial 9984 5 0\n"),
    ("coredns", "block", CLUSTER, "        expire 5s\n"),
    ("nodelocal", "block", CLUSTER, "    bind 169.254.20.10 10.96.0.10\n"),
    ("nodelocal", "block", CLUSTER, "        force_tcp\n"),
    ("unbound", "conf", LOOPBACK, "    do-not-query-localhost: no\n"),
    ("unbound", "conf", CLUSTER, '    domain-insecure: "mesh"\n'),
    ("unbound", "conf", CLUSTER, f'    local-zone: "{ULA_ZONE}." transparent\n'),
    ("bind", "options", CLUSTER, 'validate-except {\n    "mesh";\n'),
    ("bind", "zones", CLUSTER, "forward only;"),
    ("dnsmasq", "conf", CLUSTER, "rebind-domain-ok=/mesh/\n"),
    ("knot-resolver", "conf", CLUSTER, "policy.FLAGS({'NO_CACHE'})"),
    ("pdns-recursor", "lua", CLUSTER, 'addNTA("mesh", '),
    ("systemd-resolved", "resolved", CLUSTER, "names under mesh.local are asked of meshdns"),
    ("systemd-resolved", "delegate", CLUSTER, "DefaultRoute=no\n"),
]


@pytest.mark.parametrize(("name", "part", "target", "expected"), SETTINGS)
def test_what_each_resolver_must_be_told(name: str, part: str, target: Target, expected: str) -> None:
    assert expected in written(name, part, target)


ABSENT = [
    ("unbound", "conf", CLUSTER, "do-not-query-localhost"),
    ("unbound", "conf", BOTH, "local-zone"),
    ("coredns", "block", CLUSTER, "bind "),
    ("coredns", "block", CLUSTER, "        force_tcp\n"),
    ("coredns", "block", CLUSTER, "\n    loop"),
    ("systemd-resolved", "resolved", BOTH, "(RFC 6762)"),
]


@pytest.mark.parametrize(("name", "part", "target", "unwanted"), ABSENT)
def test_what_only_some_targets_need_is_left_out_otherwise(name: str, part: str, target: Target, unwanted: str) -> None:
    body = "\n".join(
        line for line in written(name, part, target).splitlines() if not line.startswith(("# The block", "# same"))
    )
    assert unwanted not in body


def test_kube_dns_reads_its_stub_domains_as_json() -> None:
    config_map = yaml.safe_load(written("kube-dns", "configmap"))
    assert config_map["metadata"] == {"name": "kube-dns", "namespace": "kube-system"}
    assert json.loads(config_map["data"]["stubDomains"]) == {name: ["10.96.0.53:53"] for name in CLUSTER.names}


def test_a_block_of_coredns_serves_our_zones_and_no_other() -> None:
    text = written("coredns", "block")
    (block,) = server_blocks(text)
    assert block.ours
    assert block.serves == tuple((name, 53) for name in CLUSTER.names)
    assert own_lines(text) == (1, len(text.splitlines()))


ENDPOINTS = [
    ("10.96.0.53:53", "10.96.0.53:53"),
    ("10.96.0.53", "10.96.0.53:53"),
    ("[fd00::53]:5353", "[fd00::53]:5353"),
    ("[fd00::53]", "[fd00::53]:53"),
    ("fd00::53", "[fd00::53]:53"),
]


@pytest.mark.parametrize(("text", "expected"), ENDPOINTS)
def test_an_address_is_read_with_or_without_its_port(text: str, expected: str) -> None:
    assert parse_endpoint(text).with_colon == expected


WRONG_ENDPOINTS = [
    ("meshdns.meshdns:53", "is not an IP address"),
    ("10.96.0.53:", "port"),
    ("10.96.0.53:0", "port"),
    ("10.96.0.53:65536", "port"),
    ("10.96.0.53:99999999999999999999", "port"),
    ("10.96.0.53:dns", "port"),
    ("0.0.0.0:53", "asked"),
    ("224.0.0.251:5353", "asked"),
    ("fe80::1%eth0", "asked"),
    ("", "is not an IP address"),
]


@pytest.mark.parametrize(("text", "said"), WRONG_ENDPOINTS)
def test_what_cannot_be_asked_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_endpoint(text)


COREFILES = [
    (".:53 {\n  errors\n}\n", [((("", 53),), ())]),
    (".:1053 {\n  bind 10.0.0.1 fd00::1\n}", [((("", 1053),), ("10.0.0.1", "fd00::1"))]),
    ("a.example b.example:5 {\n}\n", [((("a.example", 53), ("b.example", 5)), ())]),
    ("a.example, \n# why\nb.example {\n  log\n}\n", [((("a.example", 53), ("b.example", 53)), ())]),
    ("dns://A.Example.:53 tls://b.example {\n}\n", [((("a.example", 53),), ())]),
    ("10.0.0.0/15 {\n}\n", [((("0.10.in-addr.arpa", 53), ("1.10.in-addr.arpa", 53)), ())]),
    (
        '(snip) {\n  errors\n}\n. {\n  import snip\n  template IN A { \n answer "{{ .Name }} }"\n }\n}\n',
        [((("", 53),), ())],
    ),
    ("import ../custom/*.server\n.:53 {\n}\n", [((("", 53),), ())]),
    ("# .:99 {\n.:53 { # end\n  errors # {\n}\n", [((("", 53),), ())]),
    ("", []),
]


@pytest.mark.parametrize(("text", "expected"), COREFILES)
def test_server_blocks_are_read_as_coredns_reads_them(text: str, expected: list[object]) -> None:
    assert [(block.serves, block.bind) for block in server_blocks(text)] == expected


WRONG_COREFILES = [
    ("mesh:53\nforward . 10.0.0.1\n", 1, "without braces"),
    ("\n.:53 {\n  errors\n", 2, "not closed"),
    (".:53 {\n}\n}\n", 3, "without a block"),
    ("# BEGIN meshdns\n.:53 {\n}\n", 1, "do not enclose"),
    ("# END meshdns\n# BEGIN meshdns\n", 2, "do not enclose"),
    ("# BEGIN meshdns\n# END meshdns\n# BEGIN meshdns\n# END meshdns\n", 3, "second"),
]


@pytest.mark.parametrize(("text", "line", "said"), WRONG_COREFILES)
def test_a_corefile_that_cannot_be_joined_is_refused_with_its_line(text: str, line: int, said: str) -> None:
    with pytest.raises(CorefileError, match=said) as caught:
        server_blocks(text)
    assert caught.value.line == line


def test_a_remark_keeps_its_paragraphs_and_wraps_them() -> None:
    assert remark("one\n two\n\nthree", "# ") == "# one two\n#\n# three\n"
