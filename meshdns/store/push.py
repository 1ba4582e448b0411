"""A push: what is to be written of it, what became of it, and how its records, listeners and holds are put."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple

from meshdns.inventory.record import NameRecord
from meshdns.store.batch import Batch
from meshdns.store.difference import Difference
from meshdns.store.record_codec import encode_all
from meshdns.store.schema import Columns, ReadTransaction, Store, batched, entries_of

_SECONDS = Struct(">d")


@dataclass(frozen=True, slots=True)
class Push:
    """What became of a push.

    generation: of the commit, or the current one when there was none. added, removed, changed: names of the source's
    table. held: names that the guard keeps now. released: names whose hold this push (or the end of its time) ended.
    conflicts: a line for each name touched by this push for which another source gives other addresses.
    changed_anything: whether a record or a listener changed.
    """

    generation: int
    source: str
    version: str = ""
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    released: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    changed_anything: bool = False


class Pushed(NamedTuple):
    """A table that is to be written: its records, the same as bodies, and what of it is new."""

    records: Mapping[str, NameRecord]
    bodies: Mapping[str, bytes]
    difference: Difference

    def columns(self, prefix: bytes, names: Sequence[str]) -> Iterator[Columns]:
        """Give what is stored for *names*, some thousands at a time."""
        for some in batched(names):
            yield Columns([prefix + name.encode() for name in some], encode_all(some, self.records, self.bodies))


def put_records(batch: Batch, prefix: bytes, push: Push, pushed: Pushed | None, *, anew: bool) -> None:
    """Write what *push* changes in the records and listeners of the source with this *prefix*."""
    if anew and pushed is not None and not push.held and batch.count("records") == pushed.difference.listed:
        batch.clear("records")  # no other source has any: in order and without a look at what was there
        for columns in pushed.columns(prefix, sorted(pushed.bodies)):
            batch.put_new("records", columns, append=True)
    else:
        for name in push.removed:
            batch.delete("records", prefix + name.encode())
        for columns in pushed.columns(prefix, push.changed) if pushed else ():
            batch.put_known("records", columns)
        for columns in pushed.columns(prefix, push.added) if pushed else ():
            batch.put_new("records", columns)
    for key in pushed.difference.gone if pushed else ():
        batch.delete("listeners", key)
    for key, value in pushed.difference.listeners if pushed else ():
        batch.put("listeners", key, value)


def put_held(batch: Batch, prefix: bytes, until: Mapping[str, float]) -> None:
    """Write which names of the source with this *prefix* are held. until: its connected seconds at which each ends."""
    kept = dict(entries_of(batch.txn, batch.store.databases["held"], prefix))
    wanted = {prefix + name.encode(): _SECONDS.pack(end) for name, end in until.items()}
    for key in kept.keys() - wanted.keys():
        batch.delete("held", key)
    for key, value in wanted.items():
        if kept.get(key) != value:
            batch.put("held", key, value)


def read_held(store: Store, txn: ReadTransaction, prefix: bytes) -> dict[str, float]:
    """Give what ``put_held`` has written."""
    held = entries_of(txn, store.databases["held"], prefix)
    return {key[2:].decode(): _SECONDS.unpack(value)[0] for key, value in held}
