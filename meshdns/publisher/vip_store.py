"""Where VIPs are kept: behind ``VipStore``, in an SQLite file in ``data_dir``.

One change is one exclusive transaction, so that two processes never give one address twice. The file is the only
copy of which name has which address; a damaged one is set aside, never written over.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Protocol

from meshdns.errors import StoreError
from meshdns.publisher.vips import Allocation, EntryKey, Kind, Lease, Leases

log = logging.getLogger(__name__)

FORMAT = 1
"""``PRAGMA user_version`` of what this program writes."""

BUSY_TIMEOUT = 5.0
"""Seconds to wait for another process's change."""

_SCHEMA = """
CREATE TABLE lease (
    space TEXT NOT NULL, kind INTEGER NOT NULL, name TEXT NOT NULL, address TEXT NOT NULL, freed REAL,
    PRIMARY KEY (space, kind, name), UNIQUE (space, address)
) WITHOUT ROWID
"""
_DAMAGED = ("file is not a database", "malformed", "unsupported file format")


class VipStore(Protocol):
    """Keeps leases, by space (a mesh and its way of listening: addresses of one are of no use in another)."""

    def update(self, space: str, change: Callable[[Leases], Allocation]) -> Allocation:
        """Hand the leases of *space* to *change* and keep what it gives, in one exclusive transaction.

        Blocking; called from any thread. Raises StoreError, and then nothing was changed.
        """

    def close(self) -> None:
        """Let go of what is open."""


class SqliteVipStore:
    """Leases in an SQLite file (WAL). Opened at the first change; one that is damaged is set aside."""

    def __init__(self, path: Path, *, wall: Callable[[], float] = time.time) -> None:
        self._path = path
        self._wall = wall
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def update(self, space: str, change: Callable[[Leases], Allocation]) -> Allocation:
        """See VipStore."""
        with self._lock:
            try:
                return self._update(space, change)
            except sqlite3.DatabaseError as error:
                self._disconnect()
                if not _is_damage(error):
                    raise self._fault(error) from error
                self._set_aside(error)
            try:
                return self._update(space, change)
            except sqlite3.DatabaseError as error:
                self._disconnect()
                raise self._fault(error) from error

    def close(self) -> None:
        """See VipStore."""
        with self._lock:
            self._disconnect()

    def _update(self, space: str, change: Callable[[Leases], Allocation]) -> Allocation:
        connection = self._open()
        with _transaction(connection):
            before = dict(_read(connection, space))
            allocation = change(before)
            _write(connection, space, before, allocation.leases)
        return allocation

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None:
            return self._connection
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._path.exists():
                self._path.touch(mode=0o600)
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror or error}") from error
        connection = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            (sound,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if sound != "ok":
                raise sqlite3.DatabaseError(f"malformed: {sound}")
            with _transaction(connection):
                self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        (found,) = connection.execute("PRAGMA user_version").fetchone()
        if found > FORMAT:
            raise StoreError(
                f"{self._path}: it has format {found}, this meshdns knows format {FORMAT} only; "
                "run the newer meshdns that wrote it, or move the file away"
            )
        if found == 0:
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA user_version={FORMAT}")

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._wall()))
        aside = self._path.with_name(f"{self._path.name}.damaged-{stamp}")
        try:
            self._path.rename(aside)
            for suffix in ("-wal", "-shm"):
                side = self._path.with_name(self._path.name + suffix)
                if side.exists():
                    side.rename(aside.with_name(aside.name + suffix))
        except OSError as fault:
            raise StoreError(f"{self._path}: damaged ({error}), and cannot be set aside: {fault}") from fault
        log.error("%s is damaged (%s); it was set aside as %s, VIPs are given out anew", self._path, error, aside)

    def _fault(self, error: sqlite3.Error) -> StoreError:
        return StoreError(f"{self._path}: {error}; VIPs stay as they were")


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    return not isinstance(error, sqlite3.IntegrityError) and any(words in str(error) for words in _DAMAGED)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _read(connection: sqlite3.Connection, space: str) -> Iterator[tuple[EntryKey, Lease]]:
    rows = connection.execute("SELECT kind, name, address, freed FROM lease WHERE space = ?", (space,))
    for kind, name, address, freed in rows:
        try:
            yield EntryKey(Kind(kind), name), Lease(ip_address(address), freed)
        except ValueError as error:
            raise sqlite3.DatabaseError(f"malformed lease of {name!r}: {error}") from error


def _write(connection: sqlite3.Connection, space: str, before: Leases, after: Leases) -> None:
    """Write what differs; what goes goes first, for an address may come to another entry in the same change."""
    differing = [key for key, lease in after.items() if before.get(key) != lease]
    gone = [key for key in before if key not in after]
    connection.executemany(
        "DELETE FROM lease WHERE space = ? AND kind = ? AND name = ?",
        [(space, int(key.kind), key.name) for key in (*gone, *differing) if key in before],
    )
    connection.executemany(
        "INSERT INTO lease (space, kind, name, address, freed) VALUES (?, ?, ?, ?, ?)",
        [(space, int(key.kind), key.name, str(after[key].address), after[key].freed) for key in differing],
    )
