"""After a large push memory is given back, and while it is taken over the status file says so."""

import asyncio
import gc
import selectors
import sys
import time
import weakref
from collections.abc import AsyncIterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from meshdns import log as logs
from meshdns.config import Config
from meshdns.inventory.event import Pushed, SourceEvent
from meshdns.inventory.record import NameRecord, Table
from meshdns.processes import sync
from meshdns.processes.responder import is_push
from meshdns.processes.spare_memory import give_back
from meshdns.processes.status_file import Number, StatusWriter
from meshdns.processes.sync import Sync, TellingSelector
from meshdns.store.schema import store_path
from meshdns.store.writer import Writer


class Circle:
    """What only the cycle collector can end."""

    def __init__(self) -> None:
        self.itself = self


def test_garbage_in_circles_goes() -> None:
    gc.disable()
    try:
        gone = weakref.ref(Circle())
        assert gone() is not None
        give_back()
        assert gone() is None
    finally:
        gc.enable()


def test_names_of_attributes_are_let_go() -> None:
    """An attribute that C code looks up by a name of its own stays in the interpreter's cache with that name."""
    name = "".join(["no_such", "_attribute"])
    before = sys.getrefcount(name)
    hasattr(Circle(), name)
    give_back()
    assert sys.getrefcount(name) == before


def test_the_selector_says_since_when_the_process_works(monkeypatch: pytest.MonkeyPatch) -> None:
    row = [7] * (Number.WORKS_SINCE + 1)
    waiting: list[int] = []

    def wait(self: object, timeout: float | None = None) -> list[object]:
        waiting.append(row[Number.WORKS_SINCE])
        return []

    monkeypatch.setattr(selectors.DefaultSelector, "select", wait)
    with TellingSelector(row) as selector:
        selector.select(0)
    assert waiting == [0]
    assert 0 <= time.monotonic() * 1000 - row[Number.WORKS_SINCE] < 60_000


@pytest.mark.parametrize(
    ("since", "push"), [(0, False), (99_999, False), (99_995, True), (95_000, True), (70_000, False), (100_001, False)]
)
def test_neither_a_heartbeat_nor_a_dead_process_is_a_push(since: int, push: bool) -> None:
    assert is_push(since, 100.0) == push


class Pushes:
    """A source of one table."""

    name = "extra"

    def __init__(self, count: int) -> None:
        names = [f"n{number}.mesh" for number in range(count)]
        self.taken = asyncio.Event()
        self._table = Table({name: NameRecord(name, (IPv4Address("240.0.0.1"),)) for name in names})

    async def events(self) -> AsyncIterator[SourceEvent]:
        yield Pushed(self._table, "1")
        self.taken.set()
        await asyncio.Event().wait()


@pytest.mark.parametrize(("count", "large"), [(9, False), (10, True)])
async def test_only_after_a_large_push(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, large: bool
) -> None:
    given = asyncio.Event()
    monkeypatch.setattr(sync, "LARGE", 10)
    monkeypatch.setattr(sync, "SETTLED", 0.0)
    monkeypatch.setattr(sync, "give_back", given.set)
    sources = [{"name": "extra", "type": "file", "path": str(tmp_path / "records.yaml")}]
    config = Config.model_validate({"data_dir": str(tmp_path), "sources": sources})
    writer = Writer(store_path(tmp_path), rules=config.rules(), sources=["extra"])
    status = StatusWriter(tmp_path / "status" / "sync")
    finish, source = asyncio.Event(), Pushes(count)
    with (tmp_path / "log").open("wb") as file:
        following = Sync(config, [source], writer, status, logs.LineHandler(logs.Outlet(file.fileno())))
        running = asyncio.create_task(following.run(finish))
        async with asyncio.timeout(30):
            await source.taken.wait()
            assert (following._giving_back is not None) == large
            if large:
                await given.wait()
        finish.set()
        await running
    writer.close()
    status.close()
