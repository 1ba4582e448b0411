import json
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshdns.errors import ResourceError
from meshdns.inventory import dns_document
from meshdns.inventory.dns_document import Document, Entry, gather, parse_document
from meshdns.inventory.name import check_address, check_name
from meshdns.inventory.record import MAX_ADDRESSES, Origin
from tests.scale import scale


def parse(value: Any) -> Document:
    return parse_document(json.dumps(value), source="kuma", resource="_kuma:dynamicconfig", version="7")


def row(name: Any, *ips: Any) -> dict[str, Any]:
    return {"name": name, "ips": list(ips)}


def test_a_document_becomes_records() -> None:
    document = parse(
        {
            "records": [row("Echo_svc_80.mesh", "240.0.0.3", "::ffff:f000:3"), row("api.mesh.", "240.0.0.4")],
            "ttl": 60,
            "extraLabels": {"mesh": "default"},
        }
    )
    assert list(document.records) == ["echo_svc_80.mesh", "api.mesh"]
    record = document.records["echo_svc_80.mesh"]
    assert record.name == "Echo_svc_80.mesh"
    assert record.addresses == (ip_address("240.0.0.3"), ip_address("::ffff:240.0.0.3"))
    assert record.ttl == 60
    assert record.origin == Origin("kuma", "_kuma:dynamicconfig", "7")
    assert document.records["api.mesh"].name == "api.mesh"
    assert document.extra_labels == {"mesh": "default"}
    assert document.skipped == ()
    assert document.notices == ()


@pytest.mark.parametrize("body", [b'{"records":[],"ttl":30}', '{"records":[]}', '{"records":null,"ttl":30}'])
def test_an_empty_table_is_a_table(body: str | bytes) -> None:
    assert parse_document(body, source="s", resource="r", version="") == Document({})


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "not JSON"),
        (b"no", "not JSON"),
        (b"\xff\xfe\xfd", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"records":' + b"1" * 5_000 + b"}", "not JSON"),  # Python refuses to read so long a number
        (b"[]", 'not an object with "records"'),
        (b'"records"', 'not an object with "records"'),
        (b'{"ttl":30}', 'not an object with "records"'),
        (b'{"records":{}}', "is not a list"),
        (b'{"records":"x"}', "is not a list"),
    ],
)
def test_what_is_no_document_is_refused_naming_the_resource(body: bytes, problem: str) -> None:
    with pytest.raises(ResourceError) as error:
        parse_document(body, source="s", resource="system_dynamicconfig", version="")
    assert str(error.value).startswith("system_dynamicconfig: ")
    assert problem in str(error.value)
    assert len(str(error.value)) < 250


@pytest.mark.parametrize(
    ("bad", "line"),
    [
        (row("a..b.mesh", "240.0.0.1"), "name 'a..b.mesh': empty label"),
        (row("dot..mesh", "240.0.0.1"), "name 'dot..mesh': empty label"),
        (row("x" * 64 + ".mesh", "240.0.0.1"), "label of 64 octets"),
        (row(".".join(["x" * 63] * 4), "240.0.0.1"), "255 octets"),
        (row("", "240.0.0.1"), "empty name"),
        (row("Foo Bar.mesh", "240.0.0.1"), "only letters"),
        (row("bücher.mesh", "240.0.0.1"), "only letters"),
        (row("\ud800.mesh", "240.0.0.1"), "only letters"),
        (row(7, "240.0.0.1"), 'records[1]: no "name"'),
        ("text", 'records[1]: no "name"'),
        (None, 'records[1]: no "name"'),
        ({"name": "b.mesh"}, "name 'b.mesh': \"ips\" is not a list"),
        ({"name": "b.mesh", "ips": "240.0.0.1"}, "name 'b.mesh': \"ips\" is not a list"),
        (row("b.mesh"), "name 'b.mesh': no usable address"),
        (row("b.mesh", "240.0.0"), "address of 'b.mesh': '240.0.0' is not an IP address"),
        (row("b.mesh", "::1%eth0"), "address of 'b.mesh'"),
        (row("b.mesh", "0.0.0.0"), "address of 'b.mesh'"),
        (row("b.mesh", 7), "address of 'b.mesh': 7 is not text"),
    ],
)
def test_one_bad_name_of_a_hundred_is_left_out_and_named(bad: Any, line: str) -> None:
    rows: list[Any] = [row(f"good{n}.mesh", f"240.0.1.{n}") for n in range(99)]
    rows.insert(1, bad)
    document = parse({"records": rows, "ttl": 30})
    assert len(document.records) == 99
    assert line in document.skipped[0] or line in document.skipped[-1]


