"""The smaller rules: servers as written, resolv.conf, special names, bounds on what waits, our own queries."""

import logging
from pathlib import Path

import dns.flags
import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshdns.upstream.asking import Heard, build_query, hear, mix_case
from meshdns.upstream.outstanding import JOSTLE, Outstanding, registered_suffix
from meshdns.upstream.resolv_conf import ServerFile, parse_resolv_conf
from meshdns.upstream.settings import Server, UpstreamSettings, parse_server, points_at
from meshdns.upstream.special import SpecialNames
from meshdns.wire.name import to_text, to_wire
from meshdns.wire.reply import NOERROR, NXDOMAIN
from meshdns.wire.response import Response
from meshdns.wire.rrset import type_code
from tests.upstream.messages import question, response

# ---- servers as written


@given(st.text(max_size=40))
def test_a_server_is_read_or_refused_in_words(text: str) -> None:
    """Invariant: ValueError, or a server whose own text reads as the same."""
    try:
        server = parse_server(text)
    except ValueError:
        return
    assert parse_server(str(server)) == server


@pytest.mark.parametrize(
    ("server", "listen", "expected"),
    [
        ("127.0.0.1:53", [("127.0.0.1", 53)], True),
        ("127.0.0.1:53", [("127.0.0.1", 54)], False),
        ("127.0.0.2:53", [("127.0.0.1", 53)], False),
        ("127.0.0.2:53", [("0.0.0.0", 53)], True),
        ("tcp://127.0.0.2:53", [("0.0.0.0", 53)], True),
        ("tls://127.0.0.2:53", [("0.0.0.0", 53)], False),
        ("127.0.0.2:53", [("::", 53)], False),
        ("192.0.2.1:53", [("0.0.0.0", 53)], False),
    ],
)
def test_a_server_is_known_to_be_ourselves(server: str, listen: list[tuple[str, int]], expected: bool) -> None:
    assert points_at(parse_server(server), listen) is expected


def test_settings_go_through_json_unchanged() -> None:
    for servers in (["10.0.0.1", "tls://[fd00::1]#dns.example"], "resolv.conf", "./some/file"):
        settings = UpstreamSettings.model_validate({"servers": servers})
        assert UpstreamSettings.model_validate_json(settings.model_dump_json()) == settings


# ---- resolv.conf


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nameserver 10.0.0.10\nsearch a.b\nnameserver fd00::1\n", ["10.0.0.10:53", "[fd00::1]:53"]),
        ("# nameserver 10.0.0.1\n;nameserver 10.0.0.2\n nameserver\t10.0.0.3 # x", ["10.0.0.3:53"]),
        ("nameserver 10.0.0.1\nnameserver 10.0.0.1\n", ["10.0.0.1:53"]),
        ("nameserver\nnameserver x\nnameserver 10.0.0\nnameserver 0.0.0.0\nNAMESERVER 10.0.0.1\n", []),
        ("nameserver fe80::1%eth0\n", ["[fe80::1%eth0]:53"]),
        ("", []),
        ("\0\xff", []),
    ],
)
def test_resolv_conf_names_servers(text: str, expected: list[str]) -> None:
    assert [str(server) for server in parse_resolv_conf(text)] == expected


@given(st.text())
def test_any_text_is_a_list_of_servers(text: str) -> None:
    """Invariant: no exception, at most sixteen servers, each of them once."""
    servers = parse_resolv_conf(text)
    assert len(set(servers)) == len(servers) <= 16


