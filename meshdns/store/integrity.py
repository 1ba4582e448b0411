"""Whether a store can be trusted, found out before anything answers from it.

LMDB has no checksums: a truncated file ends its reader with SIGBUS, a flipped bit gives silently wrong answers. So a
short-lived child reads every entry of every database, in order, and compares the sums kept by the last commit; if it
dies, hangs or differs, the store is set aside and an empty one takes its place.

A sound store is written anew from what was read, and the copy takes the file's place: what no reader of entries can
see (a damaged free list, branch page or counter) would mislead a look-up or the next writer, and is left behind.
"""

import os
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from itertools import count, islice
from operator import itemgetter, lt
from pathlib import Path
from typing import Any, cast

import lmdb

from meshdns.errors import StoreError
from meshdns.store.child import run_in_child
from meshdns.store.progress import read_progress
from meshdns.store.schema import (
    DATA_FILE,
    DATABASES,
    DIGEST_KEY,
    FORMAT,
    FORMAT_KEY,
    LOCK_FILE,
    MAP_SIZE,
    STATE_KEY,
    Entry,
    ReadTransaction,
    State,
    decode_digest,
    encode_digest,
    hash_entries,
    open_environment,
    open_store,
    read_format,
    refuse_format,
    renumbered,
    store_path,
    translated,
)

CHUNK = 10_000
"""Entries read, summed and written at a time."""

_META = struct.Struct("=Q2xH4x II16x I44x48x QQ")
"""A meta page of LMDB 0.9 on 64 bits: page number, flags; magic, data version; page size; last page, transaction."""

_MAGIC, _DATA_VERSION, _META_FLAG = 0xBEEFC0DE, 1, 0x08

_PAGE_SIZES = {512 << shift for shift in range(8)}

_SCRATCH = "rewritten"
_MASK = (1 << 64) - 1


class Condition(Enum):
    """What a check found."""

    SOUND = "sound"
    ABSENT = "absent"
    DAMAGED = "damaged"
    NEWER = "newer"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A condition; reason: in words, for DAMAGED; format: the number found, for NEWER; entries: how many were read."""

    condition: Condition
    reason: str = ""
    format: int = FORMAT
    entries: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What ``check_in_child`` found and did.

    condition: what the store was. reason: why it is damaged, or what could not be done for a sound one. moved_to:
    where a damaged one is now. seconds: how long it took.
    """

    condition: Condition
    reason: str = ""
    moved_to: Path | None = None
    entries: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        if self.condition is Condition.DAMAGED:
            return f"the store was damaged ({self.reason}); it is now {self.moved_to}, and an empty one took its place"
        text = f"the store is {self.condition.value}: {self.entries} entries read in {self.seconds:.3f} s"
        return f"{text}; {self.reason}" if self.reason else text


class _DamagedError(Exception):
    """The store is not what a commit left."""


class _NewerError(Exception):
    """The store has a format of the future."""

    def __init__(self, found: int) -> None:
        self.found = found


def verify(path: Path) -> Verdict:
    """Check the store in the directory *path* in this process, which a damaged one may end or stop (SIGBUS, a loop).

    Raises StoreError when it cannot be read for a reason that is no damage.
    """
    return _judge(path, lambda: _walk(path, None))


def check_in_child(data_dir: Path, *, timeout: float) -> Outcome:
    """Check the store of *data_dir* in a child, and leave a store there that can be used.

    timeout: seconds after which the child is killed and the store counts as damaged. Call it before any process
    opens the store, from a process without threads. Raises StoreError when the store is of a newer format, or when
    nothing can be read or written there at all.
    """
    path = store_path(data_dir)
    began = time.monotonic()
    shutil.rmtree(path / _SCRATCH, ignore_errors=True)  # of a check that was killed
    verdict = _told_by_child(lambda: _check_and_rewrite(path), timeout)
    reached = read_progress(path).generation
    if verdict.condition is Condition.NEWER:
        refuse_format(path, verdict.format)
    moved_to = _set_aside(path) if verdict.condition is Condition.DAMAGED else None
    if verdict.condition in {Condition.DAMAGED, Condition.ABSENT}:
        created = _told_by_child(lambda: _create(path, reached), timeout)
        if created.condition is not Condition.SOUND:
            raise StoreError(f"{path}: an empty store cannot be created: {created.reason}")
    return Outcome(verdict.condition, verdict.reason, moved_to, verdict.entries, time.monotonic() - began)


