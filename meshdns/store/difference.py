"""How a pushed table differs from the one that is kept: octets against octets, no second table in memory."""

from dataclasses import dataclass

from meshdns.inventory.record import Table
from meshdns.store.record_codec import encode_body
from meshdns.store.schema import Entry, ReadTransaction, Store, entries_of, source_prefix


@dataclass(frozen=True, slots=True)
class Difference:
    """What a push of one source changes. Names are keys of the table (lower case).

    listed: how many names are kept, whatever becomes of them. listeners: entries to put. gone: keys to remove.
    """

    added: tuple[str, ...]
    changed: tuple[str, ...]
    missing: tuple[str, ...]
    listed: int
    listeners: tuple[Entry, ...]
    gone: tuple[bytes, ...]


def compare(store: Store, txn: ReadTransaction, number: int, table: Table) -> Difference:
    """Give how *table* differs from what is kept of the source with this *number*. Origins do not count."""
    records = table.records
    kept = set()
    changed = []
    missing = []
    for key, value in entries_of(txn, store.databases["records"], source_prefix(number)):
        name = key[2:].decode()
        record = records.get(name)
        if record is None:
            missing.append(name)
        else:
            kept.add(name)
            if not value.startswith(encode_body(record)):
                changed.append(name)
    added = sorted(records.keys() - kept) if len(kept) < len(records) else []
    new = {listener_key(number, address.packed, port): service for (address, port), service in table.listeners.items()}
    old = dict(entries_of(txn, store.databases["listeners"], source_prefix(number)))
    listeners = [
        (key, value)
        for key, service in new.items()
        if old.get(key) != (value := service.encode(errors="surrogatepass"))
    ]
    return Difference(
        tuple(added),
        tuple(changed),
        tuple(missing),
        len(kept) + len(missing),
        tuple(sorted(listeners)),
        tuple(sorted(old.keys() - new.keys())),
    )


def listener_key(number: int, address: bytes, port: int) -> bytes:
    """Give the key of a source's listener; *address* of 4 or 16 octets."""
    return source_prefix(number) + address + port.to_bytes(2, "big")
