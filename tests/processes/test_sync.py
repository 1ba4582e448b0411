"""The push street's process: follows every source, whatever one of them does; ends when told, and only then."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from meshdns import log as logs
from meshdns.config import Config
from meshdns.inventory.event import Connected, Noticed, Pushed, SourceEvent
from meshdns.inventory.record import NameRecord, Table
from meshdns.processes.child import FINISH, Child, execute
from meshdns.processes.status import SourceState
from meshdns.processes.status_file import StatusError, StatusWriter, Written, read_file
from meshdns.processes.sync import NICE, Sync, make_sources
from meshdns.store.reader import Reader
from meshdns.store.schema import store_path
from meshdns.store.writer import Writer
from tests.processes.stubbed import PATIENCE, wait_until


def config_in(directory: Path, *sources: Mapping[str, object]) -> Config:
    given = sources or ({"name": "extra", "type": "file", "path": str(directory / "records.yaml")},)
    return Config.model_validate({"data_dir": str(directory), "sources": list(given)})


def write_records(directory: Path, *names: str) -> None:
    lines = [f"  {name}: 240.0.0.{number}" for number, name in enumerate(names, 1)]
    fresh = directory / "fresh.yaml"
    fresh.write_text("records:\n" + "\n".join(lines) + "\n")
    fresh.replace(directory / "records.yaml")


@pytest.fixture
def start() -> Iterator[Callable[[Config], Child]]:
    children: list[Child] = []

    def run(config: Config) -> Child:
        child = execute("sync", "meshdns.processes.sync", {"config": config.model_dump_json().encode()})
        children.append(child)
        return child

    yield run
    for child in children:
        child.release()
        wait_until(lambda child=child: child.ended() is not None, "sync ended")  # type: ignore[misc]


def told(directory: Path, child: Child) -> SourceState | None:
    """The first source as the process *child* tells it."""
    try:
        written: Written = read_file(directory / "status" / "sync")
    except StatusError:
        return None
    if written.pid != child.pid or not written.document:  # not its own yet, or nothing told yet
        return None
    return SourceState.from_document(written.document["sources"][0])


def delivered(directory: Path, child: Child) -> SourceState | None:
    state = told(directory, child)
    return state if state is not None and state.delivered and state.pushed else None


def stored(directory: Path) -> list[str]:
    reader = Reader(store_path(directory))
    try:
        with reader.snapshot() as snapshot:
            return [each.record.name for each in snapshot.records()]
    finally:
        reader.close()


def test_a_table_reaches_the_store_and_the_status(tmp_path: Path, start: Callable[[Config], Child]) -> None:
    write_records(tmp_path, "a.mesh", "b.mesh")
    child = start(config_in(tmp_path))
    state = wait_until(lambda: delivered(tmp_path, child), "delivered")
    assert (state.name, state.type, state.names, state.connected) == ("extra", "file", 2, True)
    assert stored(tmp_path) == ["a.mesh", "b.mesh"]
    write_records(tmp_path, "c.mesh")
    wait_until(lambda: stored(tmp_path) == ["c.mesh"], "the new table")
    child.finish()
    code: list[int | None] = []
    wait_until(lambda: code.append(child.ended()) or code[-1] is not None, "ended")  # type: ignore[func-returns-value]
    assert code[-1] == 0


def test_it_is_deaf_to_signals_meant_for_the_supervisor(tmp_path: Path, start: Callable[[Config], Child]) -> None:
    write_records(tmp_path, "a.mesh")
    child = start(config_in(tmp_path))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(child.pid, number)  # from its first moment on
    wait_until(lambda: delivered(tmp_path, child), "delivered")
    assert child.ended() is None


def test_a_broken_source_is_told_and_leaves_the_others_alone(tmp_path: Path, start: Callable[[Config], Child]) -> None:
    write_records(tmp_path, "a.mesh")
    (tmp_path / "broken.yaml").write_text("records: [\n")
    broken = {"name": "broken", "type": "file", "path": str(tmp_path / "broken.yaml")}
    good = {"name": "extra", "type": "file", "path": str(tmp_path / "records.yaml")}
    child = start(config_in(tmp_path, broken, good))

    def both() -> list[SourceState] | None:
        if told(tmp_path, child) is None:
            return None
        document = read_file(tmp_path / "status" / "sync").document
        states = [SourceState.from_document(each) for each in document["sources"]]
        return states if states[1].delivered and states[0].last_error else None

    first, second = wait_until(both, "one delivered, the other told its problem")
    assert first.last_error is not None
    assert "broken.yaml" in first.last_error.problem
    assert not first.delivered
    assert second.last_error is None


def test_a_store_that_cannot_be_opened_is_tried_again(tmp_path: Path, start: Callable[[Config], Child]) -> None:
    write_records(tmp_path, "a.mesh")
    store_path(tmp_path).parent.mkdir(parents=True, exist_ok=True)
    elsewhere = Path("/proc/self/store")  # nobody, not even root, can make it
    store_path(tmp_path).symlink_to(elsewhere)
    child = start(config_in(tmp_path))
    wait_until(lambda: told(tmp_path, child), "it tells its state")
    time.sleep(0.2)
    assert child.ended() is None
    store_path(tmp_path).unlink()
    wait_until(lambda: delivered(tmp_path, child), "delivered")


def test_configuration_and_lifeline_leave_no_descriptor_behind(
    tmp_path: Path, start: Callable[[Config], Child]
) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    write_records(tmp_path, "a.mesh")
    child = start(config_in(tmp_path))
    wait_until(lambda: delivered(tmp_path, child), "delivered")
    during = set(Path("/proc/self/fd").iterdir()) - before
    assert {each.name for each in during} == {str(child.lifeline.writer)}
    assert not any("memfd" in str(entry.readlink()) for entry in Path(f"/proc/{child.pid}/fd").iterdir())


class Scripted:
    """A source that says what its script says, then does what it must not."""

    def __init__(self, name: str, *scripts: tuple[SourceEvent, ...], fault: Exception | None = None) -> None:
        self.name = name
        self._scripts = list(scripts)
        self._fault = fault
        self.begun = 0

    async def events(self) -> AsyncIterator[SourceEvent]:
        self.begun += 1
        script = self._scripts.pop(0) if self._scripts else ()
        for event in script:
            yield event
        if not self._scripts:
            await asyncio.Event().wait()
        if self._fault is not None:
            raise self._fault


def table(name: str) -> Table:
    return Table({name: NameRecord(name, (IPv4Address("240.0.0.1"),))})


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (None, "its events ended, which they never should"),
        (ValueError("boom"), "a fault of meshdns: ValueError('boom')"),
    ],
)
async def test_a_source_that_ends_or_raises_is_begun_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: Exception | None, problem: str
) -> None:
    config = config_in(tmp_path)
    writer = Writer(store_path(tmp_path), rules=config.rules(), sources=("extra",))
    status = StatusWriter(tmp_path / "status" / "sync")
    source = Scripted(
        "extra",
        (Connected("here"), Pushed(table("a.mesh"), "v1")),
        (Noticed("second life"),),
        fault=fault,
    )
    with open(os.devnull, "wb") as nothing:  # noqa: PTH123, ASYNC230
        handler = logs.LineHandler(logs.Outlet(nothing.fileno()))
        sync, finish = Sync(config, [source], writer, status, handler), asyncio.Event()
        running = asyncio.create_task(sync.run(finish))
        async with asyncio.timeout(PATIENCE):
            while "second life" not in json.dumps(read_file(tmp_path / "status" / "sync").document):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        finish.set()
        await running
    assert source.begun == 2
    (state,) = (SourceState.from_document(each) for each in read_file(tmp_path / "status" / "sync").document["sources"])
    assert state.version == "v1"
    assert writer.names_count() == 1, "what it said before stays"
    assert f"source extra: {problem}" in caplog.text
    writer.close()
    status.close()


def test_sources_are_made_in_the_order_of_the_configuration(tmp_path: Path) -> None:
    config = config_in(
        tmp_path,
        {"name": "sidecar", "type": "kuma-dp", "socket": "/run/dp.sock"},
        {"name": "kuma", "type": "kuma", "address": "127.0.0.1:5678", "plaintext": True, "dataplane": "meshdns"},
        {"name": "extra", "type": "file", "path": "/etc/records.yaml"},
    )
    sources = make_sources(config)
    assert [(type(each).__name__, each.name) for each in sources] == [
        ("KumaDpSource", "sidecar"),
        ("KumaSource", "kuma"),
        ("FileSource", "extra"),
    ]


def test_finish_in_its_first_moment_ends_it(tmp_path: Path) -> None:
    child = execute("sync", "meshdns.processes.sync", {"config": config_in(tmp_path).model_dump_json().encode()})
    os.kill(child.pid, FINISH)
    wait_until(lambda: child.ended() is not None, "ended")
    child.release()


def test_it_is_not_for_people_to_start() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "meshdns.processes.sync"], capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.returncode == 2
    assert "--lifeline" in done.stderr


def test_responders_go_first(start: Callable[[Config], Child], tmp_path: Path) -> None:
    write_records(tmp_path, "web.mesh")
    child = start(config_in(tmp_path))
    wait_until(lambda: told(tmp_path, child) is not None, "sync told its state")
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, child.pid) == min(own + NICE, 19)
    assert os.sched_getscheduler(child.pid) == os.SCHED_BATCH
