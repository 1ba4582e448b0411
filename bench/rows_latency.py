"""What an answer takes under light load, ours beside the bare C echo: a query at a time, each woken up for."""

from collections.abc import Iterator

from bench.instance import names_of, own_directory, serving
from bench.peers import ECHO
from bench.probing import RATE, Seen, build_prober, probe, write_probes
from bench.programs import missing
from bench.row import TIMES, LeftOut, Row, at_most
from bench.settings import Settings

NAMES = 1_000

KEYS = ("latency-p50", "latency-p99")


def rows(settings: Settings) -> Iterator[Row | LeftOut]:
    """Give the rows ``latency-…``."""
    if not settings.wants_any(KEYS):
        return
    if why := missing("cc"):
        yield from (LeftOut(key, why) for key in KEYS if settings.wants(key))
        return
    names = names_of(NAMES)
    ours, echo = _rounds(settings, names)
    for key, must, stretch in (("p50", 2.0, 1.6), ("p99", 1.5, 1.2)):
        if settings.wants(f"latency-{key}"):
            mine, floor = ([getattr(seen, key) for seen in rounds] for rounds in (ours, echo))
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
                    **_details("ours", ours),
                    **_details("C echo", echo),
                },
            )


def _details(name: str, rounds: list[Seen]) -> dict[str, list[float]]:
    kinds = ("p999", "max", "behind", "late", "lost")
    return {f"{name} {kind}": [getattr(seen, kind) for seen in rounds] for kind in kinds}


def _rounds(settings: Settings, names: list[str]) -> tuple[list[Seen], list[Seen]]:
    """Take the rounds of both, after one that warms up; each begins every second round."""
    seen: dict[str, list[Seen]] = {"ours": [], "echo": []}
    with own_directory() as here, ECHO.serving(names) as echo, serving(names) as ours:
        prober = build_prober(here)
        cases = {
            "ours": (ours.port, write_probes(here / "judged", names)),
            "echo": (echo.port, write_probes(here / "unjudged", names, judged=False)),
        }
        order = list(cases)
        for number in range(settings.rounds + 1):
            for name in order:
                port, queries = cases[name]
                found = probe(prober, port, queries, settings.seconds)
                if number:
                    seen[name].append(found)
            order.reverse()
    return seen["ours"], seen["echo"]
