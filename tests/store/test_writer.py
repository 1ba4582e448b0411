"""What a push does to the store."""

import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
import pytest

from meshdns.errors import StoreError
from meshdns.inventory.record import Table
from meshdns.store import writer as writer_module
from meshdns.store.push import Push
from meshdns.store.reader import Reader
from meshdns.store.schema import FORMAT_KEY, format_entry, open_environment
from meshdns.store.writer import Writer
from meshdns.zone.entries import DELIVERED_KEY, Rules
from tests.store.contents import assert_digest, database, snapshot
from tests.store.tables import RULES, address, mesh, record, table, zone_of


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


Open = Callable[..., Writer]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_writer(tmp_path: Path, clock: Clock) -> Iterator[Open]:
    """Open the store anew, as a restarted process would."""
    opened: list[Writer] = []

    def open_it(*sources: str, **options: object) -> Writer:
        for each in opened:
            each.close()
        opened.clear()
        settings = {"rules": RULES, "clock": clock, "wall": lambda: 1.8e9, **options}
        opened.append(Writer(tmp_path / "store", sources=sources or ("kuma",), **settings))
        return opened[0]

    yield open_it
    for each in opened:
        each.close()


def served(writer: Writer) -> dict[str, list[str]]:
    with snapshot(writer) as now:
        return {each.record.name: [str(vip) for vip in each.record.addresses] for each in now.records()}


def test_a_push_is_one_commit_with_its_journal_row(open_writer: Open) -> None:
    writer = open_writer()
    first = writer.apply("kuma", table(record("a.mesh", "240.0.0.1"), record("b.mesh", "240.0.0.2")), version="v1")
    assert (first.added, first.removed, first.changed) == (("a.mesh", "b.mesh"), (), ())
    second = writer.apply("kuma", table(record("b.mesh", "240.0.0.9"), record("c.mesh", "240.0.0.3")), version="v2")
    assert (second.added, second.removed, second.changed) == (("c.mesh",), ("a.mesh",), ("b.mesh",))
    assert second.generation == first.generation + 1 == writer.generation
    assert second.changed_anything
    with snapshot(writer) as now:
        assert now.generation == second.generation
        newest, oldest = now.journal()
        assert (newest.generation, newest.time, newest.source, newest.version) == (
            second.generation, 1.8e9, "kuma", "v2",
        )  # fmt: skip
        assert (newest.added, newest.removed, newest.changed) == (("c.mesh",), ("a.mesh",), ("b.mesh",))
        assert oldest.version == "v1"
        assert now.last_removal("A.mesh.") == newest
        assert now.last_removal("b.mesh") is None
    assert writer.names_count() == 2
    assert_digest(writer)


def test_a_push_that_changes_nothing_opens_no_write_transaction(open_writer: Open, tmp_path: Path) -> None:
    writer = open_writer()
    before = writer.apply("kuma", mesh(20, version="v1"), version="v1")
    content = (tmp_path / "store" / "data.mdb").read_bytes()
    again = writer.apply("kuma", mesh(20, version="v2"), version="v2")
    assert again.generation == before.generation
    assert not again.changed_anything
    assert (tmp_path / "store" / "data.mdb").read_bytes() == content
    with snapshot(writer) as now:
        assert {each.record.origin.version for each in now.records()} == {"v1"}, "of the push that last changed it"


def test_a_change_of_listeners_alone_is_a_commit(open_writer: Open) -> None:
    writer = open_writer()
    a = record("a.mesh", "240.0.0.1")
    first = writer.apply("kuma", table(a, listeners={("240.0.0.1", 80): "a", ("::1", 443): "b"}))
    push = writer.apply("kuma", table(a, listeners={("240.0.0.1", 80): "a", ("240.0.0.1", 443): "c"}))
    assert push.generation == first.generation + 1
    assert push.changed_anything
    assert (push.added, push.removed, push.changed) == ((), (), ())
    with snapshot(writer) as now:
        assert now.listeners() == {(address("240.0.0.1"), 80): "a", (address("240.0.0.1"), 443): "c"}
    assert_digest(writer)


@pytest.mark.parametrize(
    "other",
    [
        record("a.mesh", "240.0.0.2"),
        record("a.mesh", "240.0.0.1", "240.0.0.2"),
        record("a.mesh", "240.0.0.1", ttl=60),
        record("a.mesh", "240.0.0.1", service="s"),
        record("A.mesh", "240.0.0.1"),
    ],
)
def test_everything_but_the_origin_counts_as_a_change(open_writer: Open, other: object) -> None:
    writer = open_writer()
    writer.apply("kuma", table(record("a.mesh", "240.0.0.1", version="v1")))
    assert not writer.apply("kuma", table(record("a.mesh", "240.0.0.1", version="v2"))).changed_anything
    assert writer.apply("kuma", table(other)).changed == ("a.mesh",)  # type: ignore[arg-type]


