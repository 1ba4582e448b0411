"""How a pushed table differs from the one that is kept: octets against octets.

What is kept is read from the store, with no second table in memory, unless its source still holds the last one there.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from meshdns.inventory.body import compared
from meshdns.inventory.record import Listeners
from meshdns.store.schema import Entry, ReadTransaction, Store, entries_of, source_prefix


@dataclass(frozen=True, slots=True)
class Difference:
    """What a push of one source changes. Names are keys of the table (lower case), sorted.

    listed: how many names are kept, whatever becomes of them. listeners: entries to put. gone: keys to remove.
    """

    added: tuple[str, ...]
    changed: tuple[str, ...]
    missing: tuple[str, ...]
    listed: int
    listeners: tuple[Entry, ...]
    gone: tuple[bytes, ...]


def compare(
    store: Store,
    txn: ReadTransaction,
    number: int,
    bodies: Mapping[str, bytes],
    listeners: Listeners,
    *,
    kept: Mapping[str, bytes] | None = None,
) -> Difference:
    """Give how a table of *bodies* and *listeners* differs from what is kept of the source with this *number*.

    kept: all the bodies that are kept of it, when they are at hand. Origins do not count.
    """
    names = _compare_read(store, txn, number, bodies) if kept is None else _compare_held(kept, bodies)
    new = {listener_key(number, address.packed, port): service for (address, port), service in listeners.items()}
    old = dict(entries_of(txn, store.databases["listeners"], source_prefix(number)))
    put = [
        (key, value)
        for key, service in new.items()
        if old.get(key) != (value := service.encode(errors="surrogatepass"))
    ]
    return Difference(*names, tuple(sorted(put)), tuple(sorted(old.keys() - new.keys())))


_Names = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], int]
"""Of a Difference: added, changed, missing, listed."""


def _compare_read(store: Store, txn: ReadTransaction, number: int, bodies: Mapping[str, bytes]) -> _Names:
    changed: list[str] = []
    missing: list[str] = []
    listed = 0
    known = bodies.get
    for key, value in entries_of(txn, store.databases["records"], source_prefix(number)):
        listed += 1
        name = key[2:].decode()
        body = known(name)
        if body is None:
            missing.append(name)
        elif not value.startswith(body):
            changed.append(name)
    added: Iterable[str] = ()
    if listed - len(missing) < len(bodies):
        kept = entries_of(txn, store.databases["records"], source_prefix(number)) if listed else ()
        added = bodies.keys() - {key[2:].decode() for key, _ in kept}
    return tuple(sorted(added)), tuple(changed), tuple(missing), listed


def _compare_held(kept: Mapping[str, bytes], bodies: Mapping[str, bytes]) -> _Names:
    """Compare in memory: a seventh of the time."""
    different = [(name, old is None) for name, old, body in compared(kept, bodies) if old != body]
    added = sorted(name for name, new in different if new)
    changed = sorted(name for name, new in different if not new)
    missing = sorted(kept.keys() - bodies.keys()) if len(kept) + len(added) > len(bodies) else []
    return tuple(added), tuple(changed), tuple(missing), len(kept)


def listener_key(number: int, address: bytes, port: int) -> bytes:
    """Give the key of a source's listener; *address* of 4 or 16 octets."""
    return source_prefix(number) + address + port.to_bytes(2, "big")
