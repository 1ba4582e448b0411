"""A watched records file: every way in which files change, and everything that can be wrong with one."""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from meshdns.inventory.event import Connected, Disconnected, Noticed, Pushed, Unchanged
from meshdns.sources import file
from meshdns.sources.file import Broken, Content, FileSource, Gone, Same, Signature, Unsettled, look, read_once
from meshdns.sources.records import RecordsError
from meshdns.sources.settings import FileSettings
from tests.sources.listening import Listening

ONE = "records: {one.mesh: 240.0.0.1}\n"
TWO = "records: {two.mesh: 240.0.0.2}\n"
LATER = 10**12
"""Nanoseconds; any change was long ago by then."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A records file."""
    (tmp_path / "records.yaml").write_text(ONE)
    return tmp_path / "records.yaml"


def settings(path: Path) -> FileSettings:
    return FileSettings(name="extra", type="file", path=path)


def watch(path: Path, confirm_every: float = 1e9) -> Listening:
    return Listening(FileSource(settings(path), interval=0.005, confirm_every=confirm_every))


def names(push: Pushed) -> set[str]:
    return set(push.table.records)


def replace(path: Path, text: str) -> None:
    """As editors and configuration tools do: written aside, moved into place."""
    aside = path.with_name("aside")
    aside.write_text(text)
    aside.replace(path)


def overwrite(path: Path, text: str | bytes) -> None:
    path.write_bytes(text.encode() if isinstance(text, str) else text)


def remove(path: Path) -> None:
    path.unlink()


def overwrite_with_the_same_size_and_time(path: Path, text: str) -> None:
    before = path.stat()
    assert len(text) == before.st_size
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", [replace, overwrite, overwrite_with_the_same_size_and_time])
async def test_a_change_is_pushed(path: Path, change: Callable[[Path, str], None]) -> None:
    async with watch(path) as heard:
        assert await heard.next(Connected) == Connected(str(path))
        first = await heard.next(Pushed)
        assert names(first) == {"one.mesh"}
        change(path, TWO)
        second = await heard.next(Pushed)
        assert names(second) == {"two.mesh"}
        assert first.version != second.version
        assert second.table.records["two.mesh"].origin.version == second.version


async def test_the_swapped_symlink_of_a_mounted_config_map_is_seen(tmp_path: Path) -> None:
    """kubelet: records.yaml → ..data/records.yaml, ..data → ..<time>, and ``..data`` is renamed over."""
    for number, text in enumerate((ONE, TWO)):
        (tmp_path / f"..{number}").mkdir()
        (tmp_path / f"..{number}" / "records.yaml").write_text(text)
        os.utime(tmp_path / f"..{number}" / "records.yaml", (1e9, 1e9))
    (tmp_path / "..data").symlink_to("..0")
    (tmp_path / "records.yaml").symlink_to("..data/records.yaml")
    async with watch(tmp_path / "records.yaml") as heard:
        await heard.next(Connected)
        assert names(await heard.next(Pushed)) == {"one.mesh"}
        (tmp_path / "..data_tmp").symlink_to("..1")
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")
        assert names(await heard.next(Pushed)) == {"two.mesh"}


async def test_a_vanished_file_is_told_once_and_its_return_is_heard(path: Path) -> None:
    async with watch(path) as heard:
        await heard.next(Connected)
        await heard.next(Pushed)
        remove(path)
        gone = await heard.next(Disconnected)
        assert gone.reason == f"{path}: No such file or directory"
        assert "put the file back" in gone.remedy
        overwrite(path, ONE)
        await heard.next(Connected)
        await heard.next(Unchanged)
        remove(path)
        await heard.next(Disconnected)
        overwrite(path, TWO)
        await heard.next(Connected)
        assert names(await heard.next(Pushed)) == {"two.mesh"}


async def test_a_file_that_is_not_there_at_the_start_is_heard_when_it_comes(tmp_path: Path) -> None:
    async with watch(tmp_path / "records.yaml") as heard:
        await heard.next(Disconnected)
        (tmp_path / "records.yaml").write_text(ONE)
        await heard.next(Connected)
        assert names(await heard.next(Pushed)) == {"one.mesh"}


async def test_a_broken_file_is_named_once_with_its_line_and_pushes_nothing(path: Path) -> None:
    async with watch(path, confirm_every=0) as heard:
        await heard.next(Connected)
        await heard.next(Pushed)
        replace(path, "records:\n  one.mesh: [240.0.0.1\n")
        event: object = await heard.next(object)
        while event == Unchanged():  # looks before the change
            event = await heard.next(object)
        assert isinstance(event, Noticed)
        assert event.problem.startswith(f"{path}:3: not YAML")
        assert "last table stays" in event.remedy
        replace(path, "zone: x\nrecords: {}\n")  # nothing said in between: not again, and not "unchanged"
        assert f"{path}:1: zone: unknown key" in (await heard.next(Noticed)).problem
        replace(path, ONE)
        await heard.next(Unchanged)
        replace(path, TWO)
        event = await heard.next(object)
        while event == Unchanged():
            event = await heard.next(object)
        assert isinstance(event, Pushed)


async def test_a_broken_file_at_the_start_delivers_nothing(path: Path) -> None:
    overwrite(path, "records: [")
    async with watch(path, confirm_every=0) as heard:
        await heard.next(Connected)
        await heard.next(Noticed)
        replace(path, ONE)
        await heard.next(Pushed)


async def test_a_bad_record_is_named_and_the_rest_is_pushed(path: Path) -> None:
    overwrite(path, "records:\n  one.mesh: 240.0.0.1\n  a..b: 240.0.0.1\n  c: 240.0.0.999\n")
    async with watch(path) as heard:
        await heard.next(Connected)
        push = await heard.next(Pushed)
        assert names(push) == {"one.mesh"}
        assert push.skipped == (
            f"{path}:3: records: 'a..b': empty label",
            f"{path}:4: records: 'c': '240.0.0.999' is not an IP address",
        )


