"""The records file: what a record may look like, what is left out, what makes the whole file unusable."""

import time
from ipaddress import ip_address

import pytest

from meshdns.errors import Fault
from meshdns.inventory.record import NameRecord, Origin, Port, Table
from meshdns.sources.records import RecordsError, parse_records
from tests.scale import scale

ONE, TWO, SIX = ip_address("240.0.0.1"), ip_address("240.0.0.2"), ip_address("fd00:fd00::1")


def parse(text: str) -> tuple[Table, tuple[Fault, ...]]:
    return parse_records(text, source="extra", path="records.yaml", version="v1")


def good(text: str) -> dict[str, NameRecord]:
    table, faults = parse(text)
    assert faults == ()
    return dict(table.records)


RECORDS = [
    ("a.mesh: 240.0.0.1", NameRecord("a.mesh", (ONE,))),
    ("a.mesh.: 240.0.0.1", NameRecord("a.mesh", (ONE,))),
    ("a.mesh: fd00:fd00::1", NameRecord("a.mesh", (SIX,))),
    ("a.mesh: [240.0.0.2, 'fd00:fd00::1', 240.0.0.2]", NameRecord("a.mesh", (TWO, SIX))),
    ("'*.wild.mesh': 240.0.0.1", NameRecord("*.wild.mesh", (ONE,))),
    ("A_b.Mesh: 240.0.0.1", NameRecord("A_b.Mesh", (ONE,))),
    ("1.2: 240.0.0.1", NameRecord("1.2", (ONE,))),
    ("no: 240.0.0.1", NameRecord("no", (ONE,))),
    ("a.mesh: {addresses: 240.0.0.1}", NameRecord("a.mesh", (ONE,))),
    ("a.mesh: {addresses: [240.0.0.1], ttl: 0}", NameRecord("a.mesh", (ONE,), 0)),
    ("a.mesh: {addresses: [240.0.0.1], ttl: 2147483647}", NameRecord("a.mesh", (ONE,), 2**31 - 1)),
    ("a.mesh: {addresses: [240.0.0.1], service: s, ports: }", NameRecord("a.mesh", (ONE,), service="s")),
    (
        "a.mesh: {addresses: [240.0.0.1], ports: [{number: 443}, {number: 80, target: s, placeholder: true}]}",
        NameRecord("a.mesh", (ONE,), ports=(Port(80, "s", True), Port(443, "", False))),
    ),
]


@pytest.mark.parametrize(("line", "record"), RECORDS)
def test_a_record_may_be_written_in_these_ways(line: str, record: NameRecord) -> None:
    assert good(f"records:\n  {line}\n") == {record.name.lower(): record}


def test_a_record_says_where_it_came_from() -> None:
    assert good("records: {a: 240.0.0.1}")["a"].origin == Origin("extra", "records.yaml", "v1")


def test_the_ttl_of_the_file_holds_for_records_without_their_own() -> None:
    records = good("records: {a: 240.0.0.1, b: {addresses: 240.0.0.1, ttl: 5}, c: {addresses: 240.0.0.1}}\nttl: 7")
    assert {name: record.ttl for name, record in records.items()} == {"a": 7, "b": 5, "c": 7}
    assert good("records: {a: 240.0.0.1}")["a"].ttl == 30


def test_a_files_table_has_no_lenient_spelling_and_no_listeners() -> None:
    table, _ = parse("records: {a_b.mesh: 240.0.0.1, a.b.mesh: 240.0.0.1}")
    assert not table.lenient
    assert not table.listeners


LEFT_OUT = [
    ("a..b: 240.0.0.1", "'a..b': empty label"),
    (f"{'a' * 64}.b: 240.0.0.1", "label of 64 octets"),
    ("a.*.b: 240.0.0.1", "'*' may only be the leftmost label"),
    ("'*': 240.0.0.1", "'*' may only be the leftmost label"),
    ("'': 240.0.0.1", "empty name"),
    ("é.mesh: 240.0.0.1", "only letters, digits"),
    (f"{'.'.join(['a' * 60] * 5)}: 240.0.0.1", "the limit is 253"),
    ("x: 240.0.0.256", "'x': '240.0.0.256' is not an IP address"),
    ("x: 240.0.0.01", "is not an IP address"),
    ("x: 0.0.0.0", "cannot be the address of a service"),
    ("x: 'fe80::1%eth0'", "scope"),
    ("x: localhost", "is not an IP address"),
    ("x: ", "'x': no address"),
    ("x: []", "'x': no address"),
    ("x: {}", "'x': no address"),
    ("x: 5", "neither an address nor a list"),
    ("x: [240.0.0.1, 5]", "5 is not an IP address"),
    ("x: [240.0.0.1, [240.0.0.2]]", "a list is not an IP address"),
    ("x: [240.0.0.1, 240.0.0.999]", "'240.0.0.999' is not an IP address"),
    (f"x: [{', '.join(f'240.0.{n >> 8}.{n & 255}' for n in range(1, 1002))}]", "1001 addresses"),
    ("x: {address: 240.0.0.1}", "unknown key 'address'; a record has addresses"),
    ("x: {addresses: 240.0.0.1, addresses: 240.0.0.2}", "'addresses' is there twice"),
    ("x: {addresses: 240.0.0.1, ttl: -1}", "ttl -1"),
    ("x: {addresses: 240.0.0.1, ttl: 2147483648}", "ttl 2147483648"),
    ("x: {addresses: 240.0.0.1, ttl: 1.5}", "ttl 1.5"),
    ("x: {addresses: 240.0.0.1, ttl: true}", "ttl True"),
    ("x: {addresses: 240.0.0.1, ttl: 30s}", "ttl '30s'"),
    ("x: {addresses: 240.0.0.1, service: [s]}", "service must be text, not a list"),
    ("x: {addresses: 240.0.0.1, service: 5}", "service must be text, not 5"),
    ("x: {addresses: 240.0.0.1, ports: 80}", "ports must be a list, not 80"),
    ("x: {addresses: 240.0.0.1, ports: [80]}", "a port must be a mapping"),
    ("x: {addresses: 240.0.0.1, ports: [{target: s}]}", "port number None"),
    ("x: {addresses: 240.0.0.1, ports: [{number: 0}]}", "port number 0"),
    ("x: {addresses: 240.0.0.1, ports: [{number: 65536}]}", "port number 65536"),
    ("x: {addresses: 240.0.0.1, ports: [{number: true}]}", "port number True"),
    ("x: {addresses: 240.0.0.1, ports: [{number: 80}, {number: 80}]}", "port 80 is there twice"),
    ("x: {addresses: 240.0.0.1, ports: [{number: 80, placeholder: 1}]}", "placeholder of port 80"),
    ("x: {addresses: 240.0.0.1, ports: [{number: 80, name: http}]}", "unknown key 'name'; a port has number"),
]


