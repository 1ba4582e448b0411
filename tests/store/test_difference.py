"""A table is compared with what is kept in two ways, which say the same."""

from pathlib import Path

import pytest

from meshdns.inventory.body import bodies_of, compared
from meshdns.inventory.record import NameRecord
from meshdns.store.difference import compare
from meshdns.store.writer import Writer
from tests.store.tables import RULES, address, table

OLD = {"a": "240.0.0.1", "b": "240.0.0.2", "c": "240.0.0.3"}


def records(vips: dict[str, str]) -> list[NameRecord]:
    """Give a record for each name."""
    return [NameRecord(f"{name}.mesh", (address(vip),)) for name, vip in vips.items()]


@pytest.mark.parametrize(
    ("new", "added", "changed", "missing"),
    [
        (OLD, "", "", ""),
        (dict(reversed(OLD.items())), "", "", ""),
        (OLD | {"b": "240.0.0.9"}, "", "b", ""),
        (dict(reversed(OLD.items())) | {"c": "240.0.0.9", "a": "240.0.0.8"}, "", "ac", ""),
        (OLD | {"e": "240.0.0.5", "d": "240.0.0.4"}, "de", "", ""),
        ({"a": "240.0.0.1"}, "", "", "bc"),
        ({}, "", "", "abc"),
        ({"d": "240.0.0.1", "b": "240.0.0.9", "a": "240.0.0.1"}, "d", "b", "c"),
    ],
)
def test_what_is_read_and_what_is_at_hand_differ_alike(
    tmp_path: Path, new: dict[str, str], added: str, changed: str, missing: str
) -> None:
    old_table, new_table = table(*records(OLD)), table(*records(new))
    old, bodies = bodies_of(old_table.records), bodies_of(new_table.records)
    writer = Writer(tmp_path / "store", rules=RULES, sources=["kuma"])
    writer.apply("kuma", old_table)
    store = writer._store
    with store.env.begin() as txn:
        read = compare(store, txn, 1, bodies, {})
        held = compare(store, txn, 1, bodies, {}, kept=old)
    assert read == held
    assert [[name[0] for name in names] for names in (read.added, read.changed, read.missing)] == [
        list(added), list(changed), list(missing),
    ]  # fmt: skip
    assert read.listed == len(OLD)
    assert list(compared(old, bodies)) == [(name, old.get(name), body) for name, body in bodies.items()]
    writer.close()
