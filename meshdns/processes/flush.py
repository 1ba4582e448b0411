"""How ``meshdns flush`` reaches the responders: a file that grows by a line for each request.

It is read with each heartbeat; a responder's row says how far it has read. A line is a name (wire form, in
hexadecimal), or empty for everything.
"""

import os
from pathlib import Path

LONGEST = 64 << 10
"""Octets after which the file begins anew; whoever has read further forgets everything once."""


def flush_path(data_dir: Path) -> Path:
    """Give where the requests of an instance are."""
    return data_dir / "flush"


def request_flush(data_dir: Path, name: bytes | None) -> int:
    """Ask the responders to forget what they keep at and under *name*, or everything; give how far they must read.

    name: in lower-case wire form. Raises OSError.
    """
    line = (b"" if name is None else name.hex().encode()) + b"\n"
    descriptor = os.open(flush_path(data_dir), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(descriptor).st_size > LONGEST:
            os.ftruncate(descriptor, 0)
        os.write(descriptor, line)
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


class FlushRequests:
    """The requests made since this was made. position: octets read."""

    def __init__(self, data_dir: Path) -> None:
        self._path = flush_path(data_dir)
        self.position = self._size()

    def take(self) -> list[bytes | None]:
        """Give the new requests: names in wire form, None for everything."""
        size = self._size()
        if size == self.position:
            return []
        if size < self.position:
            self.position = size
            return [None]
        try:
            with self._path.open("rb") as file:
                file.seek(self.position)
                text = file.read(LONGEST)
        except OSError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self.position += len(whole)
        return [_name(line) for line in whole.splitlines()]

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except OSError:
            return 0


def _name(line: bytes) -> bytes | None:
    """Give the name of *line*; what is no name asks for everything, which is never wrong."""
    try:
        return bytes.fromhex(line.decode("ascii")) or None
    except ValueError:
        return None