def test_a_worse_file_never_replaces_a_list(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "resolv.conf"
    ourselves = Server("udp", "127.0.0.1", 53)
    file = ServerFile(path, port=53, is_own=ourselves.__eq__)

    def written(text: str | None) -> tuple[bool, list[str]]:
        if text is not None:
            fresh = tmp_path / "fresh"
            fresh.write_text(text)
            fresh.replace(path)
        return file.look(), [server.host for server in file.servers]

    with caplog.at_level(logging.WARNING):
        assert written(None) == (False, [])
        assert written("nameserver 10.0.0.1\n") == (True, ["10.0.0.1"])
        assert written(None) == (False, ["10.0.0.1"])
        for worse in ("", "nameserver rubbish\n", "nameserver 127.0.0.1\n"):
            assert written(worse) == (False, ["10.0.0.1"])
        path.unlink()
        assert written(None) == (False, ["10.0.0.1"])
        assert written("nameserver 127.0.0.1\nnameserver 10.0.0.2\n") == (True, ["10.0.0.2"])
        assert written("nameserver 10.0.0.2\n# the same\n") == (False, ["10.0.0.2"])
    told = caplog.text
    assert "cannot be read: No such file" in told
    assert "names no server; 10.0.0.1:53 stay" in told
    assert "names no server but this one" in told


# ---- special names

SPECIAL = [
    ("localhost", "A", NOERROR, True),
    ("a.localhost", "AAAA", NOERROR, True),
    ("localhost", "TXT", NOERROR, False),
    ("x.invalid", "A", NXDOMAIN, False),
    ("invalid", "SOA", NOERROR, True),
    ("a.b.onion", "A", NXDOMAIN, False),
    ("x.alt", "A", NXDOMAIN, False),
    ("x.home.arpa", "A", NXDOMAIN, False),
    ("_dns.resolver.arpa", "SVCB", NOERROR, False),
    ("1.0.0.127.in-addr.arpa", "PTR", NOERROR, True),
    ("0.0.127.in-addr.arpa", "PTR", NOERROR, False),
    ("2.0.0.127.in-addr.arpa", "PTR", NXDOMAIN, False),
    ("1.0.0.10.in-addr.arpa", "PTR", NXDOMAIN, False),
    ("1.0.31.172.in-addr.arpa", "PTR", NXDOMAIN, False),
    ("1.1.168.192.in-addr.arpa", "PTR", NXDOMAIN, False),
    ("1.0.127.100.in-addr.arpa", "PTR", NXDOMAIN, False),
    ("1." + "0." * 31 + "ip6.arpa", "PTR", NOERROR, True),
    ("1.0.d.f.ip6.arpa", "PTR", NXDOMAIN, False),
]
NOT_SPECIAL = [
    ".", "example", "notlocalhost", "localhost.example", "xinvalid", "cluster.local", "local", "x.test", "arpa",
    "in-addr.arpa", "1.0.32.172.in-addr.arpa", "1.0.15.172.in-addr.arpa", "8.8.8.8.in-addr.arpa",
    "1.0.128.100.in-addr.arpa", "e.f.ip6.arpa",
]  # fmt: skip


@pytest.mark.parametrize(("name", "rdtype", "rcode", "data"), SPECIAL)
def test_special_names_are_answered_here(name: str, rdtype: str, rcode: int, data: bool) -> None:
    qtype = type_code(rdtype)
    assert qtype is not None
    said = SpecialNames().answer(to_wire(name), qtype)
    assert said is not None
    assert (said.rcode, bool(said.rrset), bool(said.soa)) == (rcode, data, not data)


@pytest.mark.parametrize("name", NOT_SPECIAL)
def test_other_names_are_for_others(name: str) -> None:
    assert SpecialNames().answer(to_wire(name), 1) is None


def test_who_is_named_for_a_special_zone_is_asked() -> None:
    names = SpecialNames([to_wire(zone) for zone in (".", "10.in-addr.arpa", "b.home.arpa")])
    assert names.answer(to_wire("1.0.0.10.in-addr.arpa"), 12) is None
    assert names.answer(to_wire("a.b.home.arpa"), 1) is None
    assert names.answer(to_wire("a.c.home.arpa"), 1) is not None
    assert names.answer(to_wire("x.invalid"), 1) is not None


# ---- bounds


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.b.example.com", "example.com"),
        ("a.b.example.co.uk", "example.co.uk"),
        ("example", "example"),
        (".", "."),
        ("a.svc.cluster.local", "cluster.local"),
        ("1.2.3.4.in-addr.arpa", "4.in-addr.arpa"),
    ],
)
def test_the_domain_of_a_name(name: str, expected: str) -> None:
    assert to_text(registered_suffix(to_wire(name))) == expected


def test_a_dead_domain_is_bounded_and_its_oldest_question_makes_room() -> None:
    waiting: Outstanding[str] = Outstanding(total=5, per_suffix=2)
    assert waiting.admit("a", "dead", 0.0) == (True, None)
    assert waiting.admit("b", "dead", 0.1) == (True, None)
    assert waiting.admit("c", "dead", JOSTLE - 0.01) == (False, None)
    assert waiting.admit("x", "live", 0.1) == (True, None)
    admitted, given_up = waiting.admit("c", "dead", JOSTLE)
    assert (admitted, given_up) == (True, "a")
    waiting.release("a", "dead")
    waiting.release("a", "dead")
    assert len(waiting) == 3


