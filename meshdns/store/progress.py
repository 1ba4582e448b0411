"""What is known beside the database: the last generation committed, and for how long each source was heard.

The first betrays an LMDB file that fell back to the commit before (one flipped bit in the transaction number of
a meta page does that, and every entry then still agrees with the digest). The second lets a restarted process go on
with a hold without a commit each second, for every commit makes all responders forget their replies.
The file may be missing or behind the database, never ahead of it: it is written after the commit.
"""

import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PROGRESS_FILE = "progress"


@dataclass(frozen=True, slots=True)
class Progress:
    """generation: that of the last commit. heard: seconds of connected time by source."""

    generation: int = 0
    heard: Mapping[str, float] = field(default_factory=dict)


def write_progress(path: Path, progress: Progress) -> None:
    """Replace the file in the store's directory *path*. Raises OSError."""
    text = json.dumps([progress.generation, dict(progress.heard)])
    scratch = path / (PROGRESS_FILE + ".new")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, f"{zlib.crc32(text.encode()):08x} {text}\n".encode())
    finally:
        os.close(descriptor)
    scratch.replace(path / PROGRESS_FILE)


def read_progress(path: Path) -> Progress:
    """Give what the file says; nothing known when it is missing or unreadable."""
    try:
        check, _, text = (path / PROGRESS_FILE).read_text().strip().partition(" ")
        if check != f"{zlib.crc32(text.encode()):08x}":
            return Progress()
        generation, heard = json.loads(text)
        return Progress(int(generation), {str(name): float(seconds) for name, seconds in heard.items()})
    except (OSError, ValueError, TypeError, AttributeError):
        return Progress()