def test_a_bad_address_beside_a_good_one_loses_only_itself() -> None:
    document = parse({"records": [row("b.mesh", "240.0.0.300", "240.0.0.3", "240.0.0.3")]})
    assert document.records["b.mesh"].addresses == (ip_address("240.0.0.3"),)
    assert document.skipped == ("address of 'b.mesh': '240.0.0.300' is not an IP address",)


@pytest.mark.parametrize(
    ("ttl", "taken"),
    [(0, 0), (30.0, 30), (2**31 - 1, 2**31 - 1)],
)
def test_ttl_is_taken(ttl: Any, taken: int) -> None:
    document = parse({"records": [row("b.mesh", "240.0.0.3")], "ttl": ttl})
    assert document.records["b.mesh"].ttl == taken
    assert document.notices == ()


@pytest.mark.parametrize("ttl", [-1, 2**31, "30", None, True, 1.5, float("inf"), float("nan")])
def test_an_impossible_ttl_is_noticed_and_replaced(ttl: Any) -> None:
    document = parse({"records": [row("b.mesh", "240.0.0.3")], "ttl": ttl})
    assert document.records["b.mesh"].ttl == 30
    assert "30 is used" in document.notices[0]


def test_names_that_differ_in_case_only_keep_the_last_in_byte_order() -> None:
    rows = [row("api.mesh", "240.0.0.2"), row("API.mesh", "240.0.0.1"), row("Api.mesh", "240.0.0.1")]
    for order in (rows, rows[::-1], [rows[1], rows[0], rows[2]]):
        document = parse({"records": order})
        assert list(document.records) == ["api.mesh"]
        assert document.records["api.mesh"].name == "api.mesh"
        assert document.records["api.mesh"].addresses == (ip_address("240.0.0.2"),)
        assert document.notices
        assert all("differ only in case" in line for line in document.notices)


def test_names_that_differ_in_case_only_at_one_address_are_no_notice() -> None:
    document = parse({"records": [row("api.mesh", "240.0.0.2"), row("API.mesh", "240.0.0.2")]})
    assert document.notices == ()


def test_a_name_that_comes_twice_keeps_the_addresses_of_both() -> None:
    document = parse({"records": [row("b.mesh", "240.0.0.2"), row("b.mesh", "240.0.0.1", "240.0.0.2")]})
    assert document.records["b.mesh"].addresses == (ip_address("240.0.0.2"), ip_address("240.0.0.1"))
    assert document.notices == ("name 'b.mesh' comes twice; the addresses of both are served",)


def test_addresses_are_bounded() -> None:
    texts = [f"240.1.{n // 250}.{n % 250}" for n in range(MAX_ADDRESSES + 3)]
    document = gather([Entry("b.mesh", texts)], Origin("s"))
    assert len(document.records["b.mesh"].addresses) == MAX_ADDRESSES
    assert len(document.skipped) == 3


def test_a_ttl_per_name_is_kept() -> None:
    document = gather([Entry("a.mesh", ["240.0.0.1"], 5), Entry("b.mesh", ["240.0.0.1"], 2**32)], Origin("s"))
    assert document.records["a.mesh"].ttl == 5
    assert document.records["b.mesh"].ttl == 30
    assert "out of range" in document.notices[0]


