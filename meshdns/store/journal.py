"""The journal: which push added, removed and changed which names. One row a push, in the push's own commit.

A row is compressed JSON: a first push of 100,000 names would otherwise be 4 MB.
"""

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from meshdns.store.batch import Batch
from meshdns.store.schema import ReadTransaction, Store

MAX_ROWS = 1_000
MAX_OCTETS = 64 << 20
"""What is kept: the newest rows, as many as stay within both."""

HOLD_OVER = "(hold over)"
"""The version of a row whose names went because their hold ended, not because of a push."""

NO_LONGER_CONFIGURED = "(source no longer configured)"
"""The version of a row whose names went with their source."""


@dataclass(frozen=True, slots=True)
class JournalRow:
    """One push. time: Unix seconds. added, removed, changed: names of the source's table, lower case, sorted."""

    generation: int
    time: float
    source: str
    version: str = ""
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


def encode_row(row: JournalRow) -> bytes:
    """Give *row* as it is stored; its generation is the key."""
    fields = [row.time, row.source, row.version, row.added, row.removed, row.changed]
    return zlib.compress(json.dumps(fields, separators=(",", ":")).encode(), 1)


def decode_row(key: bytes, value: bytes) -> JournalRow:
    """Give the row stored under *key*."""
    time, source, version, added, removed, changed = json.loads(zlib.decompress(value))
    generation = int.from_bytes(key[:8], "big")
    return JournalRow(generation, time, source, version, tuple(added), tuple(removed), tuple(changed))


def append_row(batch: Batch, row: JournalRow, octets: int) -> int:
    """Write *row* and drop what is too old. Take and give the octets of all rows."""
    value = encode_row(row)
    generation = row.generation.to_bytes(8, "big")
    at = 0
    while batch.get("journal", key := generation + at.to_bytes(2, "big")) is not None:
        at += 1  # one commit removes all sources that are no longer configured, with a row for each
    batch.put("journal", key, value)
    octets += len(value)
    count = batch.count("journal")
    while count > 1 and (count > MAX_ROWS or octets > MAX_OCTETS):
        octets -= len(batch.delete_first("journal"))
        count -= 1
    return octets


def read_rows(store: Store, txn: ReadTransaction, limit: int | None = None) -> Iterator[JournalRow]:
    """Give the newest *limit* rows, newest first; all of them without."""
    for at, (key, value) in enumerate(txn.cursor(db=store.databases["journal"]).iterprev()):
        if limit is not None and at >= limit:
            return
        yield decode_row(key, value)


def find_removal(store: Store, txn: ReadTransaction, name: str) -> JournalRow | None:
    """Give the newest row that removed *name*, None when no row kept here did."""
    wanted = json.dumps(name).encode()
    for key, value in txn.cursor(db=store.databases["journal"]).iterprev():
        if wanted in zlib.decompress(value):
            row = decode_row(key, value)
            if name in row.removed:
                return row
    return None
