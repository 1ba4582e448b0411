"""The merged view: of the sources that know a name, the first in the configured order wins."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from meshdns.inventory.body import decode_body
from meshdns.inventory.record import NameRecord, Origin
from meshdns.store.anew import Served
from meshdns.store.record_codec import body, decode_record
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


def all_served(
    store: Store,
    txn: ReadTransaction,
    sources: Sequence[SourceState],
    at_hand: Mapping[int, Mapping[str, bytes]],
) -> list[Served]:
    """Give every name that is served, by the source that gives it.

    at_hand: the bodies of a source (by its number) that need no reading, all of them.
    """
    served: list[Served] = []
    for source in sources:
        bodies = at_hand.get(source.number)
        if bodies is None:
            stored = entries_of(txn, store.databases["records"], source_prefix(source.number))
            bodies = {key[2:].decode(): body(value) for key, value in stored}
        taken = [each.bodies for each in served if each.bodies]
        if taken and bodies:
            bodies = {name: body for name, body in bodies.items() if not any(name in each for each in taken)}
        served.append(Served(bodies, source.lenient))
    return served


def find_conflicts(
    store: Store,
    txn: ReadTransaction,
    sources: Sequence[SourceState],
    pushing: SourceState,
    touched: Mapping[str, bytes],
) -> tuple[str, ...]:
    """Give a line for each *touched* name of the *pushing* source for which another has other addresses.

    touched: the body of each. Only addresses count: sources that know more or less about a service (its ports, say)
    do not contradict each other.
    """
    at = sources.index(pushing)
    lines = []
    for name, octets in touched.items() if len(sources) > 1 else ():
        for before, others in ((True, sources[:at]), (False, sources[at + 1 :])):
            for _, other in records_of(store, txn, name, others):
                record = decode_body(octets, Origin(pushing.name))
                if set(record.addresses) != set(other.addresses):
                    mine, theirs = _told(record, pushing.name), _told(other, other.origin.source)
                    first, second = (theirs, mine) if before else (mine, theirs)
                    lines.append(f"{name}: {first}, {second}; the first is served")
    return tuple(lines)


def _told(record: NameRecord, source: str) -> str:
    return f"{source} says {', '.join(map(str, record.addresses)) or 'no address'}"
