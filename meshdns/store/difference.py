"""How a pushed table differs from the one that is kept: octets against octets, no second table in memory."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from meshdns.inventory.record import Listeners
from meshdns.store.schema import Entry, ReadTransaction, Store, entries_of, hash_entries, source_prefix

CHUNK = 10_000
"""Entries summed at a time."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What a push of one source changes. Names are keys of the table (lower case), sorted.

    replaced: sum of the hashes of what is kept under the *changed* names. listed: how many names are kept, whatever
    becomes of them. listeners: entries to put. gone: keys to remove.
    """

    added: tuple[str, ...]
    changed: tuple[str, ...]
    missing: tuple[str, ...]
    replaced: int
    listed: int
    listeners: tuple[Entry, ...]
    gone: tuple[bytes, ...]


def compare(
    store: Store, txn: ReadTransaction, number: int, bodies: Mapping[str, bytes], listeners: Listeners
) -> Difference:
    """Give how a table of *bodies* and *listeners* differs from what is kept of the source with this *number*.

    Origins do not count.
    """
    changed: list[str] = []
    missing: list[str] = []
    replaced: list[Entry] = []
    listed = total = 0
    known = bodies.get
    for key, value in entries_of(txn, store.databases["records"], source_prefix(number)):
        listed += 1
        name = key[2:].decode()
        body = known(name)
        if body is None:
            missing.append(name)
        elif not value.startswith(body):
            changed.append(name)
            replaced.append((key, value))
            if len(replaced) == CHUNK:
                total += hash_entries(replaced)
                replaced.clear()
    total += hash_entries(replaced)
    added: Iterable[str] = ()
    if listed - len(missing) < len(bodies):
        kept = entries_of(txn, store.databases["records"], source_prefix(number)) if listed else ()
        added = bodies.keys() - {key[2:].decode() for key, _ in kept}
    new = {listener_key(number, address.packed, port): service for (address, port), service in listeners.items()}
    old = dict(entries_of(txn, store.databases["listeners"], source_prefix(number)))
    put = [
        (key, value)
        for key, service in new.items()
        if old.get(key) != (value := service.encode(errors="surrogatepass"))
    ]
    return Difference(
        tuple(sorted(added)),
        tuple(changed),
        tuple(missing),
        total,
        listed,
        tuple(sorted(put)),
        tuple(sorted(old.keys() - new.keys())),
    )


def listener_key(number: int, address: bytes, port: int) -> bytes:
    """Give the key of a source's listener; *address* of 4 or 16 octets."""
    return source_prefix(number) + address + port.to_bytes(2, "big")
