"""Readers: the responders' read transactions, and a snapshot for everything that people and programs ask.

Every process opens the store itself, after it was forked. A transaction sees one whole push, and must not live
longer than one batch of work: the file grows while it does.
"""

import difflib
import heapq
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Protocol

import lmdb

from meshdns.errors import StoreError
from meshdns.inventory.body import unpacked
from meshdns.inventory.record import IPAddress, NameRecord
from meshdns.store.delivered import read_delivered
from meshdns.store.journal import JournalRow, find_removal, read_rows
from meshdns.store.lines import UNPOINTED, lines_at
from meshdns.store.merge import records_of, winner_of
from meshdns.store.record_codec import decode_record
from meshdns.store.schema import (
    ReadTransaction,
    SourceState,
    Store,
    entries_of,
    open_store,
    source_prefix,
)
from meshdns.wire.rrset import PTR
from meshdns.zone.entries import reverse_owner, rrset_key

COMPARED = 200_000
"""How many names ``closest`` looks at."""

JUDGED = 200
"""How many of them it compares letter by letter, 0.1 ms each."""


class Transaction(Protocol):
    """What a responder needs of a read transaction; its keys are those of ``zone``."""

    def id(self) -> int:
        """Give the transaction's number: the same number, the same answers."""

    def get(self, key: bytes, /) -> bytes | None:
        """Give the value under *key*."""

    def abort(self) -> None:
        """End it."""


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A name as it is served. shadowed: what later sources say. held: whether only the guard keeps it."""

    record: NameRecord
    shadowed: tuple[NameRecord, ...] = ()
    held: bool = False


class Reader:
    """Opens the store in the directory *path* for reading.

    Raises StoreError when there is none, it cannot be read, or is of a newer format.
    """

    def __init__(self, path: Path) -> None:
        self._store = open_store(path, readonly=True)
        self._zone = self._store.databases["zone"]
        with self._store.env.begin() as txn:
            self._base = self._store.state(txn).base

    def begin(self) -> Transaction:
        """Begin a read transaction, to be aborted before anything is awaited. Raises StoreError."""
        try:
            return self._store.env.begin(self._zone)
        except lmdb.Error as error:
            raise StoreError(f"{self._store.path}: {error}") from error

    def generation(self, txn: Transaction) -> int:
        """Give the generation that *txn* sees."""
        return self._base + txn.id()

    @contextmanager
    def snapshot(self) -> Iterator["Snapshot"]:
        """Give everything as one push left it, for as long as the block lasts. Raises StoreError."""
        try:
            with self._store.env.begin() as txn:
                yield Snapshot(self._store, txn)
        except lmdb.Error as error:
            raise StoreError(f"{self._store.path}: {error}") from error

    def close(self) -> None:
        """Close the store; no transaction may be open."""
        self._store.env.close()


class Snapshot:
    """The store as one push left it."""

    def __init__(self, store: Store, txn: ReadTransaction) -> None:
        self._store = store
        self._txn = txn
        self._state = store.state(txn)
        self._order: Sequence[SourceState] = self._state.sources

    @property
    def generation(self) -> int:
        """The generation of the last commit."""
        return self._state.generation

    def names_count(self) -> int:
        """Give how many names are served."""
        return self._state.names

    def sources(self) -> tuple[str, ...]:
        """Give the sources, first wins."""
        return tuple(each.name for each in self._order)

    def delivered(self) -> frozenset[str]:
        """Give the sources that have delivered at least once."""
        return read_delivered(self._store, self._txn)

    def get(self, key: bytes) -> bytes | None:
        """Give an entry of the ``zone`` database, for ``zone.lookup``."""
        return self._txn.get(key, db=self._store.databases["zone"])

    def records(self) -> Iterator[StoredRecord]:
        """Give every name that is served, sorted."""
        rows = heapq.merge(*(self._ranked(rank, source) for rank, source in enumerate(self._order)))
        for name, group in groupby(rows, itemgetter(0)):
            found = [decode_record(value, self._order[rank].name) for _, rank, value in group]
            yield StoredRecord(found[0], tuple(found[1:]), self._is_held(name, found[0]))

    def record(self, name: str) -> StoredRecord | None:
        """Give what is served for exactly *name* (any case, with or without final dot), None if it is not."""
        key = name.lower().removesuffix(".")
        found = [winner.record for winner in records_of(self._store, self._txn, key, self._order)] if key else []
        return StoredRecord(found[0], tuple(found[1:]), self._is_held(key, found[0])) if found else None

    def names_of(self, address: IPAddress) -> tuple[str, ...]:
        """Give the names that resolve to *address*, sorted, lower case."""
        names = self._names_at(address)
        if address.version == 6 and address.ipv4_mapped is not None:  # see ``addressed``
            for name in self._names_at(address.ipv4_mapped):
                winner = winner_of(self._store, self._txn, name, self._order)
                if winner is not None and address in winner.record.addresses:
                    names.add(name)
        return tuple(sorted(names))

    def _names_at(self, address: IPAddress) -> set[str]:
        listed = self._txn.get(address.packed, db=self._store.databases["addresses"])
        pointers = self.get(rrset_key(reverse_owner(address), PTR))
        return {line.removeprefix(UNPOINTED) for line in lines_at(listed, pointers)}

    def listeners(self) -> dict[tuple[IPAddress, int], str]:
        """Give address and port → service of every listener, sorted; the first source wins."""
        merged: dict[bytes, str] = {}
        for source in self._order:
            for key, value in entries_of(self._txn, self._store.databases["listeners"], source_prefix(source.number)):
                merged.setdefault(key[2:], value.decode(errors="surrogatepass"))
        keys = sorted(merged, key=lambda key: (len(key), key))
        return {(unpacked(key[:-2]), int.from_bytes(key[-2:], "big")): merged[key] for key in keys}

    def held(self) -> dict[str, tuple[str, ...]]:
        """Give the names that the guard keeps, by source; only sources that have some."""
        held = {
            source.name: tuple(
                key[2:].decode()
                for key, _ in entries_of(self._txn, self._store.databases["held"], source_prefix(source.number))
            )
            for source in self._order
        }
        return {source: names for source, names in held.items() if names}

    def journal(self, limit: int | None = None) -> Iterator[JournalRow]:
        """Give the newest *limit* pushes, newest first; all that are kept without."""
        return read_rows(self._store, self._txn, limit)

    def last_removal(self, name: str) -> JournalRow | None:
        """Give the newest push that removed *name*, None when none that is kept did."""
        return find_removal(self._store, self._txn, name.lower().removesuffix("."))

    def closest(self, name: str, limit: int = 5) -> list[str]:
        """Give at most *limit* served names that look most like *name*, best first.

        Bounded: the pairs of letters in common choose ``JUDGED`` of at most ``COMPARED`` names to compare closely.
        """
        wanted = name.lower().removesuffix(".")
        pairs = {wanted[at : at + 2] for at in range(len(wanted) - 1)}
        likely = heapq.nlargest(
            JUDGED, ((sum([pair in known for pair in pairs]), known) for known in islice(self._names(), COMPARED))
        )
        return difflib.get_close_matches(wanted, [known for _, known in likely], limit)

    def _names(self) -> Iterator[str]:
        for source in self._order:
            for key, _ in entries_of(self._txn, self._store.databases["records"], source_prefix(source.number)):
                yield key[2:].decode()

    def _ranked(self, rank: int, source: SourceState) -> Iterator[tuple[str, int, bytes]]:
        for key, value in entries_of(self._txn, self._store.databases["records"], source_prefix(source.number)):
            yield key[2:].decode(), rank, value

    def _is_held(self, name: str, record: NameRecord) -> bool:
        number = next(each.number for each in self._order if each.name == record.origin.source)
        return self._txn.get(source_prefix(number) + name.encode(), db=self._store.databases["held"]) is not None
