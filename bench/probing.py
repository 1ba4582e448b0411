"""The open-loop prober: asks on a fixed schedule from the load core, and says what every answer took."""

import json
import random
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.instance import on_core
from bench.programs import build
from bench.settings import LOAD_CORE

RATE = 5_000
"""Queries a second: far from anybody's limit, so that waiting in a queue is the exception."""

LATE_MS = 10
"""Milliseconds after which an answer counts as late."""

MIXED = 100_000
"""Queries that are asked in turn, chosen at random once."""

OUTSTANDING = "2"
"""Seconds that the prober waits for what it sent last."""

GENERATIONS = 128
"""So many tables the prober can tell apart by their addresses."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one prober saw. Percentiles in µs, from the time at which a query was due until its reply was read.

    lost: queries without an answer. wrong: answers that are not the right one. late: those over 10 ms; late_sent: those
    that took so long from sending until the reply had reached our socket. stale: answers of an older table after one of
    a newer. behind: µs of the longest delay of a sending. first: generation → CLOCK_MONOTONIC of its first answer.
    calm: µs of each query that no stall of a core was near; held: how many others there were. Both only where a core is
    watched, and without the first 50 ms.
    """

    sent: int
    lost: int
    wrong: int
    late: int
    late_sent: int
    stale: int
    p50: float
    p90: float
    p99: float
    p999: float
    max: float
    behind: float
    first: Mapping[int, float]
    calm: Sequence[float] = ()
    held: int = 0


def build_prober(directory: Path) -> Path:
    """Compile the prober into *directory*."""
    return build("prober.c", directory)


def address_of(generation: int, i: int) -> str:
    """Give the VIP of the i-th name in the table *generation*, as the prober reads it; 0 is what a file has."""
    return f"240.{(generation % GENERATIONS) << 1 | i >> 16}.{i >> 8 & 255}.{i & 255}"


def write_probes(path: Path, names: Sequence[str], *, judged: bool = True, seed: int = 1) -> Path:
    """Write what to ask, uniformly at random and the same for everybody. judged: whether the address must be right."""
    chosen = random.Random(seed).choices(range(len(names)), k=MIXED)
    path.write_text("".join(f"{names[i]} {i}\n" if judged else f"{names[i]}\n" for i in chosen))
    return path


@dataclass(frozen=True, slots=True)
class Probing:
    """A prober at work."""

    process: "subprocess.Popen[str]"

    def end(self) -> Seen:
        """Have it send nothing more, and give what it saw."""
        self.process.send_signal(signal.SIGTERM)
        return self.read()

    def read(self) -> Seen:
        """Wait until its time is over and give what it saw."""
        said, _ = self.process.communicate()
        if self.process.returncode or not said:
            raise RuntimeError(f"the prober ended with {self.process.returncode}")
        document = json.loads(said)
        first = {int(generation): moment for generation, moment in document.pop("first").items()}
        return Seen(**document, first=first)


@contextmanager
def probing(
    prober: Path,
    port: int,
    queries: Path,
    seconds: float,
    *,
    rate: float = RATE,
    watched: int | None = None,
    nap: float = 0.25e-3,
) -> Iterator[Probing]:
    """Ask 127.0.0.1 at *port* for at most *seconds*; the prober is gone when the block ends.

    watched: a core, the server's, whose stalls are to be known. nap: seconds between two looks at it.
    """
    command = [str(word) for word in (prober, port, f"{rate:g}", f"{seconds:g}", queries)]
    if watched is not None:
        command += [OUTSTANDING, str(watched), f"{nap * 1e6:.0f}"]
    with on_core(LOAD_CORE):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield Probing(process)
    finally:
        process.kill()  # of no effect on one that has ended
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def probe(
    prober: Path, port: int, queries: Path, seconds: float, *, rate: float = RATE, watched: int | None = None
) -> Seen:
    """Ask for *seconds* and give what was seen. Raises RuntimeError when an answer was wrong, or none came."""
    with probing(prober, port, queries, seconds, rate=rate, watched=watched) as at_work:
        seen = at_work.read()
    if seen.wrong or seen.lost == seen.sent:
        raise RuntimeError(f"{seen.wrong} wrong answers and {seen.lost} lost of {seen.sent} queries")
    return seen
