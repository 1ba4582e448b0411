"""What a store holds, read through the environment that is already open (LMDB allows one in a process)."""

from collections.abc import Iterator
from contextlib import contextmanager

from meshdns.store.reader import Snapshot
from meshdns.store.schema import DATABASES, DIGEST_KEY, decode_digest, hash_entries
from meshdns.store.writer import Writer


def database(writer: Writer, name: str) -> dict[bytes, bytes]:
    store = writer._store
    with store.env.begin() as txn:
        return dict(txn.cursor(db=store.databases[name]).iternext())


@contextmanager
def snapshot(writer: Writer) -> Iterator[Snapshot]:
    with writer._store.env.begin() as txn:
        yield Snapshot(writer._store, txn)


def assert_digest(writer: Writer) -> None:
    """The digest that was kept is the digest of what is there."""
    kept = decode_digest(database(writer, "meta")[DIGEST_KEY])
    real = [
        hash_entries((key, value) for key, value in database(writer, name).items() if key != DIGEST_KEY)
        for name in DATABASES
    ]
    assert dict(zip(DATABASES, kept, strict=True)) == dict(zip(DATABASES, real, strict=True))
