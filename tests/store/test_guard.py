"""The guard on removals, as scenarios with a clock of their own."""

from dataclasses import dataclass

import pytest

from meshdns.inventory.record import NameRecord, Table
from meshdns.store.guard import Guard, taken_over
from tests.store.tables import record, table

HOLD = 300.0


def many(count: int, start: int = 0) -> frozenset[str]:
    return frozenset(f"n{number}.mesh" for number in range(start, start + count))


@dataclass
class Case:
    """One push some time after a connect: how many names are listed, which are missing, which are kept then."""

    claim: str
    listed: int
    missing: int
    kept: int
    after: float | None = 1.0
    hold: float = HOLD


@pytest.mark.parametrize(
    "case",
    [
        Case("everything gone right after a connect", 100, 100, 100),
        Case("more than half and more than ten", 20, 11, 11),
        Case("exactly half is believed", 22, 11, 0),
        Case("ten are believed, whatever their share", 10, 10, 0),
        Case("eleven of eleven are doubted", 11, 11, 11),
        Case("nothing missing", 100, 0, 0),
        Case("at 60 s the table is still fresh", 100, 100, 100, after=60.0),
        Case("after 60 s a removal is believed", 100, 100, 0, after=60.1),
        Case("a source that never connected is believed", 100, 100, 0, after=None),
        Case("hold 0 turns the guard off", 100, 100, 0, hold=0.0),
    ],
    ids=lambda case: case.claim,
)
def test_what_is_doubted(case: Case) -> None:
    guard = Guard(case.hold)
    now = 1000.0
    if case.after is not None:
        guard = guard.connected(now - case.after)
    assert len(guard.candidates(many(case.missing), case.listed, now)) == case.kept


def test_a_hold_ends_after_connected_time_only() -> None:
    guard = Guard(HOLD).connected(0.0)
    guard = guard.keeping(many(20), 10.0)
    assert guard.ends_in(10.0) == 300.0
    guard = guard.disconnected(110.0)
    assert guard.ends_in(5_000.0) == 200.0, "nothing runs while the source cannot be heard"
    assert not guard.ended(5_000.0)
    guard = guard.connected(6_000.0)
    assert not guard.ended(6_199.9)
    assert guard.ended(6_200.0) == many(20)
    assert guard.ends_in(6_300.0) == 0.0


def test_a_reconnect_without_a_disconnect_loses_no_time() -> None:
    guard = Guard(HOLD).connected(0.0).keeping(many(1), 0.0).connected(100.0)
    assert guard.ends_in(100.0) == 200.0


def test_what_is_kept_stays_kept_by_later_pushes() -> None:
    guard = Guard(HOLD).connected(0.0)
    guard = guard.keeping(guard.candidates(many(100), 100, 1.0), 1.0)
    later = 200.0
    # 30 came back; what is still missing was doubted before and stays, long after the connect
    still = many(70, 30)
    assert guard.candidates(still, 30, later) == still
    guard = guard.keeping(still, later)
    assert guard.ends_in(later) == 101.0, "the first doubt counts"


def test_newly_missing_names_are_judged_by_the_rule_again() -> None:
    guard = Guard(HOLD).connected(0.0).keeping(many(100), 1.0)
    lost = many(20, 200)
    assert guard.candidates(many(100) | lost, 30, 30.0) == many(100) | lost, "20 of 30: doubted"
    assert guard.candidates(many(100) | lost, 50, 30.0) == many(100), "20 of 50: believed"
    assert guard.candidates(many(100) | lost, 30, 90.0) == many(100), "no longer fresh: believed"


def test_two_doubts_end_one_after_the_other() -> None:
    guard = Guard(HOLD).connected(0.0).keeping(many(20), 1.0)
    guard = guard.keeping(many(40), 31.0)
    assert guard.ended(301.0) == many(20)
    assert guard.candidates(many(40), 0, 301.0) == many(20, 20), "a push after the end does not prolong it"
    assert guard.ended(331.0) == many(40)


def test_a_source_that_reconnects_is_doubted_again() -> None:
    guard = Guard(HOLD).connected(0.0).disconnected(500.0).connected(600.0)
    assert guard.doubts(20, 20, 610.0)


HELD = record("a.mesh", "240.0.0.1", service="svc")


@pytest.mark.parametrize(
    ("claim", "missing", "pushed", "taken"),
    [
        ("an empty table takes nothing", HELD, table(), False),
        ("its address for the same service", HELD, table(record("b.mesh", "240.0.0.1", service="svc")), False),
        ("its address for another service", HELD, table(record("b.mesh", "240.0.0.1", service="other")), True),
        ("another address for another service", HELD, table(record("b.mesh", "240.0.0.2", service="other")), False),
        ("its address for a name of unknown service", HELD, table(record("b.mesh", "240.0.0.1")), True),
        ("of unknown service itself", record("a.mesh", "240.0.0.1"), table(record("b.mesh", "240.0.0.1")), True),
        ("a listener of its service", HELD, table(listeners={("240.0.0.1", 80): "svc"}), False),
        ("a listener of another service", HELD, table(listeners={("240.0.0.1", 80): "other"}), True),
        ("a listener where no service is known", record("a.mesh", "240.0.0.1"),
         table(listeners={("240.0.0.1", 80): "other"}), False),
        ("one of two addresses taken", record("a.mesh", "240.0.0.1", "fd00:fd00::1", service="svc"),
         table(record("b.mesh", "fd00:fd00::1", service="other")), True),
    ],
)  # fmt: skip
def test_when_an_address_is_taken_over(claim: str, missing: NameRecord, pushed: Table, taken: bool) -> None:
    assert taken_over([missing], pushed) == (frozenset({"a.mesh"}) if taken else frozenset()), claim


def test_a_name_taken_over_is_given_in_lower_case() -> None:
    held = record("Api.mesh", "240.0.0.1", service="svc")
    assert taken_over([held], table(record("b.mesh", "240.0.0.1", service="x"))) == {"api.mesh"}