def set_aside(data_dir: Path) -> Path:
    """Rename the store of *data_dir* although it looks sound, because processes die of it; give its new path.

    No process may have it open. Raises StoreError.
    """
    return _set_aside(store_path(data_dir))


def _judge(path: Path, walk: Callable[[], int]) -> Verdict:
    """Give the verdict of *walk*, which gives the number of entries or raises."""
    try:
        with (path / DATA_FILE).open("rb") as file:
            _check_meta_pages(file.read(2 * max(_PAGE_SIZES)), os.fstat(file.fileno()).st_size)
        return Verdict(Condition.SOUND, entries=walk())
    except FileNotFoundError:
        return _without_file(path)
    except NotADirectoryError:
        return Verdict(Condition.DAMAGED, "it is a file, not a directory")
    except IsADirectoryError:
        return Verdict(Condition.DAMAGED, f"{DATA_FILE} is a directory")
    except PermissionError as error:
        raise StoreError(f"{path}: {error}") from error
    except _NewerError as error:
        return Verdict(Condition.NEWER, format=error.found)
    except Exception as error:  # whatever octets that nobody wrote lead to
        return Verdict(Condition.DAMAGED, str(error) or type(error).__name__)


def _without_file(path: Path) -> Verdict:
    """Judge a directory that has no data file: absent, unless it has been one (then the file was taken away)."""
    if read_progress(path).generation:
        return Verdict(Condition.DAMAGED, f"{DATA_FILE} is gone")
    return Verdict(Condition.ABSENT)


def _check_meta_pages(head: bytes, size: int) -> None:
    """Refuse what would make LMDB map or read far beyond the file. Raises _DamagedError.

    A sound file may end before its last page number: a page taken and given back by one commit is never written.
    So the size is told, and whether anything is missing is found out by reading.
    """
    page_size = 0
    for at in (0, 1):
        if len(head) < at * page_size + _META.size:
            raise _DamagedError(f"the file ends within its first pages ({size} octets)")
        number, flags, magic, version, found, last, _ = _META.unpack_from(head, at * page_size)
        if magic != _MAGIC or not flags & _META_FLAG:
            raise _DamagedError("not an LMDB file, or its first pages are damaged")
        if version != _DATA_VERSION:
            raise _DamagedError(f"LMDB data version {version} instead of {_DATA_VERSION}")
        page_size = page_size or found
        if number != at or found != page_size or page_size not in _PAGE_SIZES or last >= MAP_SIZE // page_size:
            raise _DamagedError("its first pages are damaged")


def _walk(path: Path, target: lmdb.Environment | None) -> int:
    """Read every entry of the store in *path*, copy it to *target* if given, and compare the sums.

    Gives the number of entries. Raises _DamagedError, _NewerError, lmdb.Error, and whatever else
    a damaged value causes.
    """
    environment = open_environment(path, readonly=True, lock=False)
    try:
        with environment.begin() as txn:
            meta = environment.open_db(b"meta", txn=txn, create=False)
            found = read_format(txn.get(FORMAT_KEY, db=meta))
            if found is None:
                raise _DamagedError("it has no format number")
            if found > FORMAT:
                raise _NewerError(found)
            _check_commit(txn, meta, path)
            sums = decode_digest(txn.get(DIGEST_KEY, db=meta))
            with _copying(target) as copy:
                read = 0
                for name, expected in zip(DATABASES, sums, strict=True):
                    source = environment.open_db(name.encode(), txn=txn, create=False)
                    total, entries = _read(txn, source, name, copy)
                    read += entries
                    if total != expected:
                        raise _DamagedError(f"the entries of {name} are not those that were committed")
                if copy:
                    copy.renumber()
        return read
    finally:
        environment.close()


def _check_commit(txn: ReadTransaction, meta: "lmdb._Database", path: Path) -> None:
    """Refuse a file whose last commit is not the one that its state says, or that we know to have been."""
    state = State.decode(txn.get(STATE_KEY, db=meta) or b"")
    if state.commit != txn.id():
        raise _DamagedError(f"its last commit is number {txn.id()}, its entries are of number {state.commit}")
    noted = read_progress(path).generation
    if noted > state.generation:
        raise _DamagedError(f"it fell back to generation {state.generation}, {noted} was committed")