NAMES = st.sampled_from(
    ["a.mesh", "a.mesh", "A.mesh", "a_b.mesh", "a.b.mesh.", "*.mesh", "x" * 63, "x" * 64, ".".join(["y" * 63] * 4)]
) | st.text("ab_-.*A", min_size=1, max_size=9)
_TEXTS = """240.0.0.1 10.1.2.3 0.0.0.0 224.0.0.1 255.255.255.255 1.2.3 01.2.3.4 256.0.0.1 x fd00::1 ff02::1 :: ::1%1
    ::1\0 ::ffff:f000:1 ::ffff:240.0.0.1 ::ffff:a01:203"""
ADDRESSES = st.sampled_from([*_TEXTS.split(), "1.2.3.4 ", ""]) | st.text("0123456789abcdef.:", max_size=16)
TWINS = st.sampled_from([["240.0.0.1", "::ffff:f000:1"], ["10.1.2.3", "::ffff:a01:203"], ["240.0.0.2"]])
ROWS = st.lists(st.tuples(NAMES, TWINS | TWINS | st.lists(ADDRESSES, max_size=3)), max_size=6)
USUAL_NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,5}(_[a-z]{1,3}|\.[a-z]{1,3}){0,3}\.mesh", fullmatch=True)
USUAL_ROWS = st.lists(st.tuples(USUAL_NAMES, TWINS), max_size=6, unique_by=lambda row: row[0])


@given(ROWS)
@settings(max_examples=scale(2_000), deadline=None)
def test_usual_names_are_read_as_all_names_are(rows: list[tuple[str, list[str]]]) -> None:
    entries = [Entry(name, ips) for name, ips in rows]
    records, skipped, notices = dns_document._check(entries, Origin("s"))
    document = gather(entries, Origin("s"))
    assert document.records == records
    assert (document.skipped, document.notices) == (tuple(skipped), tuple(notices))


@given(
    USUAL_ROWS | ROWS,
    st.sampled_from([{}, {"ttl": 30}, {"ttl": "x"}, {"ttl": 5, "extraLabels": {"a": '"]}]'}}, {"records": [7]}]),
    st.none()
    | st.tuples(st.integers(0, 400), st.integers(0, 3), st.sampled_from(["", " ", ",", '"', "]", "},{", "0"])),
    st.sampled_from([1, 40, 1 << 19]),
)
@settings(max_examples=scale(3_000), deadline=None)
def test_a_document_as_kuma_writes_it_is_read_as_any_json_is(
    rows: list[tuple[str, list[str]]], more: dict[str, Any], damage: tuple[int, int, str] | None, chunk: int
) -> None:
    listed = json.dumps([{"name": name, "ips": ips} for name, ips in rows], separators=(",", ":"))
    text = f'{{"records":{listed}{"," if more else ""}{json.dumps(more)[1:]}'
    if damage is not None:
        at, gone, put = damage
        text = text[:at] + put + text[at + gone :]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dns_document, "_CHUNK", chunk)
        usual = dns_document._read_usual(text, Origin("s"))
    if usual is not None:
        assert usual == dns_document._read_any(text, Origin("s"))


@given(USUAL_ROWS.filter(bool))
def test_a_document_as_kuma_writes_it_takes_the_short_way(rows: list[tuple[str, list[str]]]) -> None:
    text = json.dumps({"records": [{"name": name, "ips": ips} for name, ips in rows], "ttl": 30}, separators=(",", ":"))
    assert dns_document._read_usual(text, Origin("s")) is not None


@given(ADDRESSES | st.ip_addresses(v=4).map(str), NAMES)
@settings(max_examples=scale(2_000), deadline=None)
def test_what_is_usual_passes_every_check(address: str, name: str) -> None:
    octets = dns_document._usual_addresses([address])
    if octets:
        assert check_address(address).packed.hex() == octets
    if dns_document._NAME.match(name) and len(name) <= 253:
        assert check_name(name) == name