def test_the_first_source_wins_and_the_second_returns(open_writer: Open) -> None:
    writer = open_writer("first", "second")
    writer.apply("second", table(record("a.mesh", "240.0.0.2", source="second")))
    push = writer.apply("first", table(record("a.mesh", "240.0.0.1", source="first")))
    assert push.conflicts == ("a.mesh: first says 240.0.0.1, second says 240.0.0.2; the first is served",)
    assert served(writer) == {"a.mesh": ["240.0.0.1"]}
    with snapshot(writer) as now:
        stored = now.record("A.MESH")
        assert stored is not None
        assert [each.origin.source for each in stored.shadowed] == ["second"]
        assert now.names_of(address("240.0.0.2")) == ()
    assert writer.names_count() == 1
    assert writer.apply("first", table()).removed == ("a.mesh",)
    assert served(writer) == {"a.mesh": ["240.0.0.2"]}
    assert writer.names_count() == 1
    assert_digest(writer)


def test_conflicts_are_told_by_either_source_and_only_for_addresses(open_writer: Open) -> None:
    writer = open_writer("first", "second")
    writer.apply("first", table(record("a.mesh", "240.0.0.1", "240.0.0.2"), record("b.mesh", "240.0.0.3")))
    push = writer.apply(
        "second", table(record("a.mesh", "240.0.0.2", "240.0.0.1", ttl=5, service="x"), record("b.mesh", "240.0.0.4"))
    )
    assert push.conflicts == ("b.mesh: first says 240.0.0.3, second says 240.0.0.4; the first is served",)
    assert writer.apply("second", table(record("b.mesh", "240.0.0.4"))).conflicts == (), "told when it was pushed"


def test_listeners_of_the_first_source_win(open_writer: Open) -> None:
    writer = open_writer("first", "second")
    writer.apply("second", table(listeners={("240.0.0.1", 80): "two", ("240.0.0.2", 80): "two"}))
    writer.apply("first", table(listeners={("240.0.0.1", 80): "one"}))
    with snapshot(writer) as now:
        assert now.listeners() == {(address("240.0.0.1"), 80): "one", (address("240.0.0.2"), 80): "two"}


def test_a_source_no_longer_configured_is_removed_at_start(open_writer: Open) -> None:
    writer = open_writer("one", "two", "three")
    for number, source in enumerate(("one", "two", "three")):
        own = f"240.0.0.{number + 1}"
        records = [record(f"{source}.mesh", own), record("all.mesh", f"240.0.1.{number}")]
        writer.apply(source, table(*records, listeners={(own, 80): source}))
    generation = writer.generation
    writer = open_writer("three")
    assert writer.generation == generation + 1, "one commit"
    assert served(writer) == {"all.mesh": ["240.0.1.2"], "three.mesh": ["240.0.0.3"]}
    assert writer.delivered() == {"three"}
    with snapshot(writer) as now:
        assert [row.source for row in now.journal(2)] == ["two", "one"]
        assert now.last_removal("one.mesh").source == "one"  # type: ignore[union-attr]
        assert now.listeners() == {(address("240.0.0.3"), 80): "three"}
        assert now.sources() == ("three",)
    assert_digest(writer)
    assert open_writer("three").generation == generation + 1, "nothing differs: no commit"


def test_order_and_rules_are_applied_at_start(open_writer: Open) -> None:
    tables = {
        "one": table(record("a.mesh", "240.0.0.1"), record("x.other", "10.0.0.1")),
        "two": table(record("a.mesh", "240.0.0.2"), record("a_b.mesh", "240.0.0.4"), record("a.b.mesh", "240.0.0.4"),
                     lenient=True),
    }  # fmt: skip
    writer = open_writer("one", "two")
    for source, each in tables.items():
        writer.apply(source, each)
    assert database(writer, "zone") == zone_of([tables["one"], tables["two"]], RULES, ["one", "two"])
    writer = open_writer("two", "one")
    assert served(writer)["a.mesh"] == ["240.0.0.2"]
    assert database(writer, "zone") == zone_of([tables["two"], tables["one"]], RULES, ["one", "two"])
    rules = Rules(("mesh", "other"), (), srv=True)
    writer = open_writer("two", "one", rules=rules)
    assert database(writer, "zone") == zone_of([tables["two"], tables["one"]], rules, ["one", "two"])
    assert_digest(writer)


