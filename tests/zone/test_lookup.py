"""Questions asked of zones written as text; the answers in words."""

import pytest

from meshdns.inventory.record import Port
from meshdns.wire.name import to_text, to_wire
from meshdns.wire.rrset import type_code
from meshdns.zone.entries import Rules
from meshdns.zone.lookup import Answer, Found, Question, Zones, lookup
from tests.zone.memory import RULES, compile_zone, record, zone

MESH = zone("""
    web.mesh                  240.0.0.1
    dual.mesh                 240.0.0.3 fd00:fd00::3
    six.mesh                  fd00:fd00::6
    x.ent.mesh                240.0.0.4
    *.wild.mesh               240.0.0.2
    exist.wild.mesh           240.0.0.5
    echo_default_svc_80.mesh  240.0.0.8
    echo.default.svc.80.mesh  240.0.0.8
    my_svc.mesh               240.0.0.9
    my.svc.mesh               240.0.0.10
    orders.svc.mesh.local     241.0.0.0
    httpbin.org               240.0.0.11
    outside.example           192.0.2.7
    mapped.mesh               240.0.0.12 ::ffff:f000:c
""")


def ask(name: str, qtype: str, *, sources: tuple[str, ...] = (), rules: Rules = RULES, **kept: object) -> Answer:
    database = compile_zone(kept.pop("records", MESH), rules, **kept)  # type: ignore[arg-type]
    code = type_code(qtype)
    assert code is not None
    return lookup(database.get, Question(to_wire(name), code), Zones(rules, sources))


def said(name: str, answer: Answer) -> str:
    """Give the answer in a few words: how it was found, by which owner, and whose SOA denies."""
    words = [answer.found.name]
    if answer.rrset:
        words.append(str(int.from_bytes(answer.rrset[:2], "big")))
    if answer.matched and answer.matched != to_wire(name):
        words.append("by " + to_text(answer.matched))
    if answer.found in (Found.NODATA, Found.NXDOMAIN):
        words.append("soa " + to_text(to_wire(name)[answer.apex :]))
    return " ".join(words)


CASES = [
    ("web.mesh", "A", "EXACT 1"),
    ("WEB.Mesh", "A", "EXACT 1"),
    ("web.mesh", "AAAA", "NODATA soa mesh"),
    ("six.mesh", "A", "NODATA soa mesh"),
    ("dual.mesh", "AAAA", "EXACT 1"),
    ("web.mesh", "TXT", "NODATA soa mesh"),
    ("web.mesh", "HTTPS", "NODATA soa mesh"),
    ("web.mesh", "TYPE666", "NODATA soa mesh"),
    ("web.mesh", "SRV", "NODATA soa mesh"),
    ("web.mesh", "ANY", "EXACT 1"),
    ("ent.mesh", "ANY", "NODATA soa mesh"),
    ("nosuch.mesh", "A", "NXDOMAIN soa mesh"),
    ("x.web.mesh", "A", "NXDOMAIN soa mesh"),
    # empty non-terminals and the apex exist
    ("ent.mesh", "A", "NODATA soa mesh"),
    ("svc.80.mesh", "A", "NODATA soa mesh"),
    ("mesh", "SOA", "APEX"),
    ("mesh", "A", "NODATA soa mesh"),
    ("mesh", "DS", "NODATA soa mesh"),
    ("mesh.local", "SOA", "APEX"),
    # the longest zone denies
    ("nosuch.svc.mesh.local", "A", "NXDOMAIN soa mesh.local"),
    ("svc.mesh.local", "A", "NODATA soa mesh.local"),
    # wildcards, RFC 4592
    ("foo.wild.mesh", "A", "WILDCARD 1 by *.wild.mesh"),
    ("a.b.wild.mesh", "A", "WILDCARD 1 by *.wild.mesh"),
    ("foo.wild.mesh", "AAAA", "NODATA by *.wild.mesh soa mesh"),
    ("wild.mesh", "A", "NODATA soa mesh"),
    ("sub.exist.wild.mesh", "A", "NXDOMAIN soa mesh"),
    ("*.wild.mesh", "A", "EXACT 1"),
    # lenient spelling: only where both spellings share their VIP
    ("echo_default.svc.80.mesh", "A", "LENIENT 1 by echo.default.svc.80.mesh"),
    ("echo.default_svc_80.mesh", "A", "LENIENT 1 by echo.default.svc.80.mesh"),
    ("echo_default.svc.80.mesh", "AAAA", "NODATA by echo.default.svc.80.mesh soa mesh"),
    ("default_svc_80.mesh", "A", "NODATA by default.svc.80.mesh soa mesh"),
    ("svc_80.mesh", "TXT", "NODATA by svc.80.mesh soa mesh"),
    ("x.echo_default.svc.80.mesh", "A", "NXDOMAIN soa mesh"),
    ("echo__default_svc_80.mesh", "A", "NXDOMAIN soa mesh"),
    ("_echo_default_svc_80.mesh", "A", "NXDOMAIN soa mesh"),
    ("orders_svc.mesh.local", "A", "NXDOMAIN soa mesh.local"),
    # names outside the zones are known alone, and deny for themselves alone
    ("httpbin.org", "A", "EXACT 1"),
    ("httpbin.org", "AAAA", "NODATA soa httpbin.org"),
    ("httpbin.org", "SOA", "NODATA soa httpbin.org"),
    ("org", "A", "NOT_OURS"),
    ("www.httpbin.org", "A", "NOT_OURS"),
    ("example", "A", "NOT_OURS"),
    (".", "NS", "NOT_OURS"),
    # a zone ends at a label boundary
    ("web.notmesh", "A", "NOT_OURS"),
    ("webmesh", "A", "NOT_OURS"),
    ("web.mesh.evil.example", "A", "NOT_OURS"),
    ("mesh.web", "A", "NOT_OURS"),
    # reverse
    ("1.0.0.240.in-addr.arpa", "PTR", "EXACT 1"),
    ("8.0.0.240.in-addr.arpa", "PTR", "EXACT 1"),
    ("8.0.0.240.in-addr.arpa", "A", "NODATA soa 240.in-addr.arpa"),
    ("0.240.in-addr.arpa", "PTR", "NODATA soa 240.in-addr.arpa"),
    ("99.0.0.240.in-addr.arpa", "PTR", "NXDOMAIN soa 240.in-addr.arpa"),
    ("9.9.9.255.in-addr.arpa", "PTR", "NXDOMAIN soa 255.in-addr.arpa"),
    ("1.0.0.10.in-addr.arpa", "PTR", "NOT_OURS"),
    ("7.2.0.192.in-addr.arpa", "PTR", "EXACT 1"),
    ("7.2.0.192.in-addr.arpa", "A", "NODATA soa 7.2.0.192.in-addr.arpa"),
    ("2.0.192.in-addr.arpa", "PTR", "NOT_OURS"),
]


