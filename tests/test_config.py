"""The configuration: defaults, every fault at once with key and line, the way through JSON."""

import random
import re
from ipaddress import ip_network
from pathlib import Path

import pytest
import trustme

from meshdns import config
from meshdns.config import Config, find, load, load_for, parse
from meshdns.errors import ConfigError, Fault
from meshdns.zone.entries import Rules
from tests.scale import scale

FILE = "sources: [{name: extra, type: file, path: records.yaml}]\n"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A directory with what the configurations below name."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    (tmp_path / "token").write_text("eyJ.x.y\n")
    (tmp_path / "records.yaml").write_text("records: {}\n")
    return tmp_path


def read(here: Path, text: str, **environ: str) -> Config:
    return parse(text, here / "meshdns.yaml", environ)


def faults(here: Path, text: str, **environ: str) -> tuple[Fault, ...]:
    with pytest.raises(ConfigError) as caught:
        read(here, text, **environ)
    assert caught.value.path == str(here / "meshdns.yaml")
    return caught.value.faults


def only(found: tuple[Fault, ...]) -> Fault:
    assert len(found) == 1, found
    return found[0]


def test_what_is_not_said_has_the_defaults_of_the_contract(here: Path) -> None:
    settings = read(here, FILE)
    assert settings.listen == ("127.0.0.1:15053", "[::1]:15053")
    assert settings.data_dir == here / "meshdns-data"
    assert (settings.responders, settings.drain, settings.shrink_hold) == (1, 5.0, 300.0)
    assert settings.zones == ("mesh", "mesh.local")
    assert settings.reverse == (ip_network("240.0.0.0/4"), ip_network("fd00:fd00::/64"))
    assert (settings.mapped_v6, settings.srv, settings.allow, settings.log_level) == ("keep", False, (), "info")
    assert settings.rules() == Rules(settings.zones, settings.reverse, mapped_v6=True, srv=False)


FULL = """\
listen: ["127.0.0.1:0", "[0:0:0:0:0:0:0:1]:053", "0.0.0.0:53"]
data_dir: /var/lib/meshdns
responders: auto
drain: 1500ms
shrink_hold: 0
zones: [Mesh, mesh., a.b]
reverse: ["10.0.0.0/8", "fd00::/8"]
mapped_v6: drop
srv: true
allow: ["192.0.2.0/24", 198.51.100.7]
log_level: DEBUG
upstreams:
  - {zone: ".", servers: [10.0.0.10, "10.0.0.11:5353", "[fd00::1]:53", "fd00::2", "tls://10.0.0.12#Dns.Example"],
     ca_file: ca.pem}
  - {zone: Corp.Example., servers: resolv.conf}
  - {zone: b.corp.example, servers: ./resolv.conf, port: 5353, randomize_case: false}
cache: {entries: 5, bytes: 70000, max_ttl: 2h, negative_ttl: 1m, stale: 0, prefetch: false}
special_names: forward
sources:
  - {name: kuma, type: kuma, address: "127.0.0.1:5678", mesh: default, dataplane: meshdns, ca_file: ca.pem,
     token_file: token, protocol: delta, register: false}
  - {name: plain, type: kuma, address: "[::1]:5678", dataplane: m2, plaintext: true}
  - {name: extra, type: file, path: ./records.yaml}
  - {name: sidecar, type: kuma-dp, socket: kuma-mesh-metric-config.sock}
"""


