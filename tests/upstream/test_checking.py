"""What of a response is used: scenarios in zone-file text, read by a second implementation."""

import struct

import dns.flags
import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshdns.upstream.checking import MAX_CHAIN, Checked, Rejected, TtlLimits, check
from meshdns.wire.name import to_wire
from meshdns.wire.query import DefectError
from meshdns.wire.response import parse_response
from meshdns.wire.rrset import type_code
from tests.upstream.messages import SOA, question, response
from tests.wire.packets import SEEDS

LIMITS = TtlLimits(3600, 300)
OURS = {to_wire("web.mesh"), to_wire("host.example")}
EVIL = "6.6.6.6"


def checked(asked: str, message: bytes, *, dnssec: bool = False) -> Checked | Rejected:
    name, rdtype = asked.split()
    said = parse_response(message, question(name, rdtype))
    qtype = type_code(rdtype)
    assert qtype is not None
    return check(said, to_wire(name), qtype, dnssec=dnssec, is_ours=OURS.__contains__, limits=LIMITS)


def sections(asked: str, verdict: Checked | Rejected) -> tuple[list[str], list[str]]:
    """Give answer and authority of what would be sent behind the question, in zone-file text."""
    assert isinstance(verdict, Checked), verdict
    name, rdtype = asked.split()
    counts = struct.pack("!4H", 1, verdict.answers, verdict.authorities, 0)
    whole = b"\0\1" + (0x8180 | verdict.rcode).to_bytes(2, "big") + counts + question(name, rdtype) + verdict.body
    message = dns.message.from_wire(whole)
    return _lines(message.answer), _lines(message.authority)


def _lines(rrsets: list[object]) -> list[str]:
    return [line.replace(" IN ", " ") for rrset in rrsets for line in str(rrset).splitlines()]


# what is asked, answer section, authority section, what is answered, its TTL
ANSWERED = [
    ("a.example A", "a.example. 60 A 192.0.2.1", "", ["a.example. 60 A 192.0.2.1"], 60),
    ("a.example A", "A.ExAmple. 60 A 192.0.2.1", "", ["a.example. 60 A 192.0.2.1"], 60),
    ("a.example A", "a.example. 9999 A 192.0.2.1", "", ["a.example. 3600 A 192.0.2.1"], 3600),
    ("a.example A", "a.example. 0 A 192.0.2.1", "", ["a.example. 0 A 192.0.2.1"], 0),
    (
        "a.example A",
        "a.example. 60 A 192.0.2.1\nvictim.example. 60 A 6.6.6.6\nweb.mesh. 60 A 6.6.6.6",
        "example. 60 NS ns.victim.example.",
        ["a.example. 60 A 192.0.2.1"],
        60,
    ),
    ("a.example A", "a.example. 60 TXT x\na.example. 60 A 192.0.2.1", "", ["a.example. 60 A 192.0.2.1"], 60),
    (
        "a.example A",
        "b.example. 5 A 192.0.2.1\na.example. 60 CNAME b.example.",
        "",
        ["a.example. 60 CNAME b.example.", "b.example. 5 A 192.0.2.1"],
        5,
    ),
    ("a.example CNAME", "a.example. 60 CNAME web.mesh.", "", ["a.example. 60 CNAME web.mesh."], 60),
    (
        "x.a.example A",
        "a.example. 60 DNAME b.example.\nx.a.example. 60 CNAME x.b.example.\nx.b.example. 60 A 192.0.2.1",
        "",
        ["a.example. 60 DNAME b.example.", "x.a.example. 60 CNAME x.b.example.", "x.b.example. 60 A 192.0.2.1"],
        60,
    ),
    ("a.example MX", "a.example. 60 MX 5 mail.a.example.", "", ["a.example. 60 MX 5 mail.a.example."], 60),
    ("a.example SRV", "a.example. 60 SRV 1 2 3 t.a.example.", "", ["a.example. 60 SRV 1 2 3 t.a.example."], 60),
    (
        "a.example NAPTR",
        'a.example. 60 NAPTR 1 2 "s" "x" "" r.a.example.',
        "",
        ['a.example. 60 NAPTR 1 2 "s" "x" "" r.a.example.'],
        60,
    ),
    ("a.example SOA", "a.example. 60 " + SOA.split(None, 2)[2], "", ["a.example. 60 " + SOA.split(None, 2)[2]], 60),
    (". NS", ". 60 NS a.root-servers.net.", "", [". 60 NS a.root-servers.net."], 60),
    ("a.example TYPE65280", "a.example. 60 TYPE65280 \\# 6 c00cc0ff0001", "", None, 60),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "answer", "authority", "expected", "ttl"), ANSWERED)
