"""A status file can be read at any moment, whoever wrote it and whether or not it still lives."""

import errno
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from meshdns.processes import status_file
from meshdns.processes.status_file import Number, OtherRow, StatusError, StatusWriter, read_file, start_of


def test_what_is_written_is_read(tmp_path: Path) -> None:
    status = StatusWriter(tmp_path / "status" / "responder-0")
    status.row[Number.UDP_QUERIES] += 3
    status.row[Number.GENERATION] = 2**63
    status.write({"peer": "127.0.0.1:5678", "held": ["ü.mesh"]})
    status.beat()
    written = read_file(tmp_path / "status" / "responder-0")
    assert written.pid == os.getpid()
    assert written.alive
    assert written.age < 5
    assert abs(written.born - time.time()) < 5
    assert (written.row[Number.UDP_QUERIES], written.row[Number.GENERATION]) == (3, 2**63)
    assert written.document == {"peer": "127.0.0.1:5678", "held": ["ü.mesh"]}
    status.close()


def test_without_a_document_there_is_none(tmp_path: Path) -> None:
    status = StatusWriter(tmp_path / "responder-0", space=0)
    assert read_file(tmp_path / "responder-0").document == {}
    assert (tmp_path / "responder-0").stat().st_size == 4096
    status.close()


def test_a_document_that_is_too_large_says_so_and_the_former_one_is_gone(tmp_path: Path) -> None:
    status = StatusWriter(tmp_path / "sync", space=100)
    status.write({"a": "b"})
    status.write({"a": "b" * 200})
    assert read_file(tmp_path / "sync").document == {"too_large": 208}
    status.close()


def test_a_reader_never_meets_half_a_document(tmp_path: Path) -> None:
    path = tmp_path / "sync"
    status = StatusWriter(path)
    status.write({"all": []})
    stop = threading.Event()

    def keep_writing() -> None:
        for count in range(100_000):
            if stop.is_set():
                return
            status.write({"all": [count % 10] * (count % 2000)})

    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        lengths = set()
        until = time.monotonic() + 1
        while time.monotonic() < until:
            numbers = read_file(path).document["all"]
            assert len(set(numbers)) <= 1
            lengths.add(len(numbers))
    finally:
        stop.set()
        writer.join()
    assert len(lengths) > 10
    status.close()


def test_the_last_word_of_a_process_killed_while_writing_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "sync"
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        status = StatusWriter(path)
        status.row[Number.NAMES] = 28
        os.write(writer, b".")
        while True:
            status.write({"all": [7] * 5000})
    os.read(reader, 1)
    time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(reader)
    os.close(writer)
    written = read_file(path)
    assert not written.alive
    assert written.pid == pid
    assert written.row[Number.NAMES] == 28
    assert written.document == {"all": [7] * 5000}


def test_a_forked_child_writes_where_its_parent_looks(tmp_path: Path) -> None:
    status = StatusWriter(tmp_path / "responder-0", space=0, own=False)
    assert read_file(tmp_path / "responder-0").pid == 0
    assert not read_file(tmp_path / "responder-0").alive
    before = status.heartbeat
    pid = os.fork()
    if not pid:
        status.adopt()
        status.row[Number.SERVING] = 1
        os._exit(0)
    os.waitpid(pid, 0)
    assert status.row[Number.SERVING] == 1
    assert status.heartbeat > before
    assert read_file(tmp_path / "responder-0").pid == pid
    assert not read_file(tmp_path / "responder-0").alive
    status.close()


def test_a_new_file_replaces_one_that_another_still_writes(tmp_path: Path) -> None:
    former, latter = (StatusWriter(tmp_path / "responder-0", space=0) for _ in range(2))
    latter.row[Number.NAMES] = 2
    former.row[Number.NAMES] = 1
    assert read_file(tmp_path / "responder-0").row[Number.NAMES] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["responder-0"]
    former.close()
    latter.close()


def test_a_disk_without_room_hides_the_status_but_costs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    status = StatusWriter(tmp_path / "responder-0")
    assert status.hidden == f"{tmp_path / 'responder-0'}: No space left on device"
    status.row[Number.NAMES] = 1
    status.write({"a": 1})
    assert list(tmp_path.iterdir()) == []
    status.close()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "No such file or directory"),
        (b"", "not a status file of this version"),
        (b"x" * 4096, "not a status file of this version"),
        (status_file.MAGIC[:-1] + b"\x63" + b"\0" * 4096, "not a status file of this version"),
        (status_file.MAGIC + b"\0" * 100, "not a status file of this version"),
    ],
)
def test_what_is_no_status_file_is_named(tmp_path: Path, content: bytes | None, problem: str) -> None:
    path = tmp_path / "sync"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StatusError, match=problem) as raised:
        read_file(path)
    assert str(path) in str(raised.value)


def test_a_process_is_known_by_pid_and_start() -> None:
    assert start_of(os.getpid()) == start_of(os.getpid()) is not None
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert start_of(pid) is None, "a zombie answers nobody"
    os.waitpid(pid, 0)
    assert start_of(pid) is None


def test_the_row_of_another_process_is_followed_to_its_successor(tmp_path: Path) -> None:
    other = OtherRow(tmp_path / "sync")
    other.look()
    assert other.row[Number.WORKS_SINCE] == 0
    (tmp_path / "sync").write_bytes(b"")
    other.look()
    assert other.row[Number.WORKS_SINCE] == 0
    for _ in range(2):
        status = StatusWriter(tmp_path / "sync")
        other.look()
        assert other.row[Number.WORKS_SINCE] == 0
        status.row[Number.WORKS_SINCE] = 1
        assert other.row[Number.WORKS_SINCE] == 1
        status.close()
    (tmp_path / "sync").unlink()
    other.look()
    assert other.row[Number.WORKS_SINCE] == 1
