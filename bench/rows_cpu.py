"""What a query costs: CPU of all serving processes, ours beside others, in interleaved rounds of one run."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import peers
from bench.instance import Running, names_of, own_directory, pin, pss, serving
from bench.load import Cost, details, interleaved, measure, ratio, write_queries
from bench.peers import Peer
from bench.programs import missing
from bench.row import Bound, LeftOut, Row, at_least, at_most
from bench.settings import SERVER_CORE, Settings
from meshdns.processes.status_file import Number, read_file

ALL = (peers.ECHO, peers.UNBOUND, peers.KNOT, peers.DNSMASQ, peers.COREDNS, peers.ENVOY)

HOW = (
    "CPU (user and system) of all processes of a server, divided by the queries that were answered. Names are asked "
    "uniformly at random, of every server the same. " + "; ".join(f"{peer.title}: {peer.how}" for peer in ALL) + "."
)

SMALL, LARGE, HUGE = 1_000, 100_000, 1_000_000
MANY = 1_000_000
"""Queries of a file where the names must not fit into the caches of the processor."""

OURS, PORTABLE = "meshdns", "meshdns, portable listener"
MIXED_TCP = 0.01
"""Share of the mixed queries that come over TCP."""

PORTS = 64
"""Client ports over which the shares of two responders are looked at."""

Rows = Iterator[Row | LeftOut]
Start = Callable[[], AbstractContextManager[Running]]


@dataclass(frozen=True, slots=True)
class Beside:
    """Our figure against a peer's: ours ÷ theirs where *must* is an upper bound, theirs ÷ ours where it is a lower."""

    key: str
    peer: Peer
    must: Bound
    stretch: Bound


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that are measured together. words: options of dnsperf. shown: peers whose cost informs only."""

    key: str
    what: str
    names: int
    queries: int
    words: Sequence[str]
    besides: Sequence[Beside]
    shown: Sequence[Peer]
    portable: bool = False

    def keys(self) -> list[str]:
        """Give the keys of its rows with a bound."""
        return [f"{self.key}-vs-{beside.key}" for beside in self.besides]

    @property
    def cost_key(self) -> str:
        """What the keys of its rows without a bound begin with."""
        return f"{self.key}-cost"


HOT = (
    Beside("echo", peers.ECHO, at_most(1.7), at_most(1.3)),
    Beside("unbound", peers.UNBOUND, at_most(1.1), at_most(0.85)),
    Beside("knot", peers.KNOT, at_most(2.2), at_most(1.5)),
    Beside("envoy", peers.ENVOY, at_least(1.6), at_least(2.0)),
    Beside("coredns", peers.COREDNS, at_least(1.9), at_least(2.5)),
)
FAR = (
    Beside("unbound", peers.UNBOUND, at_most(1.2), at_most(0.95)),
    Beside("coredns", peers.COREDNS, at_least(1.7), at_least(2.2)),
)
GROUPS = (
    Group("hot-a", "1,000 names", SMALL, 200_000, (), HOT, (peers.DNSMASQ,), portable=True),
    Group("hot-edns", "1,000 names, EDNS", SMALL, 200_000, ("-e",), HOT, ()),
    Group("large", "100,000 names", LARGE, MANY, (), FAR, (peers.KNOT, peers.DNSMASQ, peers.ENVOY)),
)


def rows(settings: Settings) -> Rows:
    """Measure what queries for our own names cost."""
    why = missing("dnsperf")
    if why:
        yield LeftOut("hot, large, mixed, million, responders", why)
        return
    for group in GROUPS:
        yield from _group(settings, group)
    for keys, measured in (
        (("mixed-vs-plain",), _mixed),
        (("responders-cost", "responders-share"), _responders),
        (("million-vs-large", "million-memory"), _million),
    ):
        if settings.wants_any(keys):
            yield from measured(settings)


def _group(settings: Settings, group: Group) -> Rows:
    """Measure one group: every server with the same names, asked in turn."""
    costs_wanted = settings.wants(group.cost_key)
    besides = [b for b, key in zip(group.besides, group.keys(), strict=True) if settings.wants(key) or costs_wanted]
    shown = group.shown if costs_wanted else ()
    if not besides and not shown:
        return
    names = names_of(group.names)
    starts: dict[str, Start] = {OURS: partial(serving, names)}
    if group.portable and costs_wanted:
        starts[PORTABLE] = partial(serving, names, listener="portable")
    wanted = [*(beside.peer for beside in besides), *shown]
    starts |= {peer.title: partial(peer.serving, names) for peer in wanted if not peer.missing}
    with own_directory() as here, ExitStack() as stack:
        queries = write_queries(here / "queries", [f"{name} A" for name in names], group.queries)
        servers = {title: stack.enter_context(start()) for title, start in starts.items()}
        taken = interleaved(
            settings,
            {
                title: partial(measure, server, queries, settings.seconds, group.words)
                for title, server in servers.items()
            },
        )
    for beside in besides:
        key, title = f"{group.key}-vs-{beside.key}", beside.peer.title
        if title not in taken:
            yield LeftOut(key, beside.peer.missing)
        elif beside.must.op == "<=":
            what = f"{group.what}: ours ÷ {title}"
            yield ratio(key, what, taken[OURS], taken[title], must=beside.must, stretch=beside.stretch)
        else:
            what = f"{group.what}: {title} ÷ ours"
            yield ratio(key, what, taken[title], taken[OURS], must=beside.must, stretch=beside.stretch)
    for title, costs in taken.items():
        key = f"{group.cost_key}-{title.lower().replace(',', '').replace(' ', '-')}"
        what = f"{group.what}: a query to {title}"
        yield Row(key, what, tuple(each.cpu for each in costs), "µs", details=details(of=costs))


def _mixed(settings: Settings) -> Rows:
    """Measure what lies beside the plain case: no such type, no such name, TCP."""
    names = names_of(SMALL)
    draw = random.Random(2)
    questions = [f"{name} AAAA" for name in draw.choices(names, k=MANY // 10 * 5)]
    questions += [f"no{draw.randrange(10**9)}.{name} A" for name in draw.choices(names, k=MANY // 10)]
    questions += [f"{name} A" for name in draw.choices(names, k=MANY // 10 * 4)]
    draw.shuffle(questions)
    with own_directory() as here, serving(names) as server:
        plain = write_queries(here / "plain", [f"{name} A" for name in names], 200_000)
        mixed = here / "mixed"
        mixed.write_text("\n".join(questions) + "\n")
        last: list[Cost] = []

        def ask_plain() -> Cost:
            last[:] = [measure(server, plain, settings.seconds)]
            return last[0]

        def ask_mixed() -> Cost:
            rate = last[0].rate if last else 10_000
            tcp = ("-m", "tcp", "-Q", max(1, round(rate * MIXED_TCP)))
            return measure(server, mixed, settings.seconds, beside=(mixed, tcp))

        taken = interleaved(settings, {"plain": ask_plain, "mixed": ask_mixed})
    what = "half AAAA (NODATA), a tenth NXDOMAIN, 1 % TCP: ours ÷ our plain A figure"
    yield ratio("mixed-vs-plain", what, taken["mixed"], taken["plain"], must=at_most(1.4), stretch=at_most(1.2))


def _million(settings: Settings) -> Rows:
    """Measure ten times the names of the largest mesh that anybody told of."""
    with own_directory() as here, ExitStack() as stack:
        servers: dict[int, Running] = {}
        queries: dict[int, Path] = {}
        for count in (LARGE, HUGE):
            names = names_of(count)
            queries[count] = write_queries(here / f"{count}", [f"{name} A" for name in names], MANY)
            servers[count] = stack.enter_context(serving(names, core=None))  # reading them may take both cores
            pin(servers[count].pids, SERVER_CORE)
        taken = interleaved(
            settings,
            {str(n): partial(measure, servers[n], queries[n], settings.seconds) for n in (LARGE, HUGE)},
        )
        parts = {f"{_role(servers[HUGE], pid)}, MiB": [pss([pid])] for pid in servers[HUGE].pids}
    huge, large = taken[str(HUGE)], taken[str(LARGE)]
    yield ratio("million-vs-large", "1,000,000 names: ours ÷ our 100,000 figure", huge, large, must=at_most(1.6))
    memory = sum(each[0] for each in parts.values())
    what = "1,000,000 names: memory of all processes (PSS)"
    yield Row("million-memory", what, (memory,), "MiB", at_most(1024), details=parts)


def _role(server: Running, pid: int) -> str:
    """Say what process *pid* of our *server* is."""
    if b"meshdns.processes.sync" in Path(f"/proc/{pid}/cmdline").read_bytes():
        return "sync"
    return "supervisor" if pid == server.process.pid else "responder"


def _responders(settings: Settings) -> Rows:
    """Measure what a second responder costs, and how evenly the kernel shares clients out."""
    names = names_of(SMALL)
    with own_directory() as here, ExitStack() as stack:
        queries = write_queries(here / "queries", [f"{name} A" for name in names], 200_000)
        one = stack.enter_context(serving(names))
        two = stack.enter_context(serving(names, responders=2))
        taken = interleaved(
            settings,
            {
                "two": partial(measure, two, queries, settings.seconds),
                "one": partial(measure, one, queries, settings.seconds),
            },
        )
        shares = tuple(_share(two, queries, settings.seconds) for _ in range(settings.rounds))
    yield ratio("responders-cost", "2 responders: a query ÷ that of 1", taken["two"], taken["one"], must=at_most(1.15))
    what = f"2 responders: share of the busier one over {PORTS} client ports"
    yield Row("responders-share", what, shares, "%", at_most(65))


def _share(server: Running, queries: Path, seconds: float) -> float:
    """Ask from 64 ports; give the share of the busier responder in per cent."""
    before = _counted(server.directory)
    measure(server, queries, seconds, ("-c", PORTS))
    time.sleep(1.5)  # the counters are written once a second
    took = [after - start for start, after in zip(before, _counted(server.directory), strict=True)]
    return 100 * max(took) / sum(took)


def _counted(directory: Path) -> list[int]:
    """Give how many datagrams each responder has received."""
    files = sorted((directory / "data" / "status").glob("responder*"))
    return [read_file(path).row[Number.UDP_QUERIES] for path in files]
