"""What forwarding costs: answers from the cache, and questions that must be asked, ours beside other forwarders."""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench.forwarders import ALL, COREDNS, OURS, upstream
from bench.instance import Running, own_directory
from bench.load import Cost, details, interleaved, measure, ratio, write_queries
from bench.programs import missing
from bench.row import LeftOut, Row, at_least
from bench.settings import Settings

HOW = (
    "One upstream (`upstream.c`: any address record, TTL 300 s) on the core of the load generator. Hits: 1,000 names "
    "over and over, after a round that fills the caches; misses: names that nobody has asked for yet, the same for "
    "every server. " + "; ".join(f"{each.title}: {each.how}" for each in ALL) + "."
)

HIT_NAMES = 1_000
MISSES_A_SECOND = 60_000
"""More than any server takes, so that none is asked for a name again."""

FILL = 30.0
"""Seconds at most in which a cache takes all of the names."""

DOMAINS = 500
"""Domains that the names of misses are spread over."""

HITS, MISSES = "forwarded-hits", "forwarded-misses"


def rows(settings: Settings) -> Iterator[Row | LeftOut]:
    """Measure the rows about names that are not ours."""
    why = missing("dnsperf", "cc")
    if why:
        yield LeftOut("forwarded", why)
        return
    hits, misses = settings.wants(HITS), settings.wants(MISSES)
    if not hits and not misses:
        return
    with ExitStack() as stack:
        here = stack.enter_context(own_directory())
        to = stack.enter_context(upstream()).port
        servers = {each.key: stack.enter_context(each.serving(to)) for each in ALL if not each.missing}
        if hits:
            yield from _hits(settings, servers, here)
        if misses:
            yield from _misses(settings, servers, here)


def _hits(settings: Settings, servers: dict[str, Running], here: Path) -> Iterator[Row | LeftOut]:
    names = [f"host{i}.site{i % 50}.example.com A" for i in range(HIT_NAMES)]
    queries = write_queries(here / "hits", names, 200_000)
    each_once = here / "fill"
    each_once.write_text("\n".join(names) + "\n")
    for server in servers.values():
        measure(server, each_once, FILL, ("-n", 1))
    taken = interleaved(
        settings, {key: partial(measure, server, queries, settings.seconds) for key, server in servers.items()}
    )
    for each in ALL:
        if each.missing:
            yield LeftOut(f"{HITS}-vs-{each.key}", each.missing)
        elif each is not OURS:
            what, must = f"hits: {each.title} ÷ ours", at_least(1.0) if each is COREDNS else None
            yield ratio(f"{HITS}-vs-{each.key}", what, taken[each.key], taken[OURS.key], must=must)
    yield from _costs(HITS, "hits", taken)


def _misses(settings: Settings, servers: dict[str, Running], here: Path) -> Iterator[Row]:
    count = round(MISSES_A_SECOND * settings.seconds)

    def ask(server: Running, number: list[int]) -> Cost:
        """Ask *server* for the names of its next round; every server has the same in its n-th."""
        number[0] += 1
        queries = here / f"misses-{number[0]}"
        if not queries.exists():
            draw = random.Random(f"misses {number[0]}")
            queries.write_text("".join(f"x{draw.getrandbits(64):x}.d{i % DOMAINS}.com A\n" for i in range(count)))
        return measure(server, queries, settings.seconds, ("-n", 1))

    taken = interleaved(settings, {key: partial(ask, server, [0]) for key, server in servers.items()})
    yield from _costs(MISSES, "misses", taken)
    for each in ALL:
        if each.key in taken:
            rates = tuple(cost.rate for cost in taken[each.key])
            yield Row(f"{MISSES}-rate-{each.key}", f"misses: {each.title}", rates, "answers/s")


def _costs(key: str, what: str, taken: Mapping[str, Sequence[Cost]]) -> Iterator[Row]:
    """Give what a query costs each server, with everything that was seen."""
    for each in ALL:
        if each.key in taken:
            costs = taken[each.key]
            figures = tuple(cost.cpu for cost in costs)
            yield Row(
                f"{key}-cost-{each.key}", f"{what}: a query to {each.title}", figures, "µs", details=details(of=costs)
            )
