"""An instance's state as one value, from files whose writers live, hang or are gone."""

import json
import os
import re
import time
from pathlib import Path

import pytest

from meshdns.processes.status import LastError, SourceState, read_status
from meshdns.processes.status_file import Number, StatusWriter, directory

ABOUT = {
    "version": "0.1.0",
    "listen": ["127.0.0.1:15053"],
    "ready": True,
    "draining": False,
    "restarts": {"responder-0": 2, "responder-1": 0, "sync": 1},
}
SOURCE = SourceState(
    "kuma",
    "kuma",
    connected=True,
    connected_since=1000.5,
    peer="127.0.0.1:5678",
    protocol="delta",
    pushed=1001.0,
    heard=1002.0,
    heard_monotonic=50.0,
    version="v7",
    names=28,
    delivered=True,
    last_error=LastError("no such Dataplane", "register it", 999.0),
    skipped=("x..mesh: empty label",),
    skipped_count=41,
    notices=("two names differ in case",),
    held=("a.mesh",),
    held_count=12,
    hold_ends_in=241.5,
)


class Instance:
    """Status files of an instance whose every process is this one."""

    def __init__(self, data_dir: Path) -> None:
        folder = directory(data_dir)
        self.supervisor = StatusWriter(folder / "supervisor")
        self.responders = [StatusWriter(folder / f"responder-{index}", space=0) for index in range(2)]
        self.sync = StatusWriter(folder / "sync")
        self.supervisor.write(ABOUT)
        self.sync.write({"sources": [SOURCE.to_document()]})


def test_where_nothing_has_run_the_status_says_so(tmp_path: Path) -> None:
    status = read_status(tmp_path)
    assert not status.running
    assert not status.ready
    assert "no instance has run here" in status.problem
    assert json.loads(json.dumps(status.to_json()))["running"] is False


def test_counts_are_summed_over_processes_that_live_and_those_that_died(tmp_path: Path) -> None:
    instance = Instance(tmp_path)
    for writer, count in zip((instance.supervisor, *instance.responders), (100, 20, 3), strict=True):
        writer.row[0] = count
        writer.row[3] = count
        writer.row[Number.UDP_QUERIES] = 2 * count
        writer.row[Number.QUEUE_DROPPED] = count
    for writer, generation in zip(instance.responders, (7, 8), strict=True):
        writer.row[Number.GENERATION] = generation
        writer.row[Number.NAMES] = generation * 10
    status = read_status(tmp_path)
    assert (status.queries["NOERROR"], status.queries["NXDOMAIN"], status.queries["SERVFAIL"]) == (123, 123, 0)
    assert status.udp == 246
    assert status.drops["queue_full"] == 123
    assert (status.generation, status.names) == (8, 80), "of the responder that is ahead"
    assert status.restarts == 3
    assert (status.running, status.ready, status.problem) == (True, True, "")


def test_the_document_of_a_source_survives_json() -> None:
    assert SourceState.from_document(json.loads(json.dumps(SOURCE.to_document()))) == SOURCE


def test_what_another_version_wrote_is_read_as_far_as_it_is_known() -> None:
    known = SourceState.from_document({"name": "kuma", "type": "kuma", "colour": "green"})
    assert known == SourceState("kuma", "kuma")


def test_the_age_is_of_a_clock_that_nobody_sets(tmp_path: Path) -> None:
    instance = Instance(tmp_path)
    document = SOURCE.to_document() | {"heard": 5.0, "heard_monotonic": time.monotonic() - 60}
    instance.sync.write({"sources": [document]})
    (source,) = read_status(tmp_path).sources
    assert source.age == pytest.approx(60, abs=5)


def died(data_dir: Path) -> None:
    """Leave the status files of an instance whose process has ended."""
    pid = os.fork()
    if not pid:
        Instance(data_dir)
        os._exit(0)
    os.waitpid(pid, 0)


def test_files_of_a_dead_instance_do_not_look_alive(tmp_path: Path) -> None:
    died(tmp_path)
    status = read_status(tmp_path)
    assert (status.running, status.ready, status.draining) == (False, False, False)
    assert re.fullmatch(r"process \d+ does not run any more", status.problem)
    (source,) = status.sources
    assert not source.connected
    assert (source.name, source.names, source.version) == ("kuma", 28, "v7"), "what it knew last can still be read"
    assert source.age == pytest.approx(time.time() - 1002.0, abs=60), "by the wall clock: the other one may be new"
    assert not any(process.running for process in status.processes)


def test_a_pid_that_is_now_another_s_does_not_look_alive(tmp_path: Path) -> None:
    Instance(tmp_path)
    path = directory(tmp_path) / "supervisor"
    octets = bytearray(path.read_bytes())
    octets[16:24] = (12345).to_bytes(8, "little")  # when the process started
    path.write_bytes(octets)
    assert not read_status(tmp_path).running


def test_a_supervisor_that_hangs_is_not_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Instance(tmp_path)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 6)
    status = read_status(tmp_path)
    assert not status.running
    assert status.problem == f"process {os.getpid()} hangs"


@pytest.mark.parametrize("document", [{}, {"too_large": 99}, {"sources": []}])
def test_documents_without_content_are_read(tmp_path: Path, document: dict[str, object]) -> None:
    instance = Instance(tmp_path)
    instance.supervisor.write(document)
    instance.sync.write(document)
    status = read_status(tmp_path)
    assert status.running
    assert not status.ready
    assert status.sources == ()


def test_the_shape_of_the_json_is_a_contract(tmp_path: Path) -> None:
    Instance(tmp_path)
    document = json.loads(json.dumps(read_status(tmp_path).to_json()))
    assert list(document) == [
        "running", "ready", "draining", "problem", "version", "pid", "started", "listen", "names", "generation",
        "sources", "queries", "tcp_connections", "drops", "restarts", "processes", "forwarding",
    ]  # fmt: skip
    source = document["sources"][0]
    assert source.pop("age") > 0
    assert source == {
        "name": "kuma",
        "type": "kuma",
        "connected": True,
        "connected_since": "1970-01-01T00:16:40Z",
        "peer": "127.0.0.1:5678",
        "protocol": "delta",
        "delivered": True,
        "last_push": "1970-01-01T00:16:41Z",
        "version": "v7",
        "names": 28,
        "last_error": {
            "problem": "no such Dataplane",
            "remedy": "register it",
            "since": "1970-01-01T00:16:39Z",
        },
        "skipped": {"count": 41, "first": ["x..mesh: empty label"]},
        "notices": ["two names differ in case"],
        "held": {"count": 12, "first": ["a.mesh"], "ends_in": 241.5},
    }
    assert document["restarts"] == {"responder-0": 2, "responder-1": 0, "sync": 1}
    assert set(document["queries"]["by_rcode"]) == {
        "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "BADVERS",
    }  # fmt: skip
