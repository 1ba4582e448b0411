"""What a source says reaches the store, the log and the status; the store is a real one."""

import logging
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from zlib import crc32

import pytest

from meshdns.errors import StoreError
from meshdns.inventory.event import Connected, Disconnected, Noticed, Pushed, Unchanged
from meshdns.inventory.record import NameRecord, Table
from meshdns.processes.intake import Intake, describe
from meshdns.processes.status import LastError
from meshdns.store.push import Push
from meshdns.store.writer import Writer
from meshdns.zone.entries import Rules


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class FullDisk(Writer):
    """A writer whose disk can be filled."""

    full = False

    def apply(self, source: str, table: Table, *, version: str = "") -> Push:
        if self.full:
            raise StoreError("store: No space left on device")
        return super().apply(source, table, version=version)


FIRST = int(IPv4Address("240.0.0.0"))


def table(*names: str) -> Table:
    """A table that gives each name an address of its own, whatever other names there are."""
    return Table({name: NameRecord(name, (IPv4Address(FIRST + crc32(name.encode()) % 2**27),)) for name in names})


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def writer(tmp_path: Path, clock: Clock) -> Iterator[FullDisk]:
    writer = FullDisk(
        tmp_path / "store",
        rules=Rules(("mesh",), ()),
        sources=("kuma",),
        shrink_hold=300.0,
        clock=clock,
        wall=lambda: 1.0,
    )
    yield writer
    writer.close()


@pytest.fixture
def intake(writer: FullDisk, clock: Clock) -> Intake:
    return Intake("kuma", "kuma", writer, clock=clock, wall=lambda: 5000.0 + clock.now)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records if record.name == "meshdns.processes.intake"]
    caplog.clear()
    return found


def test_a_push_is_served_told_in_one_line_and_seen_in_the_status(
    intake: Intake, writer: FullDisk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    intake.take(Connected("127.0.0.1:5678", "delta"))
    intake.take(Pushed(table("a.mesh", "b.mesh"), "v1", skipped=("x..mesh: empty label",)))
    generation = writer.generation
    assert lines(caplog) == [
        "source kuma: connected to 127.0.0.1:5678 (delta)",
        f"source kuma: push v1: +2 -0 ~0, held 0, generation {generation}; added a.mesh, b.mesh",
        "source kuma: 1 left out: x..mesh: empty label",
    ]
    state = intake.state
    assert (state.connected, state.connected_since, state.peer, state.protocol) == (
        True, 6000.0, "127.0.0.1:5678", "delta",
    )  # fmt: skip
    assert (state.pushed, state.heard, state.heard_monotonic) == (6000.0, 6000.0, 1000.0)
    assert (state.version, state.names, state.delivered) == ("v1", 2, True)
    assert (state.skipped, state.skipped_count) == (("x..mesh: empty label",), 1)
    assert writer.names_count() == 2


def test_a_push_that_changes_nothing_is_not_told_but_makes_the_age_new(
    intake: Intake, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    intake.take(Pushed(table("a.mesh"), "v1", skipped=("same",)))
    caplog.set_level(logging.INFO)
    lines(caplog)
    clock.now += 60
    intake.take(Pushed(table("a.mesh"), "v2", skipped=("same",)))
    assert lines(caplog) == []
    assert (intake.state.heard_monotonic, intake.state.version) == (1060.0, "v2")


def test_a_confirmation_makes_the_age_new_and_delivers(intake: Intake, writer: FullDisk, clock: Clock) -> None:
    clock.now += 5
    intake.take(Unchanged())
    assert intake.state.heard_monotonic == 1005.0
    assert intake.state.delivered
    assert writer.delivered() == {"kuma"}


def test_what_cannot_be_stored_is_tried_again_with_the_latest_table(
    intake: Intake, writer: FullDisk, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    intake.take(Pushed(table("a.mesh"), "v1"))
    writer.full = True
    lines(caplog)
    intake.take(Pushed(table("b.mesh"), "v2"))
    intake.take(Unchanged())
    assert lines(caplog) == [
        "source kuma: its table could not be stored, the one before stays; tried again in 1 s: "
        "store: No space left on device"
    ]
    error = intake.state.last_error
    assert error == LastError(
        "store: No space left on device",
        "free space in data_dir; the latest table is tried again by itself",
        6000.0,
    )
    assert intake.state.version == "v1"
    for seconds in (0.5, 0.5, 2.0):
        clock.now += seconds
        intake.tick()
    assert len(lines(caplog)) == 2, "after 1 s and after 2 more"
    assert intake.state.last_error == error, "since says when it began"
    intake.take(Pushed(table("c.mesh"), "v3"))
    writer.full = False
    clock.now += 30
    intake.tick()
    assert intake.state.to_document() | {"version": "v3", "last_error": None} == intake.state.to_document()
    assert writer.names_count() == 1


def test_a_lost_source_and_a_notice_are_told_with_their_remedy_and_change_no_table(
    intake: Intake, writer: FullDisk, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    intake.take(Connected("127.0.0.1:5678"))
    intake.take(Pushed(table("a.mesh"), "v1"))
    lines(caplog)
    intake.take(Disconnected("no such Dataplane", "register it"))
    clock.now += 10
    intake.take(Disconnected("no such Dataplane", "register it"))
    intake.take(Noticed("the table has no names"))
    assert lines(caplog) == [
        "source kuma: no such Dataplane (register it)",
        "source kuma: no such Dataplane (register it)",
        "source kuma: the table has no names",
    ]
    assert (intake.state.connected, intake.state.connected_since) == (False, None)
    assert intake.state.last_error == LastError("the table has no names", "", 6010.0)
    assert writer.names_count() == 1
    intake.take(Unchanged())
    assert intake.state.last_error is None


def test_held_names_are_shown_until_their_hold_ends(intake: Intake, writer: FullDisk, clock: Clock) -> None:
    names = [f"n{number:02}.mesh" for number in range(30)]
    intake.take(Connected("127.0.0.1:5678"))
    intake.take(Pushed(table(*names), "v1"))
    clock.now += 1000
    intake.take(Disconnected("gone"))
    intake.take(Connected("127.0.0.1:5678"))
    intake.take(Pushed(table(*names[:2]), "v2"))
    state = intake.state
    assert (state.held_count, len(state.held), state.names) == (28, 20, 30)
    clock.now += 100
    intake.tick()
    assert state.hold_ends_in == pytest.approx(200.0)
    clock.now += 200
    for push in writer.tick():
        intake.ended_holds(push)
    intake.tick()
    assert (state.held_count, state.hold_ends_in, state.names) == (0, None, 2)


def test_a_line_names_five_and_counts_the_rest() -> None:
    names = tuple(f"n{number}.mesh" for number in range(8))
    push = Push(7, "kuma", "", added=names, removed=("x.mesh",), changed=(), held=("h.mesh",), changed_anything=True)
    assert describe(push) == (
        "push: +8 -1 ~0, held 1, generation 7; added n0.mesh, n1.mesh, n2.mesh, n3.mesh, n4.mesh and 3 more; "
        "removed x.mesh; held h.mesh"
    )