@pytest.mark.parametrize(("line", "message"), LEFT_OUT)
def test_a_bad_record_is_left_out_and_named_with_its_line(line: str, message: str) -> None:
    table, (fault,) = parse(f"ttl: 5\nrecords:\n  before: 240.0.0.1\n  {line}\n  after: 240.0.0.2\n")
    assert set(table.records) == {"before", "after"}
    assert message in fault.problem
    assert (fault.key, fault.line) == ("records", 4)
    assert fault.at("records.yaml").startswith("records.yaml:4: records: ")


def test_a_name_that_is_there_twice_is_named_and_the_first_is_served() -> None:
    table, (fault,) = parse("records:\n  a: 240.0.0.1\n  b: 240.0.0.1\n  a: 240.0.0.2\n")
    assert table.records["a"].addresses == (ONE,)
    assert fault == Fault("records", "'a' is there twice; the first, on line 2, is served")
    assert fault.line == 4


@pytest.mark.parametrize("order", [("Aa", "AA", "aa"), ("aa", "Aa", "AA"), ("AA", "aa", "Aa")])
def test_of_names_that_differ_in_case_the_last_in_byte_order_is_served(order: tuple[str, ...]) -> None:
    addresses = {"AA": "240.0.0.1", "Aa": "240.0.0.1", "aa": "240.0.0.2"}
    table, faults = parse("records:\n" + "".join(f"  {name}: {addresses[name]}\n" for name in order))
    assert [(record.name, record.addresses) for record in table.records.values()] == [("aa", (TWO,))]
    assert {fault.problem.split()[0] for fault in faults} == {"'AA'", "'Aa'"}
    assert [fault.line for fault in faults] == [2 + index for index, name in enumerate(order) if name != "aa"]


WHOLE = [
    ("", [(None, "", "is empty")]),
    ("- a\n", [(1, "", "must be a mapping")]),
    ("records: [a]\n", [(1, "records", "must be a mapping of name to address")]),
    ("ttl: 5\nrecords:\n", [(2, "records", "an empty table is written 'records: {}'")]),
    ("ttl: 5\n", [(None, "records", "missing")]),
    ("records:\n  a: [240.0.0.1\n", [(3, "", "not YAML")]),
    ("records: {}\nrecord: {}\n", [(2, "record", "unknown key")]),
    ("records: {}\nrecords: {}\n", [(2, "records", "there twice")]),
    (
        "ttl: 30s\nzone: mesh\na.mesh: 240.0.0.1\n",
        [
            (2, "zone", "unknown key"),
            (3, "a.mesh", "unknown key"),
            (1, "ttl", "is not a whole number of seconds"),
            (None, "records", "missing"),
        ],
    ),
]


@pytest.mark.parametrize(("text", "expected"), WHOLE)
def test_a_file_that_is_broken_as_a_whole_gives_nothing(text: str, expected: list[tuple[int | None, str, str]]) -> None:
    with pytest.raises(RecordsError) as caught:
        parse(text)
    assert caught.value.path == "records.yaml"
    assert [(fault.line, fault.key) for fault in caught.value.faults] == [(line, key) for line, key, _ in expected]
    for fault, (_, _, message) in zip(caught.value.faults, expected, strict=True):
        assert message in fault.problem
        assert fault.at("records.yaml") in str(caught.value).splitlines()


def test_an_empty_table_can_be_written() -> None:
    assert good("records: {}") == {}


def test_100_000_names_are_read_in_seconds() -> None:
    """Ten times what one core needs: what is looked for is anything quadratic."""
    count = scale(100_000)
    text = "records:\n" + "".join(f"  n{n}.mesh: 240.{n >> 16}.{n >> 8 & 255}.{(n & 255) or 1}\n" for n in range(count))
    began = time.process_time()
    table, faults = parse(text)
    assert time.process_time() - began < 20 * count / 100_000
    assert (len(table.records), faults) == (count, ())
