"""A records file, watched: looked at each second through its symlinks, read again when anything about it changed.

Polling rather than inotify: it sees the symlink swap of a mounted ConfigMap, a file replaced by ``mv`` and a network
file system alike, and a ``stat`` a second costs nothing. Reading and parsing happen in a thread, so the loop lives.
"""

import asyncio
import hashlib
import os
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from meshdns.errors import Fault
from meshdns.inventory.event import Connected, Disconnected, Noticed, Pushed, SourceEvent, Unchanged
from meshdns.inventory.record import Table
from meshdns.sources.records import RecordsError, parse_records
from meshdns.sources.settings import FileSettings
from meshdns.yaml_document import DocumentError, decode

MAX_SIZE = 64 << 20
"""Octets of a records file; some 100,000 rich records have 20 MiB."""

CONFIRM_EVERY = 10.0
"""Seconds between two ``Unchanged``: the table's age stays small and the status file quiet."""

SETTLE = 0.1
"""Seconds since its last change before a changed file is read: it may still be being written."""

MAX_SETTLE_LOOKS = 20
"""Looks at a file that changes all the time before it is read anyway."""

_REMEDY_GONE = "put the file back, or take the source out of the configuration; the last table stays"
_REMEDY_DENIED = "let the user that runs meshdns read it; the last table stays"
_REMEDY_BROKEN = "mend the file, it is read again when it changes; the last table stays"


@dataclass(frozen=True, slots=True)
class Signature:
    """What ``stat`` says of the file behind all symlinks; equal signatures, equal content (but see ``settled``)."""

    target: str
    device: int
    inode: int
    size: int
    modified: int
    changed: int


@dataclass(frozen=True, slots=True)
class Gone:
    """The file cannot be read now."""

    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Same:
    """Nothing about the file changed since the last look."""


@dataclass(frozen=True, slots=True)
class Unsettled:
    """The file changed a moment ago or while it was read: look again soon."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The file was read and is unusable as a whole."""

    signature: Signature | None
    problem: str


@dataclass(frozen=True, slots=True)
class Content:
    """The file was read; table is None when the content is the same as before (``digest``)."""

    signature: Signature | None
    digest: str
    table: Table | None
    faults: tuple[Fault, ...] = ()


Look = Gone | Same | Unsettled | Broken | Content

_EVER = float("-inf")


def look(
    settings: FileSettings,
    seen: Signature | None,
    digest: str,
    *,
    patient: bool,
    now: Callable[[], int] = time.time_ns,
) -> Look:
    """Look at the file once; blocking.

    seen, digest: of the content that was taken last. patient: whether to wait for a file that has just changed.
    A signature is given only if the file had settled: the clock of a file system is too coarse to tell two writes
    of one moment apart, so what was read too early is read once more.
    """
    path = settings.path
    try:
        before = _signature(path)
        if before == seen:
            return Same()
        if patient and not _settled(before, now()):
            return Unsettled()
        content = _content(path)
        after = _signature(path)
    except OSError as error:
        denied = isinstance(error, PermissionError)
        return Gone(f"{path}: {error.strerror or error}", _REMEDY_DENIED if denied else _REMEDY_GONE)
    if before != after:
        return Unsettled()
    signature = after if _settled(after, now()) else None
    found = hashlib.sha256(content).hexdigest()[:16]
    if found == digest:
        return Content(signature, found, None)
    try:
        table, faults = _parse(content, settings, found)
    except RecordsError as error:
        return Broken(signature, str(error))
    return Content(signature, found, table, faults)


def read_once(settings: FileSettings) -> tuple[Table, tuple[Fault, ...]]:
    """Give the table of the file as it is now, and what was left out of it; blocking.

    Raises RecordsError, also when there is no readable file.
    """
    path = settings.path
    try:
        _signature(path)
        content = _content(path)
    except OSError as error:
        raise RecordsError(str(path), (Fault("", str(error.strerror or error)),)) from None
    return _parse(content, settings, "")


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_SIZE + 1)


