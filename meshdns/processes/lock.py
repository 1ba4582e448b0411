"""One instance, one data directory: an exclusive lock that is free when the last process of an instance is gone."""

import fcntl
import os
import time
from pathlib import Path

from meshdns.errors import MeshdnsError
from meshdns.processes.status_file import start_of

PATIENCE = 3.0
"""Seconds to wait for the children of a supervisor that was killed; the kernel ends them within milliseconds."""


class InUseError(MeshdnsError):
    """Another instance uses the directory; the message names it and its process."""


class DirectoryError(MeshdnsError):
    """The data directory cannot be made or written; the message names it."""


class DirectoryLock:
    """The lock on a data directory. Children inherit it, so that it tells about them too."""

    def __init__(self, data_dir: Path, *, patience: float = PATIENCE) -> None:
        path = data_dir / "lock"
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as fault:
            raise DirectoryError(f"data_dir {data_dir}: {fault.strerror} ({fault.filename})") from None
        until = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holder = os.pread(self.descriptor, 20, 0).decode("ascii", "replace").strip()
                if time.monotonic() > until or (holder.isdigit() and start_of(int(holder)) is not None):
                    os.close(self.descriptor)
                    raise InUseError(f"data_dir {data_dir} is in use by process {holder or '(unknown)'}") from None
            time.sleep(0.01)
        try:
            os.ftruncate(self.descriptor, 0)
            os.pwrite(self.descriptor, b"%d\n" % os.getpid(), 0)
        except OSError:  # a full disk: the lock holds, only its holder stays nameless
            pass

    @classmethod
    def held(cls, descriptor: int) -> "DirectoryLock":
        """Go on holding what this process locked by *descriptor* before it executed another image."""
        self = cls.__new__(cls)
        self.descriptor = descriptor
        return self

    def close(self) -> None:
        """Let go in this process."""
        os.close(self.descriptor)
