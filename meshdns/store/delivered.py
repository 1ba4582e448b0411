"""Which sources have delivered at least once: an entry of ``zone``, for a lookup must know before it denies a name."""

from collections.abc import Collection

from meshdns.store.batch import Batch
from meshdns.store.schema import ReadTransaction, Store
from meshdns.zone.entries import DELIVERED_KEY


def read_delivered(store: Store, txn: ReadTransaction) -> frozenset[str]:
    """Give the sources that have delivered."""
    value = txn.get(DELIVERED_KEY, db=store.databases["zone"])
    return frozenset(value.decode().split("\n")) if value else frozenset()


def put_delivered(batch: Batch, sources: Collection[str]) -> None:
    """Let exactly *sources* have delivered."""
    if sources:
        batch.put("zone", DELIVERED_KEY, "\n".join(sorted(sources)).encode())
    else:
        batch.delete("zone", DELIVERED_KEY)


def add_delivered(batch: Batch, source: str) -> None:
    """Let *source* have delivered, too."""
    delivered = read_delivered(batch.store, batch.txn)
    if source not in delivered:
        put_delivered(batch, delivered | {source})
