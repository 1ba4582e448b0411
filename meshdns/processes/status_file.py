"""One process's state in a small mapped file: who it is, a heartbeat, a row of numbers, one JSON document.

The process writes with plain memory stores (no system call, no lock); anybody may read at any time, also after the
process has died. A number cannot be read torn: each is eight aligned octets. The document has two places: the next
one is written where the current one is not, and a count says which is current, so it is whole even when its writer
was killed in the middle; a reader that sees the count move reads again.
"""

import json
import mmap
import os
import struct
import time
from collections.abc import Mapping, MutableSequence, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, cast

from meshdns.errors import MeshdnsError

MAGIC = b"meshdns\x01"
"""Begins every status file; the last octet is the version of its layout."""

ROW = 64
"""Numbers in the row of every process."""

DOCUMENT_SPACE = 256 << 10
"""Octets for a document, unless a process needs less."""

_HEAD = struct.Struct("=8sQQddQQ")
"""Magic, pid, start (ticks after boot), birth (unix time), heartbeat (CLOCK_MONOTONIC), documents written, space."""
_HEARTBEAT = 32
_WRITTEN = 40
_ROW_AT = 64
_DOCUMENTS_AT = 4096
_LENGTH = struct.Struct("=Q")

_TRIES = 100
"""A reader asks again so often when the document was replaced under its hands."""


def directory(data_dir: Path) -> Path:
    """Give where the status files of an instance are."""
    return data_dir / "status"


class Number(IntEnum):
    """What stands where in a responder's row; 0 to 23 are the resolver's (``resolver.answer.Count``)."""

    UDP_QUERIES = 24
    TCP_QUERIES = 25
    NOT_ALLOWED = 26
    """Queries of clients outside ``allow``."""
    RATE_LIMITED = 27
    QUEUE_DROPPED = 28
    """Datagrams that arrived faster than they could be answered; the oldest went."""
    SEND_FAILED = 29
    TCP_ACCEPTED = 30
    TCP_EVICTED = 31
    """Idle connections closed to make room for new ones."""
    TCP_EXPIRED = 32
    """Connections closed because they idled, dawdled or did not read."""

    CACHE_HITS = 33
    """Forwarded names answered from the cache."""
    CACHE_MISSES = 34
    CACHE_STALE = 35
    """Replies whose time was over, because nobody gave a fresh one."""
    PREFETCHED = 36
    UPSTREAM_FAILED = 37
    """Questions that no upstream answered."""
    CROWDED = 38
    """Queries refused because too many questions waited for upstreams."""
    SPECIAL = 39
    """``localhost`` and its like."""
    FLUSHED = 40
    """Answers forgotten because somebody asked for it."""

    SERVING = 48
    """From here on states, not counts. 1: the listeners are open and answer."""
    DELIVERED = 49
    """1: every configured source has delivered."""
    GENERATION = 50
    NAMES = 51
    LAG = 52
    """Milliseconds by which the event loop was late at the last heartbeat."""
    TCP_OPEN = 53
    FLUSH_READ = 54
    """Octets of the flush requests that were read."""
    MOVES = 55
    """Of the supervisor: how often counts began or ended to move between files; odd while they do."""
    WORKS_SINCE = 56
    """Of ``sync``: when it began what it does now (CLOCK_MONOTONIC, ms), 0 while it waits for something to do."""


COUNTS = 48
"""Numbers below this only grow, and are summed over processes."""


class StatusError(MeshdnsError):
    """A status file is absent, foreign, or of another version; the message names it."""


