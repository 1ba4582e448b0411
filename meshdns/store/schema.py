"""How the store is laid out: one LMDB environment, its databases, its keys, and the sums that prove it whole.

======== =============================================== =====================================================
database key                                             value
======== =============================================== =====================================================
zone     as ``zone.entries`` says                        what lookups read: RRsets, marks, delivered sources
records  source (2 octets) + name in lower case          one source's record, see ``record_codec``
listeners source + address + port (2 octets)             service, UTF-8
held     source + name                                   connected seconds of the source at which the hold ends
addresses address (4 or 16 octets)                       names that resolve to it, see ``lines``
twins    dotted spelling of a name                       its spellings with underscores, a line each
journal  generation (8 octets) + number (2)              one push, see ``journal``
meta     ``format``, ``state``, ``digest``
======== =============================================== =====================================================

LMDB has no checksums, so every commit keeps, for each database, an order-free sum of a 64-bit hash of every entry
(all but the digest itself).
"""

import json
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from operator import mul
from pathlib import Path
from typing import NamedTuple, TypeAlias, TypeVar

import lmdb

from meshdns.errors import StoreError

FORMAT = 1
"""What this program writes; a store with a higher number is refused, for it may mean anything."""

MAP_SIZE = 4 << 30
"""Octets. Sparse on disk, and never grown: readers in other processes would fail until they are told."""

MAX_READERS = 512
"""Slots for read transactions of all processes; the first process that opens the store decides."""

DATABASES = ("zone", "records", "listeners", "held", "addresses", "twins", "journal", "meta")

FORMAT_KEY, STATE_KEY, DIGEST_KEY = b"format", b"state", b"digest"

DATA_FILE, LOCK_FILE = "data.mdb", "lock.mdb"

_DIGEST = struct.Struct(f">{len(DATABASES)}Q")
_MASK = (1 << 64) - 1
_SOURCE = struct.Struct(">H")
_CHUNK = 10_000

_T = TypeVar("_T")

Entry = tuple[bytes, bytes]


class Columns(NamedTuple):
    """Entries as two columns of one length: nothing is done with a hundred thousand of them one by one."""

    keys: Sequence[bytes]
    values: Sequence[bytes]


ReadTransaction: TypeAlias = "lmdb.Transaction[bytes]"


def store_path(data_dir: Path) -> Path:
    """Give the directory of the store within an instance's data directory."""
    return data_dir / "store"


class SourceState(NamedTuple):
    """A configured source as the store knows it: its number never changes, whatever its place in the order.

    heard: seconds for which it was connected, as of the last commit (the clock of its holds).
    """

    name: str
    number: int
    lenient: bool = False
    heard: float = 0.0


@dataclass(frozen=True, slots=True)
class State:
    """What must be kept in one piece with every commit.

    base: generation = base + LMDB transaction number. commit: the number of the transaction that wrote this.
    sources: in order of precedence. rules: digest of the compile rules. names: how many names are served.
    journal_octets: size of all journal rows.
    """

    base: int = 0
    commit: int = 0
    rules: str = ""
    sources: tuple[SourceState, ...] = ()
    next_number: int = 1
    names: int = 0
    journal_octets: int = 0

    @property
    def generation(self) -> int:
        """The generation of the commit that wrote this."""
        return self.base + self.commit

    def encode(self) -> bytes:
        """Give the value kept under ``state``."""
        return json.dumps(
            [self.base, self.commit, self.rules, self.sources, self.next_number, self.names, self.journal_octets]
        ).encode()

    @classmethod
    def decode(cls, value: bytes) -> "State":
        """Give what ``encode`` was given. Raises ValueError when it is anything else."""
        base, commit, rules, sources, next_number, names, journal_octets = json.loads(value)
        return cls(
            base, commit, rules, tuple(SourceState(*each) for each in sources), next_number, names, journal_octets
        )


def format_entry(number: int = FORMAT) -> bytes:
    """Give the value kept under ``format``: the number and its CRC-32, so that a damaged one is no newer one.

    Every later format keeps this entry as it is.
    """
    text = b"meshdns store %d" % number
    return text + b" %08x" % zlib.crc32(text)


def read_format(value: bytes | None) -> int | None:
    """Give the format number in *value*, None when it is not what ``format_entry`` gives."""
    if value is None:
        return None
    text, _, _ = value.rpartition(b" ")
    number = text.rpartition(b" ")[2]
    return int(number) if number.isdigit() and len(number) < 10 and value == format_entry(int(number)) else None


def hash_entry(key: bytes, value: bytes) -> int:
    """Give the hash of one entry: the product of the CRC-32 of key and value, each plus one.

    Damage to either factor changes it (a CRC sees every flip of up to three bits in an entry of ours; the other factor
    keeps changes to two entries from cancelling each other).
    """
    return (zlib.crc32(key) + 1) * (zlib.crc32(value) + 1)


def hash_columns(columns: Columns) -> int:
    """Give the order-free sum of the hashes of entries, modulo 2**64: 0.1 µs for each, one by one they take 0.3."""
    keys = list(map(zlib.crc32, columns.keys))
    values = list(map(zlib.crc32, columns.values))
    total: int = sum(map(mul, keys, values)) + sum(keys) + sum(values) + len(keys)
    return total & _MASK


def hash_entries(entries: Iterable[Entry]) -> int:
    """Give the same sum of *entries*."""
    return hash_columns(columns_of(entries))


def columns_of(entries: Iterable[Entry]) -> Columns:
    """Give *entries* as columns."""
    return Columns(*zip(*entries, strict=True)) if (entries := list(entries)) else Columns((), ())