def test_every_key_is_read_and_every_path_is_absolute(here: Path) -> None:
    settings = read(here, FULL)
    assert settings.listen == ("127.0.0.1:0", "[::1]:53", "0.0.0.0:53")
    assert settings.data_dir == Path("/var/lib/meshdns")
    assert settings.responders >= 1
    assert (settings.drain, settings.shrink_hold) == (1.5, 0.0)
    assert settings.zones == ("mesh", "a.b")
    assert settings.rules() == Rules(
        ("mesh", "a.b"), (ip_network("10.0.0.0/8"), ip_network("fd00::/8")), mapped_v6=False, srv=True
    )
    assert settings.allow == (ip_network("192.0.2.0/24"), ip_network("198.51.100.7/32"))
    assert settings.log_level == "debug"
    every, corp, below = settings.upstreams
    assert [str(server) for server in every.fixed] == [
        "10.0.0.10:53",
        "10.0.0.11:5353",
        "[fd00::1]:53",
        "[fd00::2]:53",
        "tls://10.0.0.12:853#dns.example",
    ]
    assert (every.zone, every.ca_file, every.file) == (".", here / "ca.pem", None)
    assert (corp.zone, corp.file, corp.fixed) == ("corp.example", Path("/etc/resolv.conf"), ())
    assert (below.file, below.port, below.randomize_case) == (here / "resolv.conf", 5353, False)
    assert (settings.cache.entries, settings.cache.max_ttl, settings.cache.stale) == (5, 7200.0, 0.0)
    assert settings.special_names == "forward"
    kuma, plain, extra, sidecar = settings.sources
    assert kuma.type == "kuma"
    assert (kuma.ca_file, kuma.token_file) == (here / "ca.pem", here / "token")
    assert (kuma.register_dataplane, kuma.protocol) == (False, "delta")
    assert plain.type == "kuma"
    assert plain.plaintext
    assert extra.type == "file"
    assert extra.path == here / "records.yaml"
    assert sidecar.type == "kuma-dp"
    assert sidecar.socket == here / "kuma-mesh-metric-config.sock"


@pytest.mark.parametrize("text", [FILE, FULL])
def test_a_config_goes_through_json_unchanged(here: Path, text: str) -> None:
    settings = read(here, text)
    assert Config.model_validate_json(settings.model_dump_json()) == settings


def test_what_needs_a_restart_is_named(here: Path) -> None:
    one = read(here, FILE)
    two = read(here, FILE + "listen: ['127.0.0.1:1']\ndata_dir: other\nresponders: 3\nzones: [other]\n")
    assert one.restart_needed(two) == ["listen", "data_dir", "responders"]
    assert one.restart_needed(read(here, FILE + "zones: [other]\n")) == []