def start_of(pid: int) -> int | None:
    """Give when process *pid* started (clock ticks after boot), None where there is no such process.

    Together with the pid it names one process for ever: a pid alone is soon another's.
    """
    try:
        line = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = line[line.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


@dataclass(frozen=True, slots=True)
class Written:
    """What a status file says.

    alive: the process that wrote it still runs. age: seconds since its last heartbeat. born: unix time.
    """

    pid: int
    alive: bool
    age: float
    born: float
    row: tuple[int, ...]
    document: Mapping[str, Any]


class StatusWriter:
    """The state of one process, seen by others while it changes.

    ``row`` is the row of numbers (``row[Number.UDP_QUERIES] += 1``). A new file replaces one of the same name, so a
    process that still writes the former one disturbs nobody. Where no file can be had (disk full, read-only) the
    state is kept in memory, which a forked child shares: ``hidden`` then says why nobody else can see it.
    space: octets for a document, 0 for a process that writes none. own: whether the calling process is the one that
    writes; otherwise it is nobody's until :meth:`adopt`. shown: at once; otherwise the former file stays until
    :meth:`show`. descriptor: of the file or memory, for a process that is to go on with it.
    """

    def __init__(self, path: Path, *, space: int = DOCUMENT_SPACE, own: bool = True, shown: bool = True) -> None:
        size = _DOCUMENTS_AT + 2 * (_LENGTH.size + space if space else 0)
        self.hidden = ""
        fresh = path.with_name(f".{path.name}.new")
        try:
            self.descriptor = _create(fresh, size)
        except OSError as fault:
            self.hidden = f"{path}: {fault.strerror}"
            self.descriptor = _in_memory(path.name, size)
        self._unshown = None if self.hidden else (fresh, path)
        self._open(size, space)
        self._claim(os.getpid() if own else 0)
        if shown:
            self.show()

    @classmethod
    def inherited(cls, descriptor: int) -> "StatusWriter":
        """Go on with what another wrote under *descriptor*, in the same layout; it stays that process's state."""
        self = cls.__new__(cls)
        self.descriptor, self.hidden, self._unshown = descriptor, "", None
        head = os.pread(descriptor, _HEAD.size, 0)
        if len(head) < _HEAD.size or not head.startswith(MAGIC):
            raise StatusError(f"descriptor {descriptor}: not a status file of this version of meshdns")
        self._open(os.fstat(descriptor).st_size, _HEAD.unpack(head)[-1])
        return self

    def show(self) -> None:
        """Let the file take the place of a former one of the same name."""
        if self._unshown is not None:
            fresh, path = self._unshown
            self._unshown = None
            try:
                fresh.replace(path)
            except OSError as fault:
                self.hidden = f"{path}: {fault.strerror}"

    def _open(self, size: int, space: int) -> None:
        self._map = mmap.mmap(self.descriptor, size)
        self._space = space
        whole = memoryview(self._map)
        self._views = (
            whole[_ROW_AT : _ROW_AT + 8 * ROW].cast("Q"),
            whole[_HEARTBEAT : _HEARTBEAT + 8].cast("d"),
            whole[_WRITTEN : _WRITTEN + 8].cast("Q"),
        )
        row, self._pulse, self._written = self._views
        self.row = cast("MutableSequence[int]", row)

    def adopt(self) -> None:
        """Say that the calling process is the one that writes (a forked child calls this first)."""
        self._claim(os.getpid())

    def _claim(self, pid: int) -> None:
        now = time.monotonic()
        start = start_of(pid) or 0 if pid else 0
        _HEAD.pack_into(self._map, 0, MAGIC, pid, start, time.time(), now, self._written[0], self._space)

    @property
    def heartbeat(self) -> float:
        """CLOCK_MONOTONIC of the last :meth:`beat`."""
        return float(self._pulse[0])

    def beat(self) -> None:
        """Say that the process is well now."""
        self._pulse[0] = time.monotonic()

    def write(self, document: Mapping[str, Any]) -> None:
        """Replace the document. Of one that is too large only its size is kept: ``{"too_large": octets}``."""
        text = json.dumps(document, separators=(",", ":")).encode()
        if len(text) > self._space:
            text = json.dumps({"too_large": len(text)}).encode()
        place = _place(self._written[0] + 1, self._space)
        _LENGTH.pack_into(self._map, place, len(text))
        self._map[place + _LENGTH.size : place + _LENGTH.size + len(text)] = text
        self._written[0] += 1

    def close(self) -> None:
        """Unmap the file; it stays readable."""
        for view in self._views:
            view.release()
        self._map.close()
        os.close(self.descriptor)


class OtherRow:
    """The row of the process that writes the status file at *path*, read without a system call.

    ``row`` is all zero until there is such a file. Call :meth:`look` now and then: it follows a new file of the name.
    """

    def __init__(self, path: Path) -> None:
        self.row: Sequence[int] = (0,) * ROW
        self._path = path
        self._inode = 0

    def look(self) -> None:
        """See whether another file stands there now."""
        try:
            if self._path.stat().st_ino == self._inode:
                return
            with self._path.open("rb", buffering=0) as file:
                self._inode = os.fstat(file.fileno()).st_ino
                mapped = memoryview(mmap.mmap(file.fileno(), _DOCUMENTS_AT, access=mmap.ACCESS_READ))
        except (OSError, ValueError):  # there is none, or not enough of it
            return
        self.row = cast("Sequence[int]", mapped[_ROW_AT : _ROW_AT + 8 * ROW].cast("Q"))


def _in_memory(name: str, size: int) -> int:
    descriptor = os.memfd_create(name)
    os.ftruncate(descriptor, size)
    return descriptor


def _create(fresh: Path, size: int) -> int:
    fresh.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        # All of it now: a store into a page for which the disk has no room would end the process by SIGBUS.
        os.posix_fallocate(descriptor, 0, size)
    except OSError:
        os.close(descriptor)
        fresh.unlink(missing_ok=True)
        raise
    return descriptor


def _place(count: int, space: int) -> int:
    return _DOCUMENTS_AT + (count & 1) * (_LENGTH.size + space)


def read_file(path: Path) -> Written:
    """Give what the status file at *path* says; raises StatusError, naming it, when it says nothing."""
    try:
        with path.open("rb", buffering=0) as file:
            head, text = _settled(file.fileno(), path)
    except OSError as fault:
        raise StatusError(f"{path}: {fault.strerror}") from None
    _, pid, start, born, heartbeat, _, _ = _HEAD.unpack_from(head)
    return Written(
        pid=pid,
        alive=start_of(pid) == start,
        age=max(0.0, time.monotonic() - heartbeat),
        born=born,
        row=struct.unpack_from(f"={ROW}Q", head, _ROW_AT),
        document=json.loads(text) if text else {},
    )


def _settled(descriptor: int, path: Path) -> tuple[bytes, bytes]:
    """Give the first page and the document's text, read while the document stayed as it was."""
    for _ in range(_TRIES):
        head = os.pread(descriptor, _DOCUMENTS_AT, 0)
        if len(head) < _DOCUMENTS_AT or not head.startswith(MAGIC):
            raise StatusError(f"{path}: not a status file of this version of meshdns")
        *_, written, space = _HEAD.unpack_from(head)
        if not written:
            return head, b""
        place = _place(written, space)
        (length,) = _LENGTH.unpack(os.pread(descriptor, _LENGTH.size, place))
        text = os.pread(descriptor, min(length, space), place + _LENGTH.size)
        if os.pread(descriptor, 8, _WRITTEN) == head[_WRITTEN : _WRITTEN + 8]:
            return head, text
    raise StatusError(f"{path}: changes faster than it can be read")