def test_delivered_is_remembered(open_writer: Open) -> None:
    writer = open_writer("one", "two")
    assert writer.delivered() == frozenset()
    generation = writer.generation
    push = writer.apply("one", table())
    assert push.generation == generation + 1
    assert not push.changed_anything
    assert writer.apply("one", table()).generation == generation + 1
    assert isinstance(writer.confirm("two"), Push)
    assert writer.confirm("two") is None
    assert writer.generation == generation + 2
    writer = open_writer("one", "two", "new")
    assert writer.delivered() == {"one", "two"}
    assert database(writer, "zone")[DELIVERED_KEY] == b"one\ntwo"
    assert_digest(writer)


def test_the_guard_keeps_names_across_a_restart(open_writer: Open, clock: Clock) -> None:
    writer = open_writer()
    full = mesh(10)
    writer.connected("kuma")
    writer.apply("kuma", full)
    writer.connected("kuma")
    clock.now += 1
    push = writer.apply("kuma", Table(lenient=True), version="empty")
    assert push.removed == ()
    assert len(push.held) == len(full.records) == writer.names_count()
    assert push.held == writer.held("kuma")
    assert writer.hold_ends_in("kuma") == 300.0
    clock.now += 100
    assert writer.tick() == ()
    writer = open_writer()
    assert writer.hold_ends_in("kuma") == 200.0
    clock.now += 1_000
    assert writer.hold_ends_in("kuma") == 200.0, "not connected yet"
    writer.connected("kuma")
    back = {name: each for name, each in full.records.items() if each.service != "svc3_ns3_svc_80"}
    push = writer.apply("kuma", Table(back, full.listeners, lenient=True))
    assert set(push.released) == back.keys()
    assert push.held == ("svc3.ns3.svc.80.mesh", "svc3_ns3_svc_80.mesh")
    with snapshot(writer) as now:
        assert now.held() == {"kuma": push.held}
        assert [each.record.name for each in now.records() if each.held] == list(push.held)
    clock.now += 200
    (over,) = writer.tick()
    assert over.removed == over.released == push.held
    assert over.changed_anything
    assert over.generation == writer.generation
    assert writer.tick() == ()
    assert writer.held("kuma") == ()
    assert writer.hold_ends_in("kuma") is None
    assert database(writer, "zone") == zone_of([Table(back, {}, lenient=True)], RULES, ["kuma"])
    assert database(writer, "held") == {}
    assert_digest(writer)


def test_a_kept_name_ends_when_its_address_goes_to_another_service(open_writer: Open) -> None:
    writer = open_writer()
    writer.connected("kuma")
    writer.apply("kuma", table(*(record(f"n{n}.mesh", f"240.0.0.{n}", service=f"s{n}") for n in range(1, 21))))
    assert len(writer.apply("kuma", table()).held) == 20
    push = writer.apply("kuma", table(record("new.mesh", "240.0.0.7", service="new")))
    assert push.removed == push.released == ("n7.mesh",)
    assert len(push.held) == 19
    assert_digest(writer)


def test_additions_and_changes_apply_at_once_while_removals_wait(open_writer: Open) -> None:
    writer = open_writer()
    writer.connected("kuma")
    writer.apply("kuma", table(*(record(f"n{n}.mesh", f"240.0.0.{n}", service=f"s{n}") for n in range(1, 21))))
    push = writer.apply("kuma", table(record("n1.mesh", "240.0.1.1", service="s1"), record("new.mesh", "240.0.1.2")))
    assert (push.added, push.changed, push.removed) == (("new.mesh",), ("n1.mesh",), ())
    assert len(push.held) == 19


def test_a_shorter_hold_after_a_restart_ends_kept_names_sooner(open_writer: Open, clock: Clock) -> None:
    writer = open_writer()
    writer.connected("kuma")
    writer.apply("kuma", mesh(10))
    writer.apply("kuma", Table(lenient=True))
    writer = open_writer(shrink_hold=0.0)
    assert [push.removed for push in writer.tick()] == [tuple(sorted(mesh(10).records))]
    assert writer.names_count() == 0


def test_a_full_map_keeps_the_last_table_and_the_writer_stays_usable(open_writer: Open, tmp_path: Path) -> None:
    writer = open_writer(map_size=1 << 20)
    first = writer.apply("kuma", mesh(50, version="v1"))
    before = database(writer, "zone")
    for _ in range(3):
        with pytest.raises(StoreError, match=f"{tmp_path}.*full"):
            writer.apply("kuma", mesh(5_000))
    assert writer.generation == first.generation
    assert writer.names_count() == 100
    assert database(writer, "zone") == before
    push = writer.apply("kuma", mesh(50, moved=100))
    assert push.generation == first.generation + 1
    assert database(writer, "zone") == zone_of([mesh(50, moved=100)], RULES, ["kuma"])
    assert_digest(writer)