# key, its value in the file, what the message must hold
WRONG_VALUES = [
    ("listen", "127.0.0.1:53", "must be a list"),
    ("listen", "[]", "at least one"),
    ("listen[0]", '[":53"]', "write '0.0.0.0:53' for every IPv4 and '[::]:53' for every IPv6 address"),
    ("listen[0]", '["127.0.0.1"]', "did you mean '127.0.0.1:53'?"),
    ("listen[0]", '["::1"]', "did you mean '[::1]:53'?"),
    ("listen[0]", '["[::1]"]', "names no port"),
    ("listen[0]", '["::1:53"]', "did you mean"),
    ("listen[0]", '["localhost:53"]', "is not an IP address and a port"),
    ("listen[0]", '["[127.0.0.1]:53"]', "is not an IP address and a port"),
    ("listen[0]", '["127.0.0.1:65536"]', "a number from 0 to 65535"),
    ("listen[0]", '["127.0.0.1:-1"]', "a number from 0 to 65535"),
    ("listen[0]", '["127.0.0.1:\u0665"]', "a number from 0 to 65535"),
    ("listen[0]", "[53]", "in quotes"),
    ("listen", "['[::1]:53', '[0::1]:53']", "'[::1]:53' is there twice"),
    ("data_dir", "''", "must be a path"),
    ("data_dir", "5", "must be a path, not 5"),
    ("data_dir", "ca.pem", "is not a directory"),
    ("responders", "0", "at least 1"),
    ("responders", "many", "whole number, not 'many'"),
    ("responders", "1.5", "whole number"),
    ("drain", "5", "must be a duration such as 500ms, 5s, 5m or 1h"),
    ("drain", "5 s", "such as"),
    ("drain", "-5s", "such as"),
    ("drain", "1.5s", "such as"),
    ("drain", "\u0665s", "such as"),
    ("drain", "99999999999999999h", "longer than 30 days"),
    ("shrink_hold", "true", "such as"),
    ("zones", "mesh", "must be a list"),
    ("zones", "[]", "at least one"),
    ("zones[0]", "['.']", "empty name"),
    ("zones[1]", "[mesh, a..b]", "'a..b': empty label"),
    ("zones[0]", "['*.mesh']", "cannot be a wildcard"),
    ("zones[0]", "[{a: b}]", "must be text, not a mapping"),
    ("zones[0]", f"[{'a' * 64}]", "label of 64 octets"),
    ("reverse[0]", "[240.0.0.1/4]", "host bits set; did you mean '240.0.0.0/4'?"),
    ("reverse[0]", "['fd00::1/64']", "did you mean 'fd00::/64'?"),
    ("reverse[0]", "[mesh]", "is not a network"),
    ("reverse[0]", "[10]", "in quotes"),
    ("allow[0]", "[10.0.0.1/8]", "did you mean '10.0.0.0/8'?"),
    ("mapped_v6", "1", "must be 'keep' or 'drop', not 1"),
    ("mapped_v6", "True", "not true"),
    ("mapped_v6", "~", "not nothing"),
    ("mapped_v6", "maybe", "must be 'keep' or 'drop', not 'maybe'"),
    ("srv", "perhaps", "true or false"),
    ("log_level", "loud", "must be 'debug', 'info', 'warning' or 'error'"),
    ("tcp", "5", "must be a mapping"),
    ("rate_limit.frobs", "{frobs: 1}", "unknown key 'frobs'"),
    ("zonse", "[]", "unknown key 'zonse'; did you mean 'zones'?"),
    ("data-dir", "x", "did you mean 'data_dir'?"),
    ("zzz", "x", "unknown key 'zzz'"),
    ("upstreams", "53", "must be a list"),
    ("upstreams[0].servers", "[{zone: '.'}]", "missing"),
    ("upstreams[0].servers", "[{servers: []}]", "at least one server"),
    ("upstreams[0].servers", "[{servers: 10.0.0.1}]", "must be a list of servers, or resolv.conf"),
    ("upstreams[0].servers", "[{servers: [53]}]", "servers in quotes"),
    ("upstreams[0].servers", "[{servers: [dns.example]}]", "is not an IP address"),
    ("upstreams[0].servers", "[{servers: ['10.0.0.1:0']}]", "a number from 1 to 65535"),
    ("upstreams[0].servers", "[{servers: ['10.0.0.1', '10.0.0.1:53']}]", "'10.0.0.1:53' is there twice"),
    ("upstreams[0].servers", "[{servers: ['https://10.0.0.1']}]", "write udp, tcp or tls"),
    ("upstreams[0].servers", "[{servers: ['10.0.0.1#dns.example']}]", "only tls:// servers have a name"),
    ("upstreams[0].servers", "[{servers: ['0.0.0.0']}]", "no address of one server"),
    ("upstreams[0].zone", "[{zone: 'a..b', servers: [10.0.0.1]}]", "is not a zone"),
    ("upstreams[0].zone", "[{zone: '*.b', servers: [10.0.0.1]}]", "is not a zone"),
    ("upstreams[0].zone", "[{zone: x.mesh, servers: [10.0.0.1]}]", "in our own zone 'mesh'"),
    ("upstreams[0].zone", "[{zone: 241.in-addr.arpa, servers: [10.0.0.1]}]", "of which nothing ever leaves"),
    ("upstreams[1].zone", "[{servers: [10.0.0.1]}, {zone: '.', servers: [10.0.0.2]}]", "also the zone of upstreams[0]"),
    ("upstreams[0].servers[1]", "[{servers: [10.0.0.1, '127.0.0.1:15053']}]", "where this instance itself listens"),
    ("upstreams[0].server", "[{servers: [10.0.0.1], server: x}]", "unknown key 'server'; did you mean 'servers'?"),
    ("upstreams[0].ca_file", "[{servers: ['tls://10.0.0.1'], ca_file: gone.pem}]", "no such file"),
    ("upstreams[0].ca_file", "[{servers: ['tls://10.0.0.1'], ca_file: records.yaml}]", "holds no PEM certificate"),
    ("upstreams[0]", "[{servers: ['10.0.0.1'], ca_file: ca.pem}]", "ca_file is for tls:// servers"),
    ("upstreams[0].port", "[{servers: resolv.conf, port: 0}]", "must be at least 1"),
    ("cache.entries", "{entries: -1}", "must be at least 0"),
    ("cache", "{max_ttl: 200h}", "seven days"),
    ("cache", "{negative_ttl: 4h}", "three hours"),
    ("cache", "{stale: 80h}", "three days"),
    ("cache.stale", "{stale: 5}", "must be a duration"),
    ("special_names", "leave", "must be 'answer' or 'forward', not 'leave'"),
]


