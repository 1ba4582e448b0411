"""What readers are told."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshdns.store.reader import Reader, Snapshot
from meshdns.store.writer import Writer
from meshdns.wire.name import to_wire
from meshdns.wire.rrset import A
from meshdns.zone.entries import rrset_key
from tests.store.tables import RULES, address, mesh, record, table


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    writer = Writer(tmp_path / "store", rules=RULES, sources=["kuma", "file", "silent"], wall=lambda: 1.8e9)
    writer.apply("kuma", mesh(50, version="v1"), version="v1")
    writer.apply("file", table(record("Extra.mesh", "10.0.0.1", "fd00:fd00::1", source="file")), version="f1")
    writer.apply("kuma", mesh(40, version="v2"), version="v2")
    writer.close()
    reader = Reader(tmp_path / "store")
    yield reader
    reader.close()


@pytest.fixture
def now(reader: Reader) -> Iterator[Snapshot]:
    with reader.snapshot() as snapshot:
        yield snapshot


def test_a_transaction_reads_what_lookups_need(reader: Reader) -> None:
    txn = reader.begin()
    name = to_wire("extra.mesh")
    assert txn.get(rrset_key(name, A), ) is not None  # fmt: skip
    assert txn.get(name) is None, "an A RRset shows that its owner exists"
    assert txn.get(to_wire("none.mesh")) is None
    with reader.snapshot() as now:
        assert reader.generation(txn) == now.generation
    txn.abort()


def test_what_fails_while_a_snapshot_is_told_is_not_the_stores_fault(reader: Reader) -> None:
    with pytest.raises(BrokenPipeError), reader.snapshot():
        raise BrokenPipeError


def test_records_are_sorted_and_merged(now: Snapshot) -> None:
    names = [each.record.name.lower() for each in now.records()]
    assert names == sorted(names)
    assert len(names) == now.names_count() == 81
    extra = now.record("eXtra.Mesh.")
    assert extra is not None
    assert (extra.record.name, extra.record.origin.source, extra.shadowed, extra.held) == (
        "Extra.mesh",
        "file",
        (),
        False,
    )
    assert now.record("none.mesh") is None
    assert now.record("") is None
    assert now.record("x" * 600) is None, "no key of LMDB is that long"
    assert now.record("ü.mesh") is None


def test_names_of_an_address(now: Snapshot) -> None:
    assert now.names_of(address("240.0.0.1")) == ("svc1.ns1.svc.80.mesh", "svc1_ns1_svc_80.mesh")
    assert now.names_of(address("fd00:fd00::1")) == ("extra.mesh", "svc1.ns1.svc.80.mesh", "svc1_ns1_svc_80.mesh")
    assert now.names_of(address("240.1.1.1")) == ()


def test_sources_and_the_journal(now: Snapshot) -> None:
    assert now.sources() == ("kuma", "file", "silent")
    assert now.delivered() == {"kuma", "file"}
    assert now.held() == {}
    assert [(row.source, row.version, len(row.added), len(row.removed)) for row in now.journal()] == [
        ("kuma", "v2", 0, 20), ("file", "f1", 1, 0), ("kuma", "v1", 100, 0),
    ]  # fmt: skip
    removal = now.last_removal("svc45_ns3_svc_80.mesh")
    assert removal is not None
    assert (removal.version, removal.time) == ("v2", 1.8e9)
    assert now.last_removal("svc1_ns1_svc_80.mesh") is None


@pytest.mark.parametrize(
    ("asked", "likeliest"),
    [
        ("svc12.ns5.scv.80.mesh", "svc12.ns5.svc.80.mesh"),
        ("SVC12_NS5_SVC_8.mesh.", "svc12_ns5_svc_80.mesh"),
        ("extr.mesh", "extra.mesh"),
    ],
)
def test_the_closest_names(now: Snapshot, asked: str, likeliest: str) -> None:
    found = now.closest(asked)
    assert found[0] == likeliest
    assert len(found) <= 5
    assert now.closest(asked, limit=1) == [likeliest]


def test_nothing_is_close_to_nonsense(now: Snapshot) -> None:
    assert now.closest("") == []
    assert now.closest("zzz") == []


def test_the_closest_of_many_names_are_found_in_bounded_time(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "many", rules=RULES, sources=["kuma"])
    writer.apply("kuma", mesh(5_000))
    writer.close()
    reader = Reader(tmp_path / "many")
    with reader.snapshot() as now:
        began = time.process_time()
        assert now.closest("svc4321.ns2.svc.81.mesh")[0] == "svc4321.ns2.svc.80.mesh"
        assert time.process_time() - began < 2
    reader.close()