@pytest.mark.parametrize(("name", "qtype", "expected"), CASES)
def test_lookup(name: str, qtype: str, expected: str) -> None:
    assert said(name, ask(name, qtype)) == expected


def test_reverse_of_an_ipv6_vip_is_a_pointer_and_of_a_mapped_one_nothing() -> None:
    six = record("six.mesh", "fd00:fd00::6").addresses[0]
    assert said(six.reverse_pointer, ask(six.reverse_pointer, "PTR")) == "EXACT 1"
    other = record("x.mesh", "fd00:fd00::7").addresses[0]
    assert ask(other.reverse_pointer, "PTR").found is Found.NXDOMAIN
    mapped = record("x.mesh", "::ffff:f000:c").addresses[0]
    assert ask(mapped.reverse_pointer, "PTR").found is Found.NOT_OURS


def test_the_reverse_of_a_vip_with_two_spellings_names_the_dotted_one() -> None:
    rrset = ask("8.0.0.240.in-addr.arpa", "PTR").rrset
    assert to_wire("echo.default.svc.80.mesh") in rrset
    assert to_wire("echo_default_svc_80.mesh") not in rrset


@pytest.mark.parametrize(
    ("delivered", "name", "found"),
    [
        ((), "nosuch.mesh", Found.NOT_READY),
        (("kuma",), "nosuch.mesh", Found.NOT_READY),
        (("extra", "kuma"), "nosuch.mesh", Found.NXDOMAIN),
        (("extra", "kuma", "gone"), "nosuch.mesh", Found.NXDOMAIN),
        ((), "9.0.0.240.in-addr.arpa", Found.NODATA),
        ((), "99.0.0.240.in-addr.arpa", Found.NOT_READY),
        ((), "web.mesh", Found.EXACT),
        ((), "ent.mesh", Found.NODATA),
        ((), "mesh", Found.NODATA),
        ((), "www.example.org", Found.NOT_OURS),
    ],
)
def test_nothing_is_denied_before_every_source_has_delivered(
    delivered: tuple[str, ...], name: str, found: Found
) -> None:
    assert ask(name, "A", sources=("kuma", "extra"), delivered=delivered).found is found


def test_a_records_file_never_matches_leniently() -> None:
    assert ask("echo_default.svc.80.mesh", "A", lenient=False).found is Found.NXDOMAIN


def test_an_exact_name_beats_lenient_spelling_and_lenient_spelling_beats_a_wildcard() -> None:
    records = zone("""
        a_b_c.mesh  240.0.0.1
        a.b.c.mesh  240.0.0.1
        a_b.c.mesh  240.0.0.2
        *.c.mesh    240.0.0.3
        *.mesh      240.0.0.4
    """)

    def matched(name: str) -> str:
        return said(name, ask(name, "A", records=records))

    assert matched("a_b.c.mesh") == "EXACT 1"
    assert matched("a.b_c.mesh") == "LENIENT 1 by a.b.c.mesh"
    assert matched("b_c.mesh") == "NODATA by b.c.mesh soa mesh"
    assert matched("z.c.mesh") == "WILDCARD 1 by *.c.mesh"
    assert matched("z.b_c.mesh") == "NXDOMAIN soa mesh"  # b_c exists as a spelling of b.c: it encloses z
    assert matched("z.mesh") == "WILDCARD 1 by *.mesh"


def test_srv_is_served_only_when_asked_for_and_names_each_port() -> None:
    records = [record("db.mesh", "240.0.0.1", ports=(Port(80, "db", True), Port(5432, "db")))]
    assert ask("db.mesh", "SRV", records=records).found is Found.NODATA
    rules = Rules(RULES.zones, RULES.reverse, srv=True)
    answer = ask("db.mesh", "SRV", records=records, rules=rules)
    assert said("db.mesh", answer) == "EXACT 2"
    assert answer.rrset.endswith(b"\0\0\0\0" + (5432).to_bytes(2, "big") + to_wire("db.mesh"))


def test_mapped_addresses_can_be_left_out() -> None:
    assert ask("mapped.mesh", "AAAA").found is Found.EXACT
    rules = Rules(RULES.zones, RULES.reverse, mapped_v6=False)
    assert ask("mapped.mesh", "AAAA", rules=rules).found is Found.NODATA


def test_a_label_with_a_dot_or_a_zone_inside_is_not_that_name() -> None:
    database = compile_zone(MESH)
    zones = Zones(RULES)
    for name in (b"\x08web.mesh\0", b"\x05\x04mesh\0", b"\x03web\x05.mesh\0"):
        assert lookup(database.get, Question(name, 1), zones).found is Found.NOT_OURS