def _parse(content: bytes, settings: FileSettings, version: str) -> tuple[Table, tuple[Fault, ...]]:
    path = str(settings.path)
    try:
        if len(content) > MAX_SIZE:
            raise DocumentError(f"larger than {MAX_SIZE >> 20} MiB")
        text = decode(content)
    except DocumentError as error:
        raise RecordsError(path, (error.fault,)) from None
    return parse_records(text, source=settings.name, path=path, version=version)


def _signature(path: Path) -> Signature:
    target = os.path.realpath(path)
    status = Path(target).stat()
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
        raise IsADirectoryError(None, "is a directory" if stat.S_ISDIR(status.st_mode) else "is not a file")
    return Signature(target, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _settled(signature: Signature, now: int) -> bool:
    """Tell whether the last change is old enough; one in the future (a clock set back) is."""
    age = now - max(signature.modified, signature.changed)
    return age < 0 or age > SETTLE * 1e9


class FileSource:
    """The ``file`` source: one records file. ``interval``: seconds between looks."""

    def __init__(
        self,
        settings: FileSettings,
        *,
        interval: float = 1.0,
        confirm_every: float = CONFIRM_EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._interval = interval
        self._confirm_every = confirm_every
        self._clock = clock
        self._begin()

    def _begin(self) -> None:
        self._seen: Signature | None = None
        self._digest = ""
        self._heard: bool | None = None
        """Whether the file could be read at the last look; None before the first."""
        self._told = ""
        """The problem that was told last; it is told once."""
        self._confirmed = _EVER

    @property
    def name(self) -> str:
        """The configured name."""
        return self._settings.name

    def __repr__(self) -> str:
        return f"<FileSource {self.name} {self._settings.path} {'heard' if self._heard else 'not heard'}>"

    async def events(self) -> AsyncIterator[SourceEvent]:
        """Say what the file says, until cancelled; a second call begins anew, with the whole table."""
        self._begin()
        unsettled = 0
        while True:
            patient = unsettled < MAX_SETTLE_LOOKS
            found = await asyncio.to_thread(look, self._settings, self._seen, self._digest, patient=patient)
            if isinstance(found, Unsettled):
                unsettled = unsettled + 1 if patient else 0  # read in vain: the patience begins anew
                await asyncio.sleep(min(self._interval, SETTLE))
                continue
            unsettled = 0
            for event in self._take(found):
                yield event
            await asyncio.sleep(self._interval)

    def _take(self, found: Gone | Same | Broken | Content) -> Iterator[SourceEvent]:
        if isinstance(found, Gone):
            self._seen = None
            if self._heard is not False or self._told != found.reason:
                self._heard, self._told = False, found.reason
                yield Disconnected(found.reason, found.remedy)
            return
        if not self._heard:
            self._heard, self._told = True, ""
            self._confirmed = _EVER  # what is found now counts, even if nothing changed
            yield Connected(str(self._settings.path))
        if isinstance(found, Same):
            if not self._told:
                yield from self._confirm()
            return
        self._seen = found.signature
        if isinstance(found, Broken):
            if self._told != found.problem:
                self._told = found.problem
                yield Noticed(found.problem, _REMEDY_BROKEN)
            return
        if self._told:
            self._told, self._confirmed = "", _EVER
        self._digest = found.digest
        if found.table is None:
            yield from self._confirm()
            return
        self._confirmed = self._clock()
        yield Pushed(
            found.table,
            found.digest,
            skipped=tuple(fault.at(str(self._settings.path)) for fault in found.faults),
        )

    def _confirm(self) -> Iterator[SourceEvent]:
        """Say that the table still holds, but not at every look."""
        now = self._clock()
        if now - self._confirmed >= self._confirm_every:
            self._confirmed = now
            yield Unchanged()