def test_records_on_the_chain_are_used_and_no_others(
    asked: str, answer: str, authority: str, expected: list[str] | None, ttl: int
) -> None:
    message = response(asked, answer, authority, additional="victim.example. 60 A 6.6.6.6")
    verdict = checked(asked, message)
    answers, authorities = sections(asked, verdict)
    assert answers == (expected or [answer])
    assert authorities == []
    assert isinstance(verdict, Checked)
    assert verdict.ttl == ttl


# rcode, answer section, authority section, the SOA's TTL, how long it is kept
DENIED = [
    ("NXDOMAIN", "", SOA, 60, 60),
    ("NOERROR", "", SOA, 60, 60),
    ("NOERROR", "", SOA.replace(" 60", " 9999999").replace(" 3600 SOA", " 9999999 SOA"), 300, 300),
    ("NOERROR", "", SOA.replace(" 3600 SOA", " 20 SOA"), 20, 20),
    ("NXDOMAIN", "a.example. 10 CNAME b.example.", SOA, 60, 10),
    ("NXDOMAIN", "", "", None, 0),
    ("NOERROR", "", "", None, 0),
    ("NXDOMAIN", "", SOA.replace("example. 3600 SOA", "other. 3600 SOA"), None, 0),
    ("NXDOMAIN", "", SOA.replace("example. 3600 SOA", "ample. 3600 SOA"), None, 0),
    ("NOERROR", "", "example. 60 NS ns.example.", None, 0),
]


@pytest.mark.parametrize(("rcode", "answer", "authority", "told", "kept"), DENIED)
def test_a_denial_is_kept_as_its_soa_says(rcode: str, answer: str, authority: str, told: int | None, kept: int) -> None:
    verdict = checked("a.example A", response("a.example A", answer, authority, rcode=rcode))
    assert isinstance(verdict, Checked)
    _, authorities = sections("a.example A", verdict)
    assert [line.split()[1] for line in authorities] == ([] if told is None else [str(told)])
    assert (verdict.ttl, verdict.negative) == (kept, True)
    assert verdict.rcode == (3 if rcode == "NXDOMAIN" else 0)


@pytest.mark.parametrize("target", ["web.mesh", "host.example", "WEB.Mesh"])
def test_a_chain_ends_where_a_name_of_ours_begins(target: str) -> None:
    message = response("a.example A", f"a.example. 60 CNAME {target}.\n{target}. 60 A {EVIL}")
    verdict = checked("a.example A", message)
    assert sections("a.example A", verdict)[0] == [f"a.example. 60 CNAME {target}."]
    assert isinstance(verdict, Checked)
    assert verdict.tail == to_wire(target)


def _chain(length: int) -> str:
    links = [f"c{i}.a.example. 60 CNAME c{i + 1}.a.example." for i in range(length)]
    return "\n".join([*links, f"c{length}.a.example. 60 A 192.0.2.1"])


@pytest.mark.parametrize(
    ("answer", "rcode", "told"),
    [
        ("", "SERVFAIL", 2),
        ("", "REFUSED", 5),
        ("", "NOTIMP", 4),
        ("", "FORMERR", 2),
        ("", "BADVERS", 2),
        ("c0.a.example. 60 CNAME c0.a.example.", "NOERROR", 2),
        ("c0.a.example. 60 CNAME c1.a.example.\nc1.a.example. 60 CNAME c0.a.example.", "NOERROR", 2),
        (_chain(MAX_CHAIN + 1), "NOERROR", 2),
        ("c0.a.example. 60 A 192.0.2.1", "NXDOMAIN", 2),
    ],
)
def test_what_gives_no_answer_is_an_error_and_never_a_denial(answer: str, rcode: str, told: int) -> None:
    verdict = checked("c0.a.example A", response("c0.a.example A", answer, rcode=rcode))
    assert isinstance(verdict, Rejected)
    assert verdict.rcode == told