def test_all_together_are_bounded() -> None:
    waiting: Outstanding[int] = Outstanding(total=3, per_suffix=2)
    for number in range(3):
        assert waiting.admit(number, number, 0.0) == (True, None)
    assert waiting.admit(3, 3, 0.1) == (False, None)
    assert waiting.admit(3, 3, 0.3) == (True, 0)


# ---- our own queries

QUESTION = question("Some.Example-1")


@given(st.binary(min_size=len(QUESTION) - 4, max_size=len(QUESTION) - 4))
def test_mixing_case_changes_nothing_but_case(entropy: bytes) -> None:
    name = QUESTION[:-4]
    mixed = mix_case(name, entropy)
    assert mixed.lower() == name.lower()
    assert mix_case(name, b"\0" * len(name)) == name
    assert mix_case(name, b"\xff" * len(name)) == name.swapcase()


@pytest.mark.parametrize("dnssec", [False, True])
@pytest.mark.parametrize("unchecked", [False, True])
@pytest.mark.parametrize("edns", [False, True])
def test_a_query_is_what_a_second_implementation_reads(dnssec: bool, unchecked: bool, edns: bool) -> None:
    octets = build_query(QUESTION, id=b"\1\2", dnssec=dnssec, unchecked=unchecked, edns=edns)
    query = dns.message.from_wire(octets)
    assert query.id == 0x102
    assert str(query.question[0]) == "some.example-1. IN A"
    assert bool(query.flags & dns.flags.CD) is unchecked
    assert (query.edns, query.payload if edns else 1232) == (0 if edns else -1, 1232)
    assert bool(query.ednsflags & dns.flags.DO) is (dnssec and edns)
    assert query.options == ()


NAME = "a.example A"
GOOD = response(NAME, "a.example. 60 A 192.0.2.1")
QUERY = build_query(question("a.example"), id=b"\x12\x34", dnssec=False, unchecked=False, edns=True)

HEARD = [
    (GOOD, None),
    (b"", Heard.NOTHING),
    (GOOD[:11], Heard.NOTHING),
    (b"\x12\x35" + GOOD[2:], Heard.NOTHING),
    (GOOD[:2] + b"\x01" + GOOD[3:], Heard.NOTHING),
    (GOOD[:2] + b"\xa1" + GOOD[3:], Heard.NOTHING),
    (response("b.example A", "b.example. 60 A 6.6.6.6"), Heard.NOTHING),
    (response("a.example AAAA"), Heard.NOTHING),
    (GOOD.replace(b"\1a\7example\0\0\1\0\1", b"\1A\7eXample\0\0\1\0\1"), Heard.OTHER_CASE),
    (GOOD[:-3], Heard.NOTHING),
    (GOOD[:4] + b"\0\2" + GOOD[6:], Heard.NOTHING),
    (b"\x12\x34\x81\x81" + b"\0" * 8, Heard.BARE_ERROR),
    (b"\x12\x34\x81\x84" + b"\0" * 8, Heard.BARE_ERROR),
    (b"\x12\x34\x81\x82" + b"\0" * 8, Heard.NOTHING),
    (b"\x12\x34\x81\x80" + b"\0" * 8, Heard.NOTHING),
    (b"\x12\x34\x81\x81" + b"\0" * 8 + b"x", Heard.NOTHING),
]


@pytest.mark.parametrize(("reply", "expected"), HEARD)
def test_only_what_matches_in_every_respect_is_an_answer(reply: bytes, expected: Heard | None) -> None:
    heard = hear(QUERY, question("a.example"), reply)
    if expected is None:
        assert isinstance(heard, Response)
    else:
        assert heard is expected


def test_of_a_truncated_answer_nothing_is_read() -> None:
    cut = GOOD[:2] + bytes((GOOD[2] | 2,)) + GOOD[3:-5]
    heard = hear(QUERY, question("a.example"), cut)
    assert isinstance(heard, Response)
    assert heard.answers == []


@given(st.integers(0, len(GOOD)), st.binary(max_size=8), st.integers(0, 8))
def test_no_datagram_does_more_than_answer_or_not(at: int, octets: bytes, taken: int) -> None:
    """Invariant: a Response to our very question, or Heard; no exception."""
    reply = GOOD[:at] + octets + GOOD[at + taken :]
    heard = hear(QUERY, question("a.example"), reply)
    if isinstance(heard, Response):
        assert reply[:2] == QUERY[:2]
        assert reply[12:].startswith(question("a.example"))