@pytest.mark.parametrize(("key", "value", "message"), WRONG_VALUES)
def test_a_wrong_value_is_named_with_its_key_and_line(here: Path, key: str, value: str, message: str) -> None:
    fault = only(faults(here, f"{FILE}\n{re.match('[a-z_0-9-]+', key)[0]}: {value}\n"))
    assert fault.key == key
    assert message in fault.problem
    assert fault.line == 3
    assert "Input should" not in fault.problem


WRONG_SOURCES = [
    ("[0].path", "{name: a, type: file, path: gone.yaml}", "gone.yaml: no such file"),
    ("[0].path", "{name: a, type: file, path: .}", "is a directory"),
    ("[0].path", "{name: a, type: file}", "missing"),
    ("[0].path", '{name: a, type: file, path: ""}', "must be a path, not ''"),
    ("[0].path", '{name: a, type: file, path: "a\\0b"}', "must be a path"),
    ("[0].path", "{name: a, type: file, path: [records.yaml]}", "must be a path, not a list"),
    ("[0].pathh", "{name: a, type: file, path: records.yaml, pathh: x}", "did you mean 'path'?"),
    ("[0].name", "{type: file, path: records.yaml}", "missing"),
    ("[0].name", "{name: 7, type: file, path: records.yaml}", "must be text, not 7 (write it in quotes)"),
    ("[0].name", '{name: "a b", type: file, path: records.yaml}', "letters, digits"),
    ("[0].name", '{name: "a\\nb", type: file, path: records.yaml}', "letters, digits"),
    ("[0].type", "{name: a, path: records.yaml}", "missing"),
    ("[0].type", "{name: a, type: kumo}", "kuma, file, kuma-dp, publisher, not 'kumo'; did you mean 'kuma'?"),
    ("[0].path", "{name: a, type: publisher, path: mesh/}", "no such file or directory"),
    ("[0].vips", "{name: a, type: publisher, path: ., vips: both}", "must be 'bind' or 'transparent', not 'both'"),
    ("[0].mesh", "{name: a, type: publisher, path: ., mesh: a.b}", "'a.b' cannot be"),
    ("[0].domain", "{name: a, type: publisher, path: ., domain: .mesh}", "'.mesh' cannot be"),
    ("[0].quarantine", "{name: a, type: publisher, path: ., quarantine: 60}", "must be a duration"),
    ("[0].service_vip_port", "{name: a, type: publisher, path: ., service_vip_port: 0}", "at least 1"),
    ("[0].ranges.services", "{name: a, type: publisher, path: ., ranges: {services: 10.0.0.1/8}}", "host bits set"),
    ("[0].ranges.services", "{name: a, type: publisher, path: ., ranges: {services: 224.0.0.0/8}}", "no client"),
    ("[0].ranges.services", "{name: a, type: publisher, path: ., ranges: {services: 5}}", "in quotes"),
    ("[0].listen", "{name: a, type: publisher, path: ., listen: cp}", "'cp' is not an IP address and a port"),
    ("[0]", "{name: a, type: publisher, path: ., listen: '0.0.0.0:1', plaintext: true}", "for loopback only"),
    ("[0]", "{name: a, type: publisher, path: ., cert_file: ca.pem}", "cert_file and key_file come together"),
    ("[0].key_file", "{name: a, type: publisher, path: ., cert_file: ca.pem, key_file: ca.pem}", "no PEM private key"),
    ("[1].type", "{name: a, type: publisher, path: .}, {name: b, type: publisher, path: .}", "a publisher already"),
    ("[0].type", "{name: a, type: 5}", "publisher, not '5'"),
    ("[0]", "records.yaml", "must be a mapping (key: value), not 'records.yaml'"),
    ("[0].socket", f"{{name: a, type: kuma-dp, socket: /{'s' * 107}}}", "108 octets long"),
    ("[0].ca_file", "{name: k, type: kuma, address: 'cp:5678', ca_file: gone.pem}", "gone.pem: no such file"),
    ("[0].ca_file", "{name: k, type: kuma, address: 'cp:5678', ca_file: token}", "holds no PEM certificate"),
    ("[0].ca_file", "{name: k, type: kuma, address: 'cp:5678', ca_file: key.pem}", "but a private key"),
    ("[0].ca_file", "{name: k, type: kuma, address: 'cp:5678', ca_file: .}", "cannot be read: Is a directory"),
    ("[0].token_file", "{name: k, type: kuma, address: '[::1]:1', plaintext: true, token_file: no}", "no such file"),
    ("[0].address", "{name: k, type: kuma, ca_file: ca.pem}", "missing"),
    ("[0].address", "{name: k, type: kuma, address: cp, ca_file: ca.pem}", "'cp' is not host:port"),
    ("[0]", "{name: k, type: kuma, address: 'cp:5678'}", "ca_file is required"),
    ("[0]", "{name: k, type: kuma, address: 'cp:5678', plaintext: true}", "plaintext_remote: true allows it"),
    ("[0].protocol", "{name: k, type: kuma, address: 'cp:5678', ca_file: ca.pem, protocol: udp}", "'auto', 'delta'"),
    ("[0].mesh", "{name: k, type: kuma, address: 'cp:5678', ca_file: ca.pem, mesh: 'a b'}", "'a b' cannot be"),
    ("[0].registr", "{name: k, type: kuma, address: 'cp:5678', ca_file: ca.pem, registr: no}", "mean 'register'?"),
    (
        "[1].name",
        "{name: a, type: file, path: records.yaml}, {name: a, type: kuma-dp, socket: s}",
        "'a' is also the name of sources[0]",
    ),
    (
        "[1].mesh",
        "{name: a, type: kuma, address: '[::1]:1', plaintext: true}, "
        "{name: b, type: kuma, address: '[::1]:2', plaintext: true, mesh: payments}",
        "another source names mesh 'default'",
    ),
]


