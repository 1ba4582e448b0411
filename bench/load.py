"""The load: dnsperf on a core of its own, and what a query costs the server meanwhile."""

import random
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.instance import Running, cpu, on_core
from bench.row import TIMES, Bound, Row
from bench.settings import LOAD_CORE, Settings

CLIENTS, OUTSTANDING = 8, 200
"""Sockets, and queries that wait for an answer at once: 400 would overflow a default socket buffer, and the benchmark
would measure that."""

COMMAND = f"dnsperf -c {CLIENTS} -q {OUTSTANDING} -T 1 -l SECONDS -d QUERIES"
"""What the table says of it."""

_COMPLETED = re.compile(r"Queries completed: +(\d+)")
_LOST = re.compile(r"Queries lost: +(\d+)")
_TIME = re.compile(r"Run time \(s\): +([\d.]+)")
_RCODE = re.compile(r"(NOERROR|NXDOMAIN|SERVFAIL|REFUSED|FORMERR) (\d+) ")


@dataclass(frozen=True, slots=True)
class Load:
    """What one dnsperf saw. seconds: how long it asked. rcodes: replies by rcode."""

    completed: int
    lost: int
    seconds: float
    rcodes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Cost:
    """One round of one server. cpu: µs a query of all its processes. rate: answers a second. lost: queries."""

    cpu: float
    rate: float
    lost: int
    rcodes: Mapping[str, int]


def write_queries(path: Path, questions: Sequence[str], count: int, *, seed: int = 1) -> Path:
    """Write *count* of *questions* (name and type), uniformly at random and the same for everybody."""
    chosen = random.Random(seed).choices(questions, k=count)
    path.write_text("\n".join(chosen) + "\n")
    return path


def start_dnsperf(port: int, queries: Path, seconds: float, words: Sequence[object] = ()) -> "subprocess.Popen[str]":
    """Begin to ask; *words* are further options of dnsperf, which win over ours."""
    command: list[object] = ["dnsperf", "-s", "127.0.0.1", "-p", port, "-d", queries, "-l", f"{seconds:g}"]
    command += ["-c", CLIENTS, "-q", OUTSTANDING, "-T", 1, *words]
    with on_core(LOAD_CORE):
        return subprocess.Popen(
            [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )


def read_dnsperf(process: "subprocess.Popen[str]") -> Load:
    """Wait for *process* and read what it says. Raises RuntimeError with its words when nothing was answered."""
    said, complaints = process.communicate()
    completed, lost, seconds = _COMPLETED.search(said), _LOST.search(said), _TIME.search(said)
    if process.returncode or completed is None or lost is None or seconds is None or completed[1] == "0":
        raise RuntimeError(f"dnsperf had no answers:\n{said[-1000:]}{complaints[-1000:]}")
    rcodes = {name: int(count) for name, count in _RCODE.findall(said)}
    return Load(int(completed[1]), int(lost[1]), float(seconds[1]), rcodes)


def measure(
    server: Running,
    queries: Path,
    seconds: float,
    words: Sequence[object] = (),
    *,
    beside: tuple[Path, Sequence[object]] | None = None,
) -> Cost:
    """Ask *server* for *seconds* and give what a query cost it.

    beside: queries and options of a second dnsperf at the same time, whose queries count with the first one's.
    """
    pids = server.pids
    before = cpu(pids)
    with ExitStack() as stack:
        started = [start_dnsperf(server.port, queries, seconds, words)]
        if beside is not None:
            started.append(start_dnsperf(server.port, beside[0], seconds, beside[1]))
        for process in started:
            stack.callback(process.kill)  # of no effect on one that has ended
        loads = [read_dnsperf(process) for process in started]
    used = cpu(pids) - before
    completed = sum(load.completed for load in loads)
    rcodes: dict[str, int] = {}
    for load in loads:
        for rcode, count in load.rcodes.items():
            rcodes[rcode] = rcodes.get(rcode, 0) + count
    rate = sum(load.completed / load.seconds for load in loads)
    return Cost(used / completed * 1e6, rate, sum(load.lost for load in loads), rcodes)


def interleaved(settings: Settings, cases: Mapping[str, Callable[[], Cost]]) -> dict[str, list[Cost]]:
    """Measure each of *cases* in every round, beginning with another one each time; the first round is not counted."""
    taken: dict[str, list[Cost]] = {name: [] for name in cases}
    order = list(cases)
    for number in range(settings.rounds + 1):
        for name in order:
            cost = cases[name]()
            if number:
                taken[name].append(cost)
        order.append(order.pop(0))
    return taken


def ratio(
    key: str,
    what: str,
    over: Sequence[Cost],
    under: Sequence[Cost],
    *,
    must: Bound | None = None,
    stretch: Bound | None = None,
) -> Row:
    """Give the row of *over* divided by *under*, each cost by that of its round."""
    quotients = tuple(a.cpu / b.cpu for a, b in zip(over, under, strict=True))
    return Row(key, what, quotients, TIMES, must, stretch, details(over=over, under=under))


def details(**costs: Sequence[Cost]) -> dict[str, list[float]]:
    """Give the absolute figures of *costs*, by what they are called."""
    written: dict[str, list[float]] = {}
    for name, each in costs.items():
        written[f"{name}, cpu µs"] = [cost.cpu for cost in each]
        written[f"{name}, answers/s"] = [cost.rate for cost in each]
        written[f"{name}, lost"] = [cost.lost for cost in each]
        written[f"{name}, not NOERROR"] = [sum(cost.rcodes.values()) - cost.rcodes.get("NOERROR", 0) for cost in each]
    return written