def test_a_long_chain_is_followed_to_its_bound() -> None:
    verdict = checked("c0.a.example A", response("c0.a.example A", _chain(MAX_CHAIN)))
    assert len(sections("c0.a.example A", verdict)[0]) == MAX_CHAIN + 1


SIGNATURE = "a.example. 60 RRSIG A 13 2 60 20380101000000 20200101000000 1 example. c2ln"
NSEC = "a.example. 60 NSEC b.example. A RRSIG NSEC"


@pytest.mark.parametrize("dnssec", [False, True])
def test_signatures_and_proofs_are_for_who_asked_for_them(dnssec: bool) -> None:
    message = response("a.example A", f"a.example. 60 A 192.0.2.1\n{SIGNATURE}", NSEC)
    answers, authorities = sections("a.example A", checked("a.example A", message, dnssec=dnssec))
    assert (len(answers), len(authorities)) == ((2, 1) if dnssec else (1, 0))
    denial = response("b.a.example A", "", f"{SOA}\n{NSEC}", rcode="NXDOMAIN")
    _, proofs = sections("b.a.example A", checked("b.a.example A", denial, dnssec=dnssec))
    assert len(proofs) == (2 if dnssec else 1)


def test_a_ttl_with_its_top_bit_set_is_zero() -> None:
    message = bytearray(response("a.example A", "a.example. 60 A 192.0.2.1", edns=False))
    at = message.index(b"\0\0\0\x3c\0\x04\xc0\0\2\1")
    message[at] = 0x80
    verdict = checked("a.example A", bytes(message))
    assert isinstance(verdict, Checked)
    assert verdict.ttl == 0


NAMES = ["a.example", "b.a.example", "web.mesh", "x", "deep.er.b.a.example"]
LINES = st.sampled_from(
    [f"{name}. 60 {rest}" for name in NAMES for rest in ("A 192.0.2.1", "CNAME b.a.example.", "MX 1 web.mesh.")]
)


@given(st.lists(LINES, max_size=8), st.integers(0, 400), st.binary(max_size=4))
def test_whatever_comes_what_is_used_is_well_formed_and_never_a_name_of_ours(
    lines: list[str], at: int, mutation: bytes
) -> None:
    """Invariant: DefectError, Rejected, or octets that a second implementation reads to the last one."""
    message = response("a.example A", "\n".join(lines))
    for each in (message, message[:at] + mutation + message[at + len(mutation) :], message[:at]):
        try:
            verdict = checked("a.example A", each)
        except DefectError:
            continue
        if isinstance(verdict, Checked):
            answers, _ = sections("a.example A", verdict)
            assert not any(line.lower().startswith(("web.mesh.", "host.example.")) for line in answers)


@given(st.sampled_from(SEEDS), st.binary(max_size=64), st.integers(0, 600), st.binary(max_size=6))
def test_hostile_octets_behind_a_question_are_a_defect_or_bounded(
    seed: bytes, tail: bytes, at: int, mutation: bytes
) -> None:
    """Invariant: no other exception than DefectError; every name that comes out is whole and at most 255 octets."""
    body = (seed[12:] + tail)[:at] + mutation + (seed[12:] + tail)[at:]
    message = seed[:4].ljust(4, b"\0") + b"\0\1" + seed[6:12].ljust(6, b"\0") + question("a.example") + body
    try:
        said = parse_response(message, question("a.example"))
    except DefectError:
        return
    for record in (*said.answers, *said.authority):
        assert len(record.owner) <= 255
        assert record.owner.endswith(b"\0")


def test_the_work_that_compression_makes_is_bounded() -> None:
    """Two thousand records whose names are long chains of pointers expand to no more than the bound."""
    name = b"\x3f" + b"a" * 63
    chain = name * 3 + b"\x3d" + b"b" * 61 + b"\0"
    records = [chain + struct.pack("!HHIH", 5, 1, 60, 2) + b"\xc0\x1b"]
    records += [b"\xc0\x1b" + struct.pack("!HHIH", 5, 1, 60, 2) + b"\xc0\x1b"] * 2000
    head = struct.pack("!6H", 1, 0x8180, 1, len(records), 0, 0)
    with pytest.raises(DefectError, match="too much"):
        parse_response(head + question("a.example") + b"".join(records), question("a.example"))