@pytest.mark.parametrize(("key", "sources", "message"), WRONG_SOURCES)
def test_a_wrong_source_is_named_with_its_key_and_line(here: Path, key: str, sources: str, message: str) -> None:
    fault = only(faults(here, f"listen: ['127.0.0.1:0']\nsources: [{sources}]\n"))
    assert fault.key == "sources" + key
    assert message in fault.problem
    assert fault.line == 2


def test_files_that_may_not_be_read_are_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def deny(path: Path, *args: object, **more: object) -> object:
        if path.name in {"ca.pem", "token"}:
            raise PermissionError(13, "Permission denied")
        return opened(path, *args, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", deny)  # the tests may run as root, whom no mode stops
    source = "{name: k, type: kuma, address: 'cp:5678', ca_file: ca.pem, token_file: token}"
    found = faults(here, f"sources: [{source}]")
    assert [fault.key for fault in found] == ["sources[0].ca_file", "sources[0].token_file"]
    assert all("cannot be read: Permission denied" in fault.problem for fault in found)


@pytest.mark.parametrize("damage", [lambda pem: pem[:300] + pem[-30:], lambda pem: pem.replace("M", "*")])
def test_a_damaged_certificate_is_named(here: Path, damage: object) -> None:
    pem = (here / "ca.pem").read_text()
    (here / "ca.pem").write_text(damage(pem))  # type: ignore[operator]
    source = "{name: k, type: kuma, address: 'cp:5678', ca_file: ca.pem}"
    assert "holds a certificate that is damaged" in only(faults(here, f"sources: [{source}]")).problem


def test_an_empty_token_is_named(here: Path) -> None:
    (here / "token").write_text(" \n")
    source = "{name: k, type: kuma, address: 'cp:5678', ca_file: ca.pem, token_file: token}"
    assert only(faults(here, f"sources: [{source}]")) == Fault("sources[0].token_file", f"{here / 'token'}: is empty")


def test_a_certificate_bundle_is_taken(here: Path) -> None:
    other = trustme.CA(organization_name="another", key_type=trustme.KeyType.RSA).cert_pem.bytes()
    (here / "ca.pem").write_bytes(b"# two of them\n" + (here / "ca.pem").read_bytes() + other)
    assert read(here, "sources: [{name: k, type: kuma, address: 'cp:5678', ca_file: ca.pem}]").sources


EVERYTHING_WRONG = """\
zonse: []
listen: [":53", "[::1]:53"]
drain: 5
zones: [mesh, a..b]
sources:
- {name: one, type: file, path: gone.yaml}
- {name: one, type: kuma, address: cp, dataplan: x}
- {name: two, type: kuma, address: "[::1]:1", plaintext: true, mesh: other, token_file: gone}
drain: 6s
upstreams: [{zone: "."}, {zone: mesh, servers: ["[::1]:53"]}]
"""


def test_all_faults_come_at_once_in_the_order_of_the_file(here: Path) -> None:
    found = faults(here, EVERYTHING_WRONG)
    assert [(fault.line, fault.key) for fault in found] == [
        (1, "zonse"),
        (2, "listen[0]"),
        (3, "drain"),
        (4, "zones[1]"),
        (6, "sources[0].path"),
        (7, "sources[1]"),  # no ca_file: told although the address of the same source is wrong
        (7, "sources[1].address"),
        (7, "sources[1].dataplan"),
        (7, "sources[1].name"),
        (8, "sources[2].mesh"),
        (8, "sources[2].token_file"),
        (9, "drain"),
        (10, "upstreams[0].servers"),
        (10, "upstreams[1].servers[0]"),  # these two are told although the configuration as a whole cannot be read
        (10, "upstreams[1].zone"),
    ]


def test_upstreams_are_looked_at_with_the_listeners_that_are_meant(here: Path) -> None:
    upstreams = "upstreams: [{servers: ['127.0.0.1:15053', '127.0.0.1:5']}]\n"
    found = faults(here, f"drain: x\nlisten: ['127.0.0.1:5']\n{upstreams}{FILE}")
    assert [fault.key for fault in found] == ["drain", "upstreams[0].servers[1]"]
    found = faults(here, f"listen: x\n{upstreams}{FILE}")
    assert [fault.key for fault in found] == ["listen"]


def test_the_message_has_a_line_for_each_fault_that_begins_with_its_place(here: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(here, "zonse: []\n" + FILE + "drain: 5\n")
    first, second = str(caught.value).splitlines()
    assert first == f"{here}/meshdns.yaml:1: zonse: unknown key 'zonse'; did you mean 'zones'?"
    assert second.startswith(f"{here}/meshdns.yaml:3: drain: ")


WRONG_TEXTS = [
    ("", None, "is empty"),
    ("# only a remark\n", None, "is empty"),
    ("- a\n", 1, "must be a mapping"),
    ("just words\n", 1, "must be a mapping"),
    ("zones: [mesh\n", 2, "not YAML"),
    ("sources:\n\t- a\n", 2, "indented with a tab"),
    ("zones: [a]\nsources: *unknown\n", 2, "unknown anchor '*unknown'"),
    ("a: 1\n---\nb: 2\n", 2, "a second document"),
    ("zones: !!python/name:os.system ''\n", 1, "the tag"),
    ("? [a]\n: b\n", 1, "a key must be text"),
    ("a: " + "[" * 40 + "]" * 40, 1, "nested deeper than 32"),
    ("a: \x07\n", None, "not YAML"),
]


@pytest.mark.parametrize(("text", "line", "message"), WRONG_TEXTS)
def test_a_text_that_is_no_mapping_of_yaml_is_one_fault(here: Path, text: str, line: int | None, message: str) -> None:
    fault = only(faults(here, text))
    assert message in fault.problem
    if line is not None:
        assert fault.line == line


@pytest.mark.parametrize(
    ("text", "message"),
    [("zones: [mesh]\n", "missing"), ("sources: []\n", "at least one"), ("sources: {}\n", "must be a list")],
)
def test_there_must_be_a_source(here: Path, text: str, message: str) -> None:
    fault = only(faults(here, text))
    assert fault.key == "sources"
    assert message in fault.problem


def test_sources_of_nothing_are_one_fault(here: Path) -> None:
    assert only(faults(here, "sources:\n")) == Fault("sources", "must be a list, not nothing")


def test_a_key_that_is_there_twice_is_named_at_any_depth(here: Path) -> None:
    found = faults(here, "zones: [a]\n" + FILE.replace("}", ", name: other}") + "zones: [b]\n")
    assert found == (
        Fault("sources[0].name", "there twice (first on line 2)"),
        Fault("zones", "there twice (first on line 1)"),
    )
    assert [fault.line for fault in found] == [2, 3]


def test_variables_of_the_environment_are_replaced_in_any_string(here: Path) -> None:
    text = (
        "listen: ['${HOST}:${PORT}']\nresponders: '${N}'\nzones: ['${A}${B}']\n"
        "sources: [{name: 'x${EMPTY}', type: file, path: '${DIR}/records.yaml'}]\n"
    )
    settings = read(here, text, HOST="127.0.0.1", PORT="53", N="2", A="me", B="sh", EMPTY="", DIR=str(here))
    assert (settings.listen, settings.responders, settings.zones) == (("127.0.0.1:53",), 2, ("mesh",))
    assert [source.name for source in settings.sources] == ["x"]


def test_variables_that_are_not_set_are_named_with_key_and_line(here: Path) -> None:
    found = faults(here, "data_dir: '${ONE}'\nsources:\n- {name: a, type: file, path: '${TWO}/${THREE}'}\n")
    assert found == (
        Fault("data_dir", "the environment variable ONE is not set"),
        Fault("sources[0].path", "the environment variable THREE is not set"),
        Fault("sources[0].path", "the environment variable TWO is not set"),
    )
    assert [fault.line for fault in found] == [1, 3, 3]


def test_a_value_is_not_replaced_twice_and_a_doubled_dollar_stands_for_itself(here: Path) -> None:
    (here / "${A}").write_text("records: {}\n")
    for written in ("'$${A}'", "'${B}'"):
        settings = read(here, f"sources: [{{name: a, type: file, path: {written}}}]", B="${A}")
        assert settings.sources[0].path == here / "${A}"  # type: ignore[union-attr]


@pytest.mark.parametrize("written", ["${", "${A", "${}", "${A-B}", "${1}", "${A B}"])
def test_a_variable_that_is_none_is_a_fault(here: Path, written: str) -> None:
    fault = only(faults(here, f"data_dir: '{written}'\n{FILE}", A="a"))
    assert fault.key == "data_dir"
    assert "is not of the form ${NAME}" in fault.problem


def test_anchors_work_and_cannot_blow_up(here: Path) -> None:
    assert read(here, "zones: &z [mesh]\nreverse: []\n" + FILE).zones == ("mesh",)
    bomb = "a0: &a0 ['${X}', x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 25))
    assert len(faults(here, bomb + FILE)) == 26  # 25 unknown keys, and X is not set


def test_yaml_words_of_old_are_text_here(here: Path) -> None:
    """YAML 1.1 would make false of ``no`` and 3,600 of ``1:00:00``."""
    assert read(here, FILE + "zones: [no, on, 2026-01-01]\n").zones == ("no", "on", "2026-01-01")


def write(path: Path, text: str = FILE) -> Path:
    path.write_text(text)
    (path.parent / "records.yaml").write_text("records: {}\n")
    return path


def test_the_file_is_looked_for_in_three_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(config, "DEFAULT_FILES", (Path("meshdns.yaml"), tmp_path / "etc" / "meshdns.yaml"))
    monkeypatch.delenv("MESHDNS_CONFIG", raising=False)
    with pytest.raises(ConfigError) as caught:
        load()
    for place in ("$MESHDNS_CONFIG (not set)", "./meshdns.yaml", f"{tmp_path}/etc/meshdns.yaml", "--config"):
        assert place in str(caught.value)
    write(tmp_path / "etc" / "meshdns.yaml")
    assert load().data_dir == tmp_path / "etc" / "meshdns-data"
    write(tmp_path / "work" / "meshdns.yaml")
    assert load().data_dir == tmp_path / "work" / "meshdns-data"
    named = write(tmp_path / "named.yaml")
    monkeypatch.setenv("MESHDNS_CONFIG", str(named))
    assert load().data_dir == tmp_path / "meshdns-data"
    assert find() == named
    given = write(tmp_path / "given.yaml", FILE + "data_dir: given\n")
    assert load(given).data_dir == tmp_path / "given"


def test_a_variable_that_names_no_file_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHDNS_CONFIG", str(tmp_path / "gone.yaml"))
    with pytest.raises(ConfigError, match=r"\$MESHDNS_CONFIG: names a file that does not exist: .*gone\.yaml"):
        load()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"\x89PNG\r\n\x1a\n\0\0", "not a text file"),
        (b"zones:\n- caf\xe9\n", "not UTF-8 text (octet 0xe9)"),
        ("zones: [mesh]".encode("utf-16"), "not a text file"),
        (b"#" * (1 << 20) + b"\n" + FILE.encode(), "larger than 1 MiB"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_fault(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "meshdns.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert message in only(caught.value.faults).problem
    assert str(path) in str(caught.value)


def test_a_directory_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_a_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    path = write(tmp_path / "meshdns.yaml")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load(path).sources


def test_a_data_dir_alone_needs_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_for(None, Path("data")) == Config(data_dir=tmp_path / "data")
    path = write(tmp_path / "meshdns.yaml", FILE + "zones: [other]\n")
    both = load_for(path, Path("data"))
    assert (both.data_dir, both.zones) == (tmp_path / "data", ("other",))
    assert load_for(path, None).data_dir == tmp_path / "meshdns-data"


def test_code_may_give_seconds(here: Path) -> None:
    assert Config(drain=0.2, shrink_hold=3).drain == 0.2


def test_any_text_is_a_config_or_faults(here: Path) -> None:
    """Never another exception, and no fault in pydantic's words: values and keys of a good file put out of place."""
    dice = random.Random(20261121)
    parts = [
        *re.findall(r"[\w.:/-]+|[\[\]{},]", FULL),
        "${X}",
        "''",
        "-1",
        "1e9",
        "null",
        "true",
        "[]",
        "{}",
        "&a",
        "*a",
    ]
    for _ in range(scale(5_000)):
        text = FULL
        for _ in range(dice.randint(1, 6)):
            start = dice.choice([match.span() for match in re.finditer(r"[\w.:/-]+|\[.*?\]", text)] or [(0, 0)])
            text = text[: start[0]] + dice.choice(parts) + text[start[1] :]
        examined = config.examine(text, here / "meshdns.yaml", {})
        assert (examined.config is None) == bool(examined.faults)
        for fault in examined.faults:
            assert fault.problem
            assert not re.search("Input should|validation|pydantic", fault.problem), (text, fault)