@pytest.mark.parametrize("content", [b"\0\1\2", b"records: {a: \xff}", b"", b"records"])
async def test_what_is_no_records_file_is_noticed(path: Path, content: bytes) -> None:
    overwrite(path, content)
    async with watch(path) as heard:
        await heard.next(Connected)
        assert str(path) in (await heard.next(Noticed)).problem


async def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for odd, reason in (("pipe", "is not a file"), (".", "is a directory")):
        async with watch(tmp_path / odd) as heard:
            assert reason in (await heard.next(Disconnected)).reason


async def test_a_touched_file_is_confirmed_and_not_pushed_again(path: Path) -> None:
    async with watch(path, confirm_every=0) as heard:
        await heard.next(Connected)
        await heard.next(Pushed)
        os.utime(path)
        for _ in range(5):
            await heard.next(Unchanged)


async def test_a_second_listening_begins_with_the_whole_table(path: Path) -> None:
    source = FileSource(settings(path), interval=0.005)
    for _ in range(2):
        async with Listening(source) as heard:
            await heard.next(Connected)
            await heard.next(Pushed)
    assert repr(source) == f"<FileSource extra {path} heard>"


async def test_confirmations_keep_their_distance(path: Path) -> None:
    clock = iter(range(1000))
    source = FileSource(settings(path), interval=0.001, confirm_every=7, clock=lambda: float(next(clock)))
    async with Listening(source) as heard:
        await heard.next(Connected)
        await heard.next(Pushed)
        at = []
        for _ in range(3):
            await heard.next(Unchanged)
            at.append(next(clock))
        assert [later - earlier for earlier, later in pairwise(at)] == [7, 7]


async def test_the_loop_does_not_wait_for_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = set()

    def watched(*words: Any, **more: Any) -> file.Look:
        threads.add(threading.get_ident())
        return look(*words, **more)

    monkeypatch.setattr(file, "look", watched)
    async with watch(path) as heard:
        await heard.next(Connected)
        await heard.next(Pushed)
    assert threads
    assert threading.get_ident() not in threads


# one look at a time, the clock in hand


def take(
    path: Path, seen: Signature | None = None, digest: str = "", *, patient: bool = True, later: int = LATER
) -> object:
    return look(settings(path), seen, digest, patient=patient, now=lambda: time.time_ns() + later)


def test_nothing_new_is_the_same(path: Path) -> None:
    content = take(path)
    assert isinstance(content, Content)
    assert take(path, content.signature, content.digest) == Same()


def test_the_same_content_under_another_signature_is_not_parsed(path: Path) -> None:
    content = take(path)
    assert isinstance(content, Content)
    os.utime(path, (1, 1))
    again = take(path, content.signature, content.digest)
    assert isinstance(again, Content)
    assert (again.table, again.digest) == (None, content.digest)
    assert again.signature not in {None, content.signature}


def test_a_file_that_changed_a_moment_ago_is_waited_for(path: Path) -> None:
    assert take(path, later=0) == Unsettled()
    assert isinstance(take(path), Content)


def test_a_file_that_changes_all_the_time_is_read_all_the_same_and_then_again(path: Path) -> None:
    """Two writes within one tick of the file system's clock have one signature."""
    content = take(path, patient=False, later=0)
    assert isinstance(content, Content)
    assert content.signature is None
    assert isinstance(take(path, content.signature, content.digest), Content)


def test_a_time_in_the_future_is_not_waited_for(path: Path) -> None:
    assert isinstance(take(path, later=-LATER), Content)


def test_a_file_that_changes_while_it_is_read_is_not_taken(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = file._content

    def read_and_write(path: Path) -> bytes:
        half = content(path)
        path.write_text(TWO + "# longer now\n")
        return half

    monkeypatch.setattr(file, "_content", read_and_write)
    assert take(path) == Unsettled()
    monkeypatch.undo()
    found = take(path)
    assert isinstance(found, Content)
    assert found.table is not None
    assert set(found.table.records) == {"two.mesh"}


async def test_a_half_written_file_is_not_pushed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each half is good YAML; only what the writer leaves in the end is pushed."""
    monkeypatch.setattr(file, "SETTLE", 1.0)
    monkeypatch.setattr(file, "MAX_SETTLE_LOOKS", 10**6)
    async with watch(path) as heard:
        await heard.next(Connected)
        await heard.next(Pushed)
        waiting = asyncio.create_task(heard.next(Pushed))
        with path.open("w") as stream:
            stream.write("records:\n")
            for n in range(20):
                stream.write(f"  n{n}.mesh: 240.0.0.1\n")
                stream.flush()
                await asyncio.sleep(0.005)  # the writer's own slowness, well below SETTLE
        assert len((await waiting).table.records) == 20


def test_a_file_that_may_not_be_read_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(file, "_content", deny)  # the tests may run as root, whom no mode stops
    gone = take(path)
    assert isinstance(gone, Gone)
    assert gone.reason == f"{path}: Permission denied"
    assert "let the user that runs meshdns read it" in gone.remedy


def test_a_file_beyond_the_limit_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "MAX_SIZE", 16)
    broken = take(path)
    assert isinstance(broken, Broken)
    assert "larger than" in broken.problem


def test_a_file_can_be_read_once(path: Path, tmp_path: Path) -> None:
    table, faults = read_once(settings(path))
    assert (set(table.records), faults) == ({"one.mesh"}, ())
    for wrong, message in ((tmp_path / "gone", "No such file"), (tmp_path, "is a directory")):
        with pytest.raises(RecordsError, match=message):
            read_once(settings(wrong))
