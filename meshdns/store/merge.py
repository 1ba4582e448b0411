"""The merged view: of the sources that know a name, the first in the configured order wins."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from meshdns.inventory.record import NameRecord
from meshdns.store.record_codec import decode_record
from meshdns.store.schema import ReadTransaction, SourceState, Store, entries_of, source_prefix


class Winner(NamedTuple):
    """The record that is served for a name, and the number of the source that gave it."""

    source: int
    record: NameRecord


def records_of(store: Store, txn: ReadTransaction, name: str, sources: Sequence[SourceState]) -> Iterator[Winner]:
    """Give what each of *sources* says about *name* (lower case), in their order."""
    key = name.encode()
    database = store.databases["records"]
    for source in sources:
        value = txn.get(source_prefix(source.number) + key, db=database)
        if value is not None:
            yield Winner(source.number, decode_record(value, source.name))


def winner_of(store: Store, txn: ReadTransaction, name: str, sources: Sequence[SourceState]) -> Winner | None:
    """Give the record that is served for *name* (lower case), None when no source has it."""
    return next(records_of(store, txn, name, sources), None)


def all_winners(
    store: Store,
    txn: ReadTransaction,
    sources: Sequence[SourceState],
    at_hand: Mapping[int, Mapping[str, NameRecord]],
) -> dict[str, Winner]:
    """Give the record that is served for every name.

    at_hand: records of a source (by its number) that need no decoding, because they were just written.
    """
    winners: dict[str, Winner] = {}
    for source in sources:
        ready = at_hand.get(source.number, {})
        for key, value in entries_of(txn, store.databases["records"], source_prefix(source.number)):
            name = key[2:].decode()
            if name not in winners:
                winners[name] = Winner(source.number, ready.get(name) or decode_record(value, source.name))
    return winners
