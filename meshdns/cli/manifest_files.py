"""Manifests on disk: read with every octet kept, written whole or not at all."""

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile

from meshdns.errors import ConfigError, Fault
from meshdns.kubernetes.manifest_nodes import ManifestFile

STANDARD_INPUT = "-"
ENDINGS = {".yaml", ".yml", ".json"}
"""What is a manifest in a directory that is read."""


def manifest_paths(words: Iterable[str]) -> list[str]:
    """Give the files that *words* name: files, directories with everything below them, ``-`` for standard input.

    Raises ConfigError naming what is not there, and a directory without any manifest.
    """
    paths: dict[str, str] = {}
    for word in words:
        if word == STANDARD_INPUT or not Path(word).is_dir():
            paths.setdefault(_same(word), word)
            continue
        below = sorted(map(str, _below(Path(word))))
        if not below:
            raise ConfigError(word, (Fault("", f"no file that ends with {', '.join(sorted(ENDINGS))} is in it"),))
        for path in below:
            paths.setdefault(_same(path), path)
    return list(paths.values())


def _same(path: str) -> str:
    """Give what is equal for all words for one file, so that a link does not make a Service appear twice."""
    return path if path == STANDARD_INPUT else os.path.realpath(path)


def _below(directory: Path) -> Iterator[Path]:
    for entry in directory.iterdir():
        if entry.name.startswith("."):
            continue
        if entry.is_dir() and not entry.is_symlink():
            yield from _below(entry)
        elif entry.suffix in ENDINGS and entry.is_file():
            yield entry


def read_manifest(path: str) -> ManifestFile:
    """Read *path*, or standard input; raises ConfigError when it cannot be read or is not UTF-8."""
    try:
        octets = sys.stdin.buffer.read() if path == STANDARD_INPUT else Path(path).read_bytes()
        return ManifestFile(path, octets.decode())
    except OSError as error:
        raise ConfigError(path, (Fault("", f"cannot be read: {error.strerror or error}"),)) from None
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        raise ConfigError(path, (Fault("", f"octet 0x{octets[error.start]:02x} is not UTF-8", line),)) from None


def write_text(path: Path, text: str) -> bool:
    """Write *text* to *path* if it does not hold it already; tell whether it was written.

    A reader sees the old or the new text; what a link leads to is written, and a file keeps its mode.
    Raises ConfigError naming the file.
    """
    octets = text.encode()
    try:
        target = path.resolve()
        if target.exists() and target.read_bytes() == octets:
            return False
        mode = target.stat().st_mode & 0o7777 if target.exists() else 0o666 & ~_umask()
        with NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as scratch:
            fresh = Path(scratch.name)
            try:
                scratch.write(octets)
                scratch.flush()
                os.fsync(scratch.fileno())
                fresh.chmod(mode)
                fresh.replace(target)
            except BaseException:
                fresh.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise ConfigError(str(path), (Fault("", f"cannot be written: {error.strerror or error}"),)) from None
    return True


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
