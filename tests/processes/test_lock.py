"""One instance for one data directory."""

import os
import signal
from pathlib import Path

import pytest

from meshdns.processes.lock import DirectoryError, DirectoryLock, InUseError


def test_the_lock_says_who_holds_it(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path / "data")
    assert (tmp_path / "data" / "lock").read_text() == f"{os.getpid()}\n"
    with pytest.raises(InUseError, match=f"data_dir {tmp_path / 'data'} is in use by process {os.getpid()}"):
        DirectoryLock(tmp_path / "data")
    lock.close()
    DirectoryLock(tmp_path / "data").close()


def test_children_of_a_supervisor_that_is_gone_are_waited_for(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        DirectoryLock(tmp_path)
        child = os.fork()
        if not child:
            signal.pause()
        os.write(writer, b"%d" % child)
        os._exit(0)
    child = int(os.read(reader, 20))
    os.waitpid(pid, 0)
    try:
        with pytest.raises(InUseError, match=f"in use by process {pid}"):
            DirectoryLock(tmp_path, patience=0.05)
    finally:
        os.kill(child, signal.SIGKILL)
    DirectoryLock(tmp_path, patience=30).close()
    os.close(reader)
    os.close(writer)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DirectoryError, match=f"data_dir {tmp_path / 'file' / 'data'}: Not a directory"):
        DirectoryLock(tmp_path / "file" / "data")
