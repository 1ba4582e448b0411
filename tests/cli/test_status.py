"""status: what an operator reads, for every state of an instance."""

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from meshdns.processes.status import LastError, ProcessState, SourceState, Status
from tests.cli.conftest import Meshdns

NOW = 1_800_000_000.0
HEALTHY = SourceState(
    "kuma", "kuma", connected=True, connected_since=NOW - 3600, peer="127.0.0.1:5678", protocol="delta",
    pushed=NOW - 100, heard=NOW - 100, age=100.0, version="v7", names=28, delivered=True,
)  # fmt: skip
READY = Status(
    Path("data"), running=True, ready=True, version="0.1.0", pid=77, started=NOW - 7200, listen=("127.0.0.1:15053",),
    names=28, generation=9, sources=(HEALTHY,), queries={"NOERROR": 90, "NXDOMAIN": 10, "SERVFAIL": 0}, udp=95, tcp=5,
    drops={"not_allowed": 3, "queue_full": 0}, processes=(ProcessState("sync", 78, True, 0.2, 2),),
)  # fmt: skip
REFUSED = replace(
    HEALTHY, connected=False, delivered=False, pushed=None, age=None, names=None,
    last_error=LastError("no such Dataplane", "create it, or set register: true", NOW - 60),
)  # fmt: skip

CASES: dict[str, tuple[Status, int, list[str]]] = {
    "all is well": (
        READY,
        0,
        ["meshdns 0.1.0: ready, process 77", "2h ago", "127.0.0.1:15053", "28 (generation 9)", "100 (95 UDP, 5 TCP)",
         "NOERROR 90, NXDOMAIN 10", "not allowed 3", "sync 2", "source kuma: connected to 127.0.0.1:5678 (delta) since",
         "1m 40s ago, version v7"],
    ),
    "never ran": (Status(Path("data"), problem="no instance has run here"), 1, ["not ready: no instance has run here"]),
    "died": (
        replace(READY, running=False, ready=False, problem="process 77 does not run any more"),
        1,
        ["not ready, not running", "not ready: process 77 does not run any more"],
    ),
    "draining": (replace(READY, ready=False, draining=True), 1, ["draining, process 77", "not ready: it is ending"]),
    "nothing delivered": (
        replace(READY, ready=False, sources=(REFUSED,)),
        1,
        ["source kuma: not connected", "never; unknown names are answered SERVFAIL", "last error  no such Dataplane",
         "remedy      create it, or set register: true", "kuma has not delivered yet: no such Dataplane (create"],
    ),
    "held names": (
        replace(READY, sources=(replace(HEALTHY, held=("a.mesh", "b.mesh"), held_count=12, hold_ends_in=200.0),)),
        0,
        ["12 names that its last push lacks, at most 3m 20s more: a.mesh; b.mesh"],
    ),
    "skipped names": (
        replace(READY, sources=(replace(HEALTHY, skipped=("name 'a..b.mesh': empty label",), skipped_count=1),)),
        0,
        ["1: name 'a..b.mesh': empty label"],
    ),
    "a responder hangs": (
        replace(READY, processes=(ProcessState("responder-0", 79, False, 7.0, 0),)),
        0,
        ["responder-0 (79): no heartbeat for 7.0s"],
    ),
    "evil words": (
        replace(READY, sources=(replace(REFUSED, last_error=LastError("\x1b[2Jtext\n", "", NOW)),)),
        0,
        ["last error   [2Jtext"],
    ),
}  # fmt: skip


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Stop the clock that moments are told by."""
    clock = SimpleNamespace(time=lambda: NOW, strftime=time.strftime, gmtime=time.gmtime)
    monkeypatch.setattr("meshdns.cli.text.time", clock)
    return monkeypatch


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_is_said(
    meshdns: Meshdns, still: pytest.MonkeyPatch, tmp_path: Path, case: tuple[Status, int, list[str]]
) -> None:
    status, code, said = case
    still.setattr("meshdns.cli.status.read_status", lambda data_dir: status)
    whole = meshdns("status", "--data-dir", tmp_path)
    assert whole.code == code
    for text in said:
        assert text in whole.out + whole.err
    assert "\x1b" not in whole.out + whole.err
    ready = meshdns("status", "--ready", "--data-dir", tmp_path)
    assert (ready.code, ready.out) == (code, "")
    assert bool(ready.err) == bool(code), "the reason is told where the exit code is not 0"


def test_a_directory_where_nothing_ever_ran(meshdns: Meshdns, tmp_path: Path) -> None:
    said = meshdns("status", "--data-dir", tmp_path)
    assert said.code == 1
    assert "no instance has run here" in said.err
    assert "meshdns: not ready, not running" in said.out