def test_a_failed_push_leaves_the_guard_as_it_was(open_writer: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = open_writer()
    writer.connected("kuma")
    writer.apply("kuma", mesh(10))

    def fail(*_: object) -> int:
        raise lmdb.DiskError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(writer_module, "append_row", fail)
        with pytest.raises(StoreError, match="no space"):
            writer.apply("kuma", Table(lenient=True))
    assert writer.held("kuma") == ()
    assert len(writer.apply("kuma", Table(lenient=True)).held) == 20


def test_after_a_panic_the_store_is_opened_again(open_writer: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = open_writer()
    first = writer.apply("kuma", mesh(10))

    def fail(*_: object) -> int:
        raise lmdb.PanicError("update of meta page failed")

    with monkeypatch.context() as patch:
        patch.setattr(writer_module, "append_row", fail)
        with pytest.raises(StoreError, match="meta page"):
            writer.apply("kuma", mesh(11))
    assert writer.generation == first.generation
    assert writer.apply("kuma", mesh(11)).generation == first.generation + 1
    assert_digest(writer)


def test_the_journal_is_bounded(open_writer: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = open_writer()
    monkeypatch.setattr("meshdns.store.journal.MAX_ROWS", 5)
    for number in range(1, 9):
        writer.apply("kuma", table(record("a.mesh", f"240.0.0.{number}")), version=f"v{number}")
    with snapshot(writer) as now:
        assert [row.version for row in now.journal()] == ["v8", "v7", "v6", "v5", "v4"]
        assert [row.version for row in now.journal(2)] == ["v8", "v7"]
    monkeypatch.setattr("meshdns.store.journal.MAX_OCTETS", 200)
    writer.apply("kuma", table(record("a.mesh", "240.0.1.1")), version="v9")
    with snapshot(writer) as now:
        kept = [row.version for row in now.journal()]
    assert 1 <= len(kept) < 5
    assert kept[0] == "v9"
    assert sum(map(len, database(writer, "journal").values())) <= 200
    monkeypatch.setattr("meshdns.store.journal.MAX_OCTETS", 1)
    writer.apply("kuma", table(record("a.mesh", "240.0.1.2")), version="v10")
    with snapshot(writer) as now:
        assert [row.version for row in now.journal()] == ["v10"], "the newest is always kept"
    assert_digest(writer)


def test_a_newer_format_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "store"
    Writer(path, rules=RULES, sources=["kuma"]).close()
    with open_environment(path) as env, env.begin(write=True) as txn:
        txn.put(FORMAT_KEY, format_entry(7), db=env.open_db(b"meta", txn=txn))
    for opening in (lambda: Writer(path, rules=RULES, sources=["kuma"]), lambda: Reader(path)):
        with pytest.raises(StoreError, match=f"{path}.*format 7.*format 1"):
            opening()


def test_nobody_else_can_read_the_store(open_writer: Open, tmp_path: Path) -> None:
    open_writer().apply("kuma", mesh(1))
    assert stat.S_IMODE((tmp_path / "store").stat().st_mode) == 0o700
    files = {each.name: stat.S_IMODE(each.stat().st_mode) for each in (tmp_path / "store").iterdir()}
    assert files == {"data.mdb": 0o600, "lock.mdb": 0o600, "progress": 0o600}


def test_a_store_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    with pytest.raises(StoreError, match=str(tmp_path / "store")):
        Writer(tmp_path / "store", rules=RULES, sources=["kuma"])
    with pytest.raises(StoreError, match="there is no store"):
        Reader(tmp_path / "absent")


def test_a_store_closed_for_now_is_opened_again_when_it_can_be(
    open_writer: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = open_writer()
    push = writer.apply("kuma", mesh(20))
    with monkeypatch.context() as patch:

        def fail(*_: object, **__: object) -> None:
            raise StoreError("too many open files")

        patch.setattr(writer_module, "open_store", fail)
        with writer.closed_for_now():
            assert writer.names_count() == 40
        with pytest.raises(StoreError, match="too many open files"):
            writer.apply("kuma", mesh(21))
    assert not writer.apply("kuma", mesh(20)).changed_anything
    assert writer.apply("kuma", mesh(21)).generation == push.generation + 1
    assert database(writer, "zone") == zone_of([mesh(21)], RULES, ["kuma"])
    assert_digest(writer)
