"""What an answer takes under light load, ours beside the bare C echo: a query at a time, each woken up for."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from bench.instance import names_of, own_directory, serving
from bench.peers import ECHO
from bench.probing import RATE, Seen, build_prober, probe, write_probes
from bench.programs import missing
from bench.row import TIMES, LeftOut, Row, at_most
from bench.settings import SERVER_CORE, Settings

NAMES = 1_000

KEYS = ("latency-p50", "latency-p99")

WINDOW = 0.5
"""Seconds that one server is asked before it is the other's turn; both see the same seconds of the machine."""

ENOUGH = 1_000
"""Queries of a round from which a p99 is taken; a round with fewer is not counted."""

HOW = (
    f"What an answer takes at {RATE:,} queries/s on a fixed schedule, from the time at which a query was due until its "
    f"answer was read, ours beside the bare C echo: each is asked for {WINDOW:g} s in turn, and the windows of a round "
    "count together, without the first 50 ms of each, in which a server finds its caches again. A host that stops a "
    "core of a virtual machine for milliseconds stops both servers alike, and would be what a p99 shows. So a process "
    "at real-time priority, which nothing but the host can hold up, sleeps 0.25 ms at a time on the servers' core, and "
    "queries within a millisecond of a moment at which it, or the prober on the other core, was held up by more than "
    "0.2 ms are not counted, of neither server; the JSON has their share (held), and the p99 of the middle window with "
    "all queries. Both servers have the highest priority (nice -20): other processes of the machine stay out of it as "
    "far as they can."
)


@dataclass(frozen=True, slots=True)
class Round:
    """What was seen of one server in one round."""

    windows: list[Seen] = field(default_factory=list)

    def calm(self, part: float) -> float:
        """Give the latency in µs that *part* of the counted queries did not exceed."""
        return quantile([each for seen in self.windows for each in seen.calm], part)

    @property
    def counted(self) -> int:
        """How many queries counted."""
        return sum(len(seen.calm) for seen in self.windows)

    @property
    def held(self) -> float:
        """The share of queries that did not count, in per cent."""
        held = sum(seen.held for seen in self.windows)
        return 100 * held / (held + self.counted)

    def middle(self, kind: str) -> float:
        """Give what *kind* was in the middle window, of all queries."""
        return quantile([getattr(seen, kind) for seen in self.windows], 0.5)


def quantile(figures: Sequence[float], part: float) -> float:
    """Give the figure that *part* of *figures* do not exceed."""
    return sorted(figures)[int((len(figures) - 1) * part)]


def rows(settings: Settings) -> Iterator[Row | LeftOut]:
    """Give the rows ``latency-…``."""
    if not settings.wants_any(KEYS):
        return
    if why := missing("cc"):
        yield from (LeftOut(key, why) for key in KEYS if settings.wants(key))
        return
    rounds = [each for each in _rounds(settings, names_of(NAMES)) if all(one.counted >= ENOUGH for one in each)]
    for key, part, must, stretch in (("p50", 0.5, 2.0, 1.6), ("p99", 0.99, 1.5, 1.2)):
        if not settings.wants(f"latency-{key}"):
            continue
        if not rounds:
            yield LeftOut(f"latency-{key}", "the host held up the cores all the time")
            continue
        mine, floor = ([each[side].calm(part) for each in rounds] for side in (0, 1))
        yield Row(
            f"latency-{key}",
            f"{key} at {RATE:,} queries/s (open loop), 1,000 names: ours ÷ C echo",
            tuple(a / b for a, b in zip(mine, floor, strict=True)),
            TIMES,
            at_most(must),
            at_most(stretch),
            {
                f"ours {key} µs": mine,
                f"C echo {key} µs": floor,
                **_details("ours", [each[0] for each in rounds]),
                **_details("C echo", [each[1] for each in rounds]),
            },
        )


def _details(name: str, rounds: list[Round]) -> dict[str, list[float]]:
    return {
        f"{name}, held %": [each.held for each in rounds],
        f"{name}, p99.9 µs": [each.calm(0.999) for each in rounds],
        f"{name}, p99 µs of all queries, middle window": [each.middle("p99") for each in rounds],
        f"{name}, max µs of all queries": [max(seen.max for seen in each.windows) for each in rounds],
        f"{name}, lost": [sum(seen.lost for seen in each.windows) for each in rounds],
    }


def _rounds(settings: Settings, names: list[str]) -> list[tuple[Round, Round]]:
    """Take the rounds of ours and the echo, after one that warms up; each begins every second window."""
    taken: list[tuple[Round, Round]] = []
    with own_directory() as here, ECHO.serving(names) as echo, serving(names) as ours:
        prober = build_prober(here)
        for pid in (*echo.pids, *ours.pids):
            with suppress(PermissionError):  # without the right to it: more noise, the same for both
                os.setpriority(os.PRIO_PROCESS, pid, -20)
        cases = [
            (0, ours.port, write_probes(here / "judged", names)),
            (1, echo.port, write_probes(here / "unjudged", names, judged=False)),
        ]
        for _ in range(settings.rounds + 1):
            taken.append((Round(), Round()))
            for _ in range(max(1, round(settings.seconds / WINDOW))):
                for side, port, queries in cases:
                    taken[-1][side].windows.append(probe(prober, port, queries, WINDOW, watched=SERVER_CORE))
                cases.reverse()
    return taken[1:]
