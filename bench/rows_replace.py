"""A whole table replaced by a push, again and again, while clients ask: what they notice, and what it leaves behind."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.instance import ROOT, Running, answers, ask, names_of, on_core, own_directory, pss, serving, surroundings
from bench.peers import COREDNS
from bench.probing import RATE, Seen, address_of, build_prober, probing, write_probes
from bench.programs import missing
from bench.row import TIMES, LeftOut, Row, at_most
from bench.settings import LOAD_CORE, SERVER_CORE, Settings

NAMES, PUSHES = 100_000, 20
COREDNS_PUSHES = 5

BEFORE, AFTER = 1.0, 1.0
"""Seconds of asking before a push, and after its first answer."""

PATIENCE = 30.0
"""Seconds in which a push must have been seen."""

LATE = 10_000.0
"""µs. A query that took longer is late."""

NAP = 2e-3
"""Seconds between two looks of the watch: often enough for 10 ms, and hardly anything of a core that is busy."""

LATE_WHAT = "queries > 10 ms, of those that the host held up neither at the server's core nor at the prober's"
"""``rows_latency`` says how that is known; the details count all, and those late since they were sent (late_sent)."""

OWN = ("replace-late", "replace-lost", "replace-visible", "replace-memory")
THEIRS = ("replace-coredns-late", "replace-coredns-lost", "replace-coredns-visible")


@dataclass(frozen=True, slots=True)
class Replaced:
    """One push. visible: seconds until its first answer. memory: MiB of all processes afterwards."""

    seen: Seen
    visible: float
    memory: float


def rows(settings: Settings) -> Iterator[Row | LeftOut]:
    """Give the rows ``replace-…``."""
    wanted = [key for key in OWN + THEIRS if settings.wants(key)]
    if not wanted:
        return
    count = NAMES if not settings.quick else NAMES // 10
    if why := missing("cc"):
        yield from (LeftOut(key, why) for key in wanted)
        return
    if settings.wants_any(OWN):
        yield from (row for row in _own(count, 3 if settings.quick else PUSHES) if settings.wants(row.key))
    if not settings.wants_any(THEIRS):
        return
    if why := COREDNS.missing:
        yield from (LeftOut(key, why) for key in THEIRS if settings.wants(key))
        return
    yield from (row for row in _coredns(count, 1 if settings.quick else COREDNS_PUSHES) if settings.wants(row.key))


def _own(count: int, pushes: int) -> list[Row]:
    names = names_of(count)
    with own_directory() as here, _control_plane(count) as plane:
        source = f"address: '127.0.0.1:{plane.port}', plaintext: true, protocol: delta"
        with serving(
            names, sources=f"[{{name: bench, type: kuma, {source}}}]", ready=lambda port: answers(port, names[-1])
        ) as server:
            found = list(_replace(server, names, here, pushes, plane.push, prepared=plane.prepared))
    what = f"{count:,} names replaced {pushes} times under {RATE:,} queries/s on one core"
    memory = [each.memory for each in found]
    details = _details(found)
    return [
        Row("replace-late", f"{what}: {LATE_WHAT}", (_late(found),), "", at_most(0), None, details),
        Row("replace-lost", f"{what}: lost or wrong", (_failed(found),), "", at_most(0)),
        _visible("replace-visible", f"{what}: seconds until visible", found, must=2.0, stretch=1.0),
        Row(
            "replace-memory",
            f"{what}: memory (PSS of all) after the last ÷ after the second",
            (memory[-1] / memory[1],),
            TIMES,
            at_most(1.3),
            None,
            {"MiB": memory},
        ),
    ]


def _coredns(count: int, pushes: int) -> list[Row]:
    names = names_of(count)
    with own_directory() as here, COREDNS.serving(names) as server:

        def push(generation: int) -> float:
            fresh = server.directory / "hosts.fresh"
            with on_core(LOAD_CORE):
                fresh.write_text("".join(f"{address_of(generation, i)} {name}\n" for i, name in enumerate(names)))
            moment = time.monotonic()
            fresh.rename(server.directory / "hosts")
            return moment

        found = list(_replace(server, names, here, pushes, push))
    what = f"CoreDNS `hosts`: {count:,} names replaced {pushes} times under {RATE:,} queries/s on one core"
    return [
        Row("replace-coredns-late", f"{what}: {LATE_WHAT}", (_late(found),), "", details=_details(found)),
        Row("replace-coredns-lost", f"{what}: lost or wrong", (_failed(found),), ""),
        _visible("replace-coredns-visible", f"{what}: seconds until visible (it polls)", found),
    ]


def _visible(
    key: str, what: str, found: Sequence[Replaced], *, must: float | None = None, stretch: float | None = None
) -> Row:
    times = [each.visible for each in found]
    must_, stretch_ = (None if limit is None else at_most(limit) for limit in (must, stretch))
    return Row(key, what, tuple(times), "s", must_, stretch_)


def _sum(found: Sequence[Replaced], kind: str) -> float:
    return float(sum(getattr(each.seen, kind) for each in found))


def _late(found: Sequence[Replaced]) -> float:
    return float(sum(latency > LATE for each in found for latency in each.seen.calm))


def _failed(found: Sequence[Replaced]) -> float:
    return sum(_sum(found, kind) for kind in ("lost", "wrong", "stale"))


def _details(found: Sequence[Replaced]) -> dict[str, list[float]]:
    kinds = ("late", "late_sent", "lost", "wrong", "stale", "p50", "p99", "max", "behind", "held")
    return {
        "late, but for the host": [_late([each]) for each in found],
        **{kind: [getattr(each.seen, kind) for each in found] for kind in kinds},
    }


def _replace(
    server: Running,
    names: list[str],
    here: Path,
    pushes: int,
    push: Callable[[int], float],
    *,
    prepared: Callable[[int], None] = lambda _: None,
) -> Iterator[Replaced]:
    """Push and ask. push: (generation) → the moment. prepared: waits until that generation can be pushed at once."""
    prober, queries = build_prober(here), write_probes(here / "queries", names)
    for generation in range(1, pushes + 1):
        prepared(generation)
        seconds = BEFORE + PATIENCE + AFTER
        with probing(prober, server.port, queries, seconds, watched=SERVER_CORE, nap=NAP) as at_work:
            time.sleep(BEFORE)
            moment = push(generation)
            _wait_visible(server, names[-1], address_of(generation, len(names) - 1), moment)
            time.sleep(AFTER)
            seen = at_work.end()
        yield Replaced(seen, seen.first[generation] - moment, pss(server.pids))


def _wait_visible(server: Running, name: str, address: str, moment: float) -> None:
    """Ask five times a second, beside the prober, which cannot be asked while it runs."""
    wanted = bytes(int(part) for part in address.split("."))
    while True:
        reply = ask(server.port, name)
        if reply is not None and wanted in reply:
            return
        if time.monotonic() - moment > PATIENCE:
            raise RuntimeError(f"{server.name} does not show a push after {PATIENCE:g} s:\n{server.logged()[-2000:]}")
        time.sleep(0.2)


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """A control plane in a process of its own. port: where it listens."""

    process: "subprocess.Popen[str]"
    port: int

    def prepared(self, generation: int) -> None:
        """Wait until the table *generation* can be pushed."""
        self._hear("prepared", generation)

    def push(self, generation: int) -> float:
        """Push the table *generation*; give the moment at which its octets were handed over."""
        assert self.process.stdin is not None
        self.process.stdin.write("push\n")
        self.process.stdin.flush()
        return float(self._hear("pushed", generation)[2])

    def _hear(self, *words: object) -> list[str]:
        assert self.process.stdout is not None
        wanted = [str(word) for word in words]
        for line in self.process.stdout:
            if line.split()[: len(wanted)] == wanted:
                return line.split()
        raise RuntimeError("the control plane has ended")


@contextmanager
def _control_plane(count: int) -> Iterator[ControlPlane]:
    command = ["nice", "-n", "19", sys.executable, "-m", "bench.control_plane", str(count)]
    with on_core(LOAD_CORE):
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **surroundings()},
        )
    try:
        assert process.stdout is not None
        yield ControlPlane(process, int(process.stdout.readline().split()[1]))
    finally:
        process.kill()
        process.communicate()
