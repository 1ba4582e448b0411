"""The compiled entries stay what the tables say, however they got there."""

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshdns.inventory.body import Bodies, bodies_of, unpacked
from meshdns.inventory.record import NameRecord, Origin, Port, Table
from meshdns.store import schema
from meshdns.store import writer as writer_module
from meshdns.store.lines import lines, must_be_listed
from meshdns.store.writer import Writer
from meshdns.zone.entries import Rules
from tests.scale import scale
from tests.store.contents import assert_digest, database, snapshot
from tests.store.tables import RULES, address, merged, table, zone_of

VIPS = ["240.0.0.1", "240.0.0.2", "fd00:fd00::1", "10.0.0.1", "::ffff:240.0.0.1", "2001:db8::1"]
SPELLINGS = ["a.b.c.mesh", "a_b_c.mesh", "a_b.c.mesh", "a.b_c.mesh", "b.c.mesh", "b_c.mesh", "c.mesh"]
NAMES = [
    *("A_B_C.mesh", "x.mesh.local", "x_y.mesh.local", "x.y.mesh.local", "*.b.c.mesh", "*.b_c.mesh", "_a.mesh", "mesh"),
    *("outside.example", "deep.outside.example", "out_side.example", "1.0.0.240.in-addr.arpa"),
]
ADDRESSES = st.one_of(
    st.just(("240.0.0.1",)),  # mostly the same, so that spellings are pairs
    st.sampled_from([("240.0.0.1", "fd00:fd00::1"), ("fd00:fd00::1", "240.0.0.1")]),
    st.sampled_from([("240.0.0.1", "::ffff:240.0.0.1"), ("::ffff:240.0.0.1", "240.0.0.1"), ("240.0.7.1",)]),
    st.sampled_from([("240.0.0.1", "::ffff:10.0.0.1"), ("10.0.0.1", "::ffff:10.0.0.1"), ("fd00:fd00::1",)]),
    st.lists(st.sampled_from(VIPS), max_size=3, unique=True),
)
RECORDS = st.builds(
    NameRecord,
    name=st.sampled_from(SPELLINGS) | st.sampled_from(NAMES),
    addresses=ADDRESSES.map(lambda texts: tuple(map(address, texts))),
    ttl=st.sampled_from([30, 30, 60]),
    ports=st.sampled_from([(), (), (Port(80, "s", True),), (Port(80, "s"), Port(443, "t"))]),
    service=st.sampled_from([None, None, 's","00000000",1,[],null]']),
)
CHANGES = st.tuples(
    st.sampled_from(["kuma", "kuma", "file", "sidecar"]),
    st.lists(st.tuples(RECORDS, st.booleans()), max_size=6),
)
"""A source's next table: its last one with these records put, or (False) with their names taken out."""
LENIENT = {"kuma": True, "file": False, "sidecar": True}
RULE_SETS = st.sampled_from([RULES, Rules(("c.mesh", "mesh", "example"), RULES.reverse, mapped_v6=False, srv=True)])


@pytest.mark.parametrize("anew", [writer_module.ANEW, -1.0, 1e9], ids=["as built", "always anew", "never anew"])
@given(steps=st.lists(CHANGES, min_size=1, max_size=8), rules=RULE_SETS, at_hand=st.booleans())
@settings(
    max_examples=scale(400),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_sequence_of_pushes_gives_the_entries_of_the_last_tables(
    monkeypatch: pytest.MonkeyPatch,
    anew: float,
    steps: list[tuple[str, list[tuple[NameRecord, bool]]]],
    rules: Rules,
    at_hand: bool,
) -> None:
    """at_hand: whether sources hold their tables as octets, and the last one while the next is compared with it."""
    monkeypatch.setattr(writer_module, "ANEW", anew)
    monkeypatch.setattr(schema, "_CHUNK", 2)
    tables: dict[str, Table] = {}
    kept = []
    with tempfile.TemporaryDirectory() as directory:
        writer = Writer(Path(directory) / "store", rules=rules, sources=list(LENIENT))
        try:
            for source, changes in steps:
                records = dict(tables[source].records) if source in tables else {}
                for each, put in changes:
                    records.pop(each.name.lower(), None)
                    records |= {each.name.lower(): each} if put else {}
                tables[source] = table(*records.values(), lenient=LENIENT[source])
                if at_hand:
                    bodies = Bodies(bodies_of(tables[source].records), Origin(source))
                    kept.append(replace(tables[source], records=bodies))
                writer.apply(source, kept[-1] if at_hand else tables[source])
                ranked = [tables[each] for each in LENIENT if each in tables]
                assert database(writer, "zone") == zone_of(ranked, rules, list(tables))
                assert_digest(writer)
                assert_indexes(writer, ranked)
        finally:
            writer.close()


def assert_indexes(writer: Writer, ranked: list[Table]) -> None:
    """Names by address, the count and the merged view say the same as the tables."""
    served = {name: each for name, (each, _) in merged(ranked).items()}
    with snapshot(writer) as now:
        assert {each.record.name.lower(): each.record for each in now.records()} == served
        assert now.names_count() == writer.names_count() == len(served)
        for vip in map(address, VIPS):
            assert now.names_of(vip) == tuple(sorted(name for name, each in served.items() if vip in each.addresses))
    for key, value in database(writer, "addresses").items():
        assert must_be_listed(unpacked(key), lines(value)), "the PTR RRset says it already"


@pytest.mark.parametrize("name", ["1.0.0.240.in-addr.arpa", "x.1.0.0.240.in-addr.arpa", "*.0.0.240.in-addr.arpa"])
@pytest.mark.parametrize("anew", [-1.0, 1e9])
def test_a_record_may_stand_where_a_pointer_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, anew: float
) -> None:
    """Both, each alone, and both again: the mark of the name goes with the last of them."""
    monkeypatch.setattr(writer_module, "ANEW", anew)
    vip = NameRecord("a.mesh", (address("240.0.0.1"),))
    own = NameRecord(name, (address("240.0.7.1"),))
    writer = Writer(tmp_path / "store", rules=RULES, sources=["kuma"])
    for number, records in enumerate([(vip, own), (vip,), (own,), (vip, own)]):
        now = table(*records)
        writer.apply("kuma", now)
        assert database(writer, "zone") == zone_of([now], RULES, ["kuma"]), number
        assert_digest(writer)
    writer.close()


def test_a_change_of_leniency_recompiles_the_table(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "store", rules=RULES, sources=["kuma"])
    records = [
        NameRecord("a_b.mesh", (address("240.0.0.1"),)),
        NameRecord("a.b.mesh", (address("240.0.0.1"),)),
    ]
    for lenient in (False, True, False):
        given_table = table(*records, lenient=lenient)
        writer.apply("kuma", given_table)
        assert database(writer, "zone") == zone_of([given_table], RULES, ["kuma"])
    writer.close()