def batched(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Give *items* some thousands at a time."""
    for at in range(0, len(items), _CHUNK):
        yield items[at : at + _CHUNK]


def encode_digest(sums: Iterable[int]) -> bytes:
    """Give the value kept under ``digest``: one sum for each database, in the order of ``DATABASES``."""
    return _DIGEST.pack(*(each & _MASK for each in sums))


def decode_digest(value: bytes | None) -> list[int]:
    """Give the sums in *value*; all zero when there is none. Raises ValueError when it is no digest."""
    if value is None:
        return [0] * len(DATABASES)
    if len(value) != _DIGEST.size:
        raise ValueError(f"a digest of {len(value)} octets")
    return list(_DIGEST.unpack(value))


def source_prefix(number: int) -> bytes:
    """Give what the keys of a source's entries begin with."""
    return _SOURCE.pack(number)


def entries_of(txn: ReadTransaction, database: "lmdb._Database", prefix: bytes) -> Iterator[Entry]:
    """Give every entry whose key begins with *prefix* (one source's), in order of keys."""
    cursor = txn.cursor(db=database)
    if cursor.set_range(prefix):
        length = len(prefix)
        for key, value in cursor.iternext():
            if key[:length] != prefix:
                return
            yield key, value


@dataclass(frozen=True, slots=True)
class Store:
    """An open environment with the handles of its databases. One per process: LMDB forbids a second."""

    path: Path
    env: lmdb.Environment
    databases: dict[str, "lmdb._Database"] = field(repr=False)

    def state(self, txn: ReadTransaction) -> State:
        """Give the state as *txn* sees it."""
        value = txn.get(STATE_KEY, db=self.databases["meta"])
        try:
            return State.decode(value or b"")
        except (ValueError, TypeError) as error:
            raise StoreError(f"{self.path}: the store's state cannot be read ({error}); is it damaged?") from error


def open_environment(
    path: Path,
    *,
    readonly: bool = False,
    map_size: int = MAP_SIZE,
    lock: bool = True,
) -> lmdb.Environment:
    """Open the LMDB environment in the directory *path*, files readable by their owner only.

    The engine is LMDB 0.9 whatever the process's environment or a damaged file says. Raises lmdb.Error.
    """
    return lmdb.open(
        str(path),
        map_size=map_size,
        max_dbs=2 * len(DATABASES),
        max_readers=MAX_READERS,
        max_spare_txns=1,
        mode=0o600,
        readonly=readonly,
        create=False,
        lock=lock,
        lib_version=0,
    )


def open_store(path: Path, *, readonly: bool = False, map_size: int = MAP_SIZE, base: int = 0) -> Store:
    """Open the store in *path*; unless *readonly*, create what is not there yet, with generations after *base*.

    Raises StoreError when it cannot be opened, is no store of ours, or is of a newer format.
    """
    with translated(path):
        if not readonly:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        elif not (path / DATA_FILE).exists():
            raise StoreError(f"{path}: there is no store here")
        env = open_environment(path, readonly=readonly, map_size=map_size)
    try:
        with translated(path):
            return Store(path, env, _open_databases(path, env, readonly=readonly, base=base))
    except BaseException:
        env.close()
        raise


def _open_databases(path: Path, env: lmdb.Environment, *, readonly: bool, base: int) -> dict[str, "lmdb._Database"]:
    with env.begin() as txn:
        fresh = txn.stat()["entries"] == 0
    if not fresh:
        # Each in a transaction of its own: handles that were opened in a reader's are void when it ends.
        meta = env.open_db(b"meta", create=False)
        with env.begin() as txn:
            refuse_format(path, read_format(txn.get(FORMAT_KEY, db=meta)))
        return {name: env.open_db(name.encode(), create=False) for name in DATABASES}
    if readonly:
        raise StoreError(f"{path}: the store is empty, nothing was ever written to it")
    with env.begin(write=True) as txn:
        handles = {name: env.open_db(name.encode(), txn=txn) for name in DATABASES}
        initialise(txn, handles["meta"], State(base=base, commit=txn.id()))
    return handles


def initialise(txn: ReadTransaction, meta: "lmdb._Database", state: State) -> None:
    """Write the entries of ``meta`` into a store whose other databases are empty."""
    entries = [(FORMAT_KEY, format_entry()), (STATE_KEY, state.encode())]
    for key, value in entries:
        txn.put(key, value, db=meta)
    txn.put(DIGEST_KEY, encode_digest([0] * (len(DATABASES) - 1) + [hash_entries(entries)]), db=meta)


def refuse_format(path: Path, found: int | None) -> None:
    """Raise StoreError unless *found* is the format that this program knows."""
    if found is None:
        raise StoreError(f"{path}: not a store of meshdns, or a damaged one")
    if found > FORMAT:
        raise StoreError(
            f"{path}: the store has format {found}, this meshdns knows format {FORMAT} only; "
            "run the newer meshdns that wrote it, or move the directory away"
        )


def renumbered(state: State, number: int) -> State:
    """Give *state* for a copy written by transaction *number* of a new file, generation unchanged."""
    return replace(state, base=state.generation - number, commit=number)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn the exceptions of LMDB and of the file system into StoreError that names *path*."""
    try:
        yield
    except lmdb.MapFullError as error:
        raise StoreError(f"{path}: the store is full ({error}); the last table stays") from error
    except (lmdb.Error, OSError) as error:
        raise StoreError(f"{path}: {error}") from error