def _read(txn: ReadTransaction, source: "lmdb._Database", name: str, copy: "_Copy | None") -> tuple[int, int]:
    """Read *source* from end to end, into the *copy* if given; give the sum of hashes and the count."""
    total = read = 0
    last = b""
    entries = txn.cursor(db=source).iternext()
    while chunk := list(islice(entries, CHUNK)):
        read += len(chunk)
        total += hash_entries(chunk if name != "meta" else (each for each in chunk if each[0] != DIGEST_KEY))
        keys = [last, *map(itemgetter(0), chunk)]
        if not all(map(lt, keys, islice(keys, 1, None))):
            raise _DamagedError(f"the keys of {name} are out of order")
        last = keys[-1]
        if copy:
            copy.append(name, chunk)
    return total & _MASK, read


class _Copy:
    """The copy that takes the place of a sound store: the same entries in one transaction of a new file."""

    def __init__(self, target: lmdb.Environment, txn: "lmdb.Transaction[bytes]") -> None:
        self._txn = txn
        self._databases = {name: target.open_db(name.encode(), txn=txn) for name in DATABASES}

    def append(self, name: str, chunk: list[Entry]) -> None:
        """Write a database's next entries, in the order of their keys."""
        self._txn.cursor(db=self._databases[name]).putmulti(chunk, append=True)

    def renumber(self) -> None:
        """Say in ``meta`` that this file begins with this transaction, the generation staying what it was."""
        meta = self._databases["meta"]
        state = State.decode(self._txn.get(STATE_KEY, db=meta) or b"")
        self._txn.put(STATE_KEY, renumbered(state, self._txn.id()).encode(), db=meta)
        sums = decode_digest(self._txn.get(DIGEST_KEY, db=meta))
        sums[-1] = hash_entries(each for each in self._txn.cursor(db=meta).iternext() if each[0] != DIGEST_KEY)
        self._txn.put(DIGEST_KEY, encode_digest(sums), db=meta)


@contextmanager
def _copying(target: lmdb.Environment | None) -> Iterator[_Copy | None]:
    """Give the copy in *target*, committed at the end of the block."""
    if target is None:
        yield None
        return
    with target.begin(write=True) as txn:
        yield _Copy(target, txn)


def _check_and_rewrite(path: Path) -> Verdict:
    """Check the store and, when it is sound, put a copy in its place."""
    unwritten: list[str] = []
    verdict = _judge(path, lambda: _rewrite(path, unwritten))
    return replace(verdict, reason=verdict.reason or "".join(unwritten))


def _rewrite(path: Path, unwritten: list[str]) -> int:
    """Check the store in *path* by copying it, and let the copy take its place. Raises as ``_walk`` does."""
    scratch = path / _SCRATCH
    try:
        scratch.mkdir(mode=0o700)
        target = open_environment(scratch)
        try:
            entries = _walk(path, target)
        finally:
            target.close()
        (scratch / DATA_FILE).replace(path / DATA_FILE)
        # The lock file names the old file's last transaction. Whoever still reads the old one keeps both.
        (path / LOCK_FILE).unlink(missing_ok=True)
        _sync_directory(path)
    except (_DamagedError, _NewerError):
        raise
    except Exception as error:
        # Either the copy cannot be written (no space, for one) or the store cannot be read: reading alone tells.
        entries = _walk(path, None)
        unwritten.append(f"it is used as it is, for a fresh copy cannot be written ({error})")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return entries


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _told_by_child(work: Callable[[], Verdict], timeout: float) -> Verdict:
    """Do *work* in a child and give its verdict; a child that dies or does not end has found damage."""

    def verdict() -> list[object]:
        found = work()
        return [found.condition.value, found.reason, found.format, found.entries]

    told = run_in_child(verdict, timeout)
    if told.failure:
        return Verdict(Condition.DAMAGED, told.failure)
    condition, *rest = cast("list[Any]", told.value)
    return Verdict(Condition(condition), *rest)


def _create(path: Path, base: int) -> Verdict:
    """Create an empty store whose generations begin after *base*."""
    open_store(path, base=base).env.close()
    return Verdict(Condition.SOUND)


def _set_aside(path: Path) -> Path:
    """Rename a damaged store; give its new path."""
    stem = f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    for at in count(1):
        aside = path.with_name(stem if at == 1 else f"{stem}-{at}")
        if not os.path.lexists(aside):
            break
    with translated(path):
        path.rename(aside)
    return aside
