"""The files that resources are written in, looked at again and again: what changed is read anew. Blocking.

Looking rather than inotify: it sees the symlink swap of a mounted ConfigMap, a file replaced by ``mv`` and a network
file system alike.
"""

import hashlib
import os
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from meshdns.publisher.model import Finding
from meshdns.publisher.reading import Reading, read_resources
from meshdns.yaml_document import DocumentError, decode

SETTLE = 0.03
"""Seconds since its last change before a file or directory is read: it may still be being written."""

MAX_UNSETTLED = 10
"""Looks in a row at something that changes all the time before it is read anyway."""

MAX_FILES, MAX_SIZE, MAX_DEPTH = 10_000, 64 << 20, 8

_SUFFIXES = (".yaml", ".yml", ".json")


class PathError(Exception):
    """There is nothing to be read at the configured path; the message says why."""


class Stamp(NamedTuple):
    """What ``stat`` says; equal stamps, equal content. Directories have one too: it tells when a file went."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int


class Look(NamedTuple):
    """What a look at the path found: a stamp of every directory, and of every file."""

    directories: Mapping[str, Stamp]
    files: Mapping[str, Stamp]


class Files:
    """The files at *path*: a single one, or all of a directory and below whose names do not begin with a dot."""

    def __init__(self, path: Path, *, now: Callable[[], int] = time.time_ns) -> None:
        self._path = path
        self._now = now
        self._seen: Look | None = None
        self._digests: dict[str, bytes] = {}
        self._unsettled = 0
        self._unread: set[str] = set()
        """Files that could not be read, for whatever reason: tried again at every look."""
        self.readings: dict[str, Reading] = {}
        """The last reading of each file."""

    @property
    def ready(self) -> bool:
        """Whether the files were read at all."""
        return self._seen is not None

    def look(self) -> bool:
        """Read what changed; tell whether anything did.

        Raises PathError when there is nothing at the path, and then the readings stay.
        """
        found = _look(self._path)
        if found == self._seen and not self._unread:
            self._unsettled = 0
            return False
        if self._unsettled < MAX_UNSETTLED and not self._settled(found):
            self._unsettled += 1
            return False
        self._unsettled = 0
        first = self._seen is None
        before = self._seen.files if self._seen is not None else {}
        self._seen = found
        changed = False
        for name, stamp in found.files.items():
            if stamp != before.get(name) or name in self._unread:
                changed |= self._read(name)
        for name in self.readings.keys() - found.files.keys():
            changed = True
            del self.readings[name]
            self._digests.pop(name, None)
        self._unread &= found.files.keys()
        return changed or first

    def _settled(self, found: Look) -> bool:
        """Tell whether what differs from the last look is old enough; a time in the future (a clock set back) is."""
        seen = {**self._seen.directories, **self._seen.files} if self._seen is not None else {}
        fresh = [each for name, each in (*found.directories.items(), *found.files.items()) if seen.get(name) != each]
        age = self._now() - max((max(each.modified, each.changed) for each in fresh), default=0)
        return age < 0 or age > SETTLE * 1e9

    def _read(self, name: str) -> bool:
        before = self.readings.get(name, Reading({}))
        try:
            with Path(name).open("rb") as file:
                content = file.read(MAX_SIZE + 1)
            if len(content) > MAX_SIZE:
                raise DocumentError(f"larger than {MAX_SIZE >> 20} MiB")
            self._unread.discard(name)
            digest = hashlib.sha256(content).digest()
            if self._digests.get(name) == digest:
                return False
            text = decode(content)
        except (OSError, DocumentError) as error:
            line = error.fault.line if isinstance(error, DocumentError) else None
            problem = str(error) if isinstance(error, DocumentError) else f"cannot be read: {error.strerror or error}"
            self._digests.pop(name, None)
            if isinstance(error, OSError):
                self._unread.add(name)
            self.readings[name] = Reading(before.resources, (Finding(name, line, "", "", problem),))
            return self.readings[name] != before
        self._digests[name] = digest
        self.readings[name] = read_resources(text, name, before.resources)
        return True


def _look(path: Path) -> Look:
    try:
        status = path.stat()
    except OSError as error:
        raise PathError(f"{path}: {error.strerror or error}") from None
    if stat.S_ISREG(status.st_mode):
        return Look({}, {str(path): _stamp(status)})
    if not stat.S_ISDIR(status.st_mode):  # opening a pipe would wait for its writer
        raise PathError(f"{path}: is neither a file nor a directory")
    directories: dict[str, Stamp] = {}
    files: dict[str, Stamp] = {}
    try:
        _walk(str(path), status, directories, files, set(), MAX_DEPTH)
    except OSError as error:
        raise PathError(f"{error.filename or path}: {error.strerror or error}") from None
    if len(files) > MAX_FILES:
        raise PathError(f"{path}: holds more than {MAX_FILES} files of resources")
    return Look(directories, dict(sorted(files.items())))


def _walk(  # noqa: PLR0917 - what is gathered on the way
    path: str,
    status: os.stat_result,
    directories: dict[str, Stamp],
    files: dict[str, Stamp],
    visited: set[tuple[int, int]],
    depth: int,
) -> None:
    place = (status.st_dev, status.st_ino)
    if place in visited or depth < 0 or len(files) > MAX_FILES:  # a symlink may lead back
        return
    visited.add(place)
    directories[path] = _stamp(status)
    with os.scandir(path) as entries:
        below = sorted(entries, key=lambda entry: entry.name)
    for entry in below:
        if entry.name.startswith("."):
            continue
        try:
            found = entry.stat()
        except FileNotFoundError:  # it went a moment ago, or is a symlink to nowhere
            continue
        if stat.S_ISDIR(found.st_mode):
            _walk(entry.path, found, directories, files, visited, depth - 1)
        elif stat.S_ISREG(found.st_mode) and entry.name.endswith(_SUFFIXES):
            files[entry.path] = _stamp(found)


def _stamp(status: os.stat_result) -> Stamp:
    return Stamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
