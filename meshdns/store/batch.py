"""One write transaction, and what it does to the digest. Nothing else in this room writes."""

import lmdb

from meshdns.errors import StoreError
from meshdns.store.schema import (
    DATABASES,
    DIGEST_KEY,
    STATE_KEY,
    Columns,
    State,
    Store,
    decode_digest,
    encode_digest,
    hash_columns,
    hash_entries,
    hash_entry,
)

_PLACE = {name: place for place, name in enumerate(DATABASES)}


class Batch:
    """Writes to the databases of *store* within *txn*, keeping one sum of hashes for each."""

    def __init__(self, store: Store, txn: "lmdb.Transaction[bytes]") -> None:
        self.store = store
        self.txn = txn
        self._handles = store.databases
        self._sums = decode_digest(txn.get(DIGEST_KEY, db=self._handles["meta"]))

    def get(self, database: str, key: bytes) -> bytes | None:
        """Give the value under *key*."""
        return self.txn.get(key, db=self._handles[database])

    def count(self, database: str) -> int:
        """Give the number of entries."""
        return self.txn.stat(self._handles[database])["entries"]

    def put(self, database: str, key: bytes, value: bytes) -> None:
        """Write an entry, new or not."""
        old = self.txn.replace(key, value, db=self._handles[database])
        place = _PLACE[database]
        self._sums[place] += hash_entry(key, value)
        if old is not None:
            self._sums[place] -= hash_entry(key, old)

    def put_new(self, database: str, columns: Columns, *, append: bool = False) -> None:
        """Write entries, sorted by key, of which none is there yet. append: they come behind all that are."""
        cursor = self.txn.cursor(db=self._handles[database])
        consumed, added = cursor.putmulti(zip(*columns, strict=True), overwrite=False, append=append)
        if added != consumed:
            raise StoreError(
                f"{self.store.path}: {consumed - added} entries of {database} stood there already or are out of order; "
                "the store contradicts itself, restart to have it checked"
            )
        self._sums[_PLACE[database]] += hash_columns(columns)

    def put_known(self, database: str, columns: Columns) -> None:
        """Write entries, sorted by key, which are all there."""
        cursor = self.txn.cursor(db=self._handles[database])
        replaced = hash_entries(cursor.getmulti(columns.keys))
        cursor.putmulti(zip(*columns, strict=True))
        self._sums[_PLACE[database]] += hash_columns(columns) - replaced

    def delete(self, database: str, key: bytes) -> bytes | None:
        """Remove the entry under *key* and give its value, None when there is none."""
        old = self.txn.pop(key, db=self._handles[database])
        if old is not None:
            self._sums[_PLACE[database]] -= hash_entry(key, old)
        return old

    def delete_first(self, database: str) -> bytes:
        """Remove the entry with the lowest key and give its value; the database is not empty."""
        cursor = self.txn.cursor(db=self._handles[database])
        cursor.first()
        return self.delete(database, cursor.key()) or b""

    def clear(self, database: str) -> None:
        """Remove every entry."""
        self.txn.drop(self._handles[database], delete=False)
        self._sums[_PLACE[database]] = 0

    def finish(self, state: State) -> None:
        """Write *state* and the digest; the last thing before the commit."""
        self.put("meta", STATE_KEY, state.encode())
        self.txn.put(DIGEST_KEY, encode_digest(self._sums), db=self._handles["meta"])
