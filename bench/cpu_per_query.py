"""What a query costs: CPU of all serving processes, ours beside others, in one run.

Each server is held to core 1 and the load generator (dnsperf) to core 0; rounds are interleaved and medians given with
their spread, because on a shared machine a single round scatters by a third. CPU is read from /proc: below 5 µs a query
the generator is the limit, and rates say nothing. Needs dnsperf and a C compiler; unbound and knotd join when they are
there. ``python bench/cpu_per_query.py [--names 1000] [--rounds 5] [--seconds 3]`` writes Markdown and JSON into
``bench/results``.
"""

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
TICK = os.sysconf("SC_CLK_TCK")
SERVER_CORE, LOAD_CORE = "1", "0"


@dataclass
class Peer:
    """A server under load, and what was measured of it."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    cost: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)


def names_of(count: int) -> list[str]:
    """Give the names of a mesh of *count* services."""
    return [f"svc{i}.ns{i % 17}.svc.{8000 + i % 100}.mesh" for i in range(count)]


def address(i: int) -> str:
    """Give the VIP of the i-th name."""
    return f"240.{i >> 16}.{i >> 8 & 255}.{i & 255}"


def free_port() -> int:
    """Give a port that is free for UDP and TCP."""
    sys.path.insert(0, str(ROOT))
    from meshdns.transport.sockets import bind

    bound = bind(["127.0.0.1:0"])
    port = bound.rows[0][0].udp.getsockname()[1]
    bound.close()
    return int(port)


def start_echo(here: Path, names: list[str], port: int) -> list[str]:
    """Build the C floor; give its command."""
    binary = here / "echo"
    subprocess.run(["cc", "-O2", "-o", str(binary), str(HERE / "echo.c")], check=True)
    return [str(binary), str(port)]


def start_meshdns(here: Path, names: list[str], port: int) -> list[str]:
    """Write our configuration; give our command."""
    rows = "".join(f"  {name}: {address(i)}\n" for i, name in enumerate(names))
    (here / "records.yaml").write_text(f"records:\n{rows}")
    (here / "meshdns.yaml").write_text(
        f"data_dir: data\nlisten: ['127.0.0.1:{port}']\nsources: [{{name: bench, type: file, path: records.yaml}}]\n"
    )
    return [sys.executable, "-m", "meshdns", "serve", "--config", str(here / "meshdns.yaml")]


def start_unbound(here: Path, names: list[str], port: int) -> list[str]:
    """Write Unbound's configuration; give its command."""
    data = "".join(f'  local-data: "{name}. 30 A {address(i)}"\n' for i, name in enumerate(names))
    (here / "unbound.conf").write_text(
        f'server:\n  interface: 127.0.0.1@{port}\n  do-daemonize: no\n  chroot: ""\n  username: ""\n  pidfile: ""\n'
        '  num-threads: 1\n  use-syslog: no\n  so-rcvbuf: 1m\n  module-config: "iterator"\n'
        f'  local-zone: "mesh." static\n{data}'
    )
    return ["unbound", "-d", "-c", str(here / "unbound.conf")]


def start_knot(here: Path, names: list[str], port: int) -> list[str]:
    """Write Knot's configuration and zone; give its command."""
    zone = "".join(f"{name}. A {address(i)}\n" for i, name in enumerate(names))
    (here / "mesh.zone").write_text(
        f"$TTL 30\nmesh. SOA ns.mesh. h.mesh. 1 3600 600 86400 5\nmesh. NS ns.mesh.\n{zone}"
    )
    (here / "knot.conf").write_text(
        f"server:\n  listen: 127.0.0.1@{port}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n"
        f"  rundir: {here}\n  pidfile: {here}/knot.pid\ncontrol:\n  listen: {here}/knot.sock\n"
        f"database:\n  storage: {here}\nlog:\n  - target: stderr\n    any: warning\n"
        f"zone:\n  - domain: mesh.\n    file: {here}/mesh.zone\n"
    )
    return ["knotd", "-c", str(here / "knot.conf")]


PEERS: dict[str, tuple[str | None, Callable[[Path, list[str], int], list[str]]]] = {
    "C echo": ("cc", start_echo),
    "meshdns": (None, start_meshdns),
    "Unbound": ("unbound", start_unbound),
    "Knot": ("knotd", start_knot),
}


def family(pid: int) -> list[int]:
    """Give *pid* and every process below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid] + [each for child in children for each in family(int(child))]


def cpu(pids: list[int]) -> float:
    """Give the seconds of CPU that *pids* have used."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICK


def load(port: int, queries: Path, seconds: int) -> int:
    """Ask for *seconds*; give how many queries were answered."""
    command = ["taskset", "-c", LOAD_CORE, "dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", str(queries)]
    done = subprocess.run(
        [*command, "-c", "8", "-q", "200", "-T", "1", "-l", str(seconds)], capture_output=True, text=True, check=True
    )
    return next(int(line.split()[2]) for line in done.stdout.splitlines() if "Queries completed" in line)


def measure(peer: Peer, queries: Path, seconds: int) -> None:
    """Take one round of *peer*."""
    pids = family(peer.process.pid)
    for pid in pids:
        subprocess.run(["taskset", "-apc", SERVER_CORE, str(pid)], stdout=subprocess.DEVNULL, check=True)
    before = cpu(pids)
    answered = load(peer.port, queries, seconds)
    peer.cost.append((cpu(pids) - before) / answered * 1e6)
    peer.rate.append(answered / seconds)


def report(peers: list[Peer], settings: argparse.Namespace) -> str:
    """Give the table in Markdown."""
    floor = peers[0]
    lines = [
        f"# CPU per query: {settings.names:,} names, A, asked at random",
        "",
        f"{settings.rounds} interleaved rounds of {settings.seconds} s; Python {platform.python_version()}, "
        f"Linux {platform.release()}, {os.cpu_count()} cores. Median (lowest to highest), and ratios within a round.",
        "",
        "| server | CPU µs a query | ÷ C echo | queries/s |",
        "|---|---|---|---|",
    ]
    for peer in peers:
        ratios = [own / base for own, base in zip(peer.cost, floor.cost, strict=True)]
        lines.append(
            f"| {peer.name} | {statistics.median(peer.cost):.1f} ({min(peer.cost):.1f} to {max(peer.cost):.1f}) "
            f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) "
            f"| {statistics.median(peer.rate):,.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the rounds and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--names", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    settings = parser.parse_args()
    names = names_of(settings.names)
    peers: list[Peer] = []
    with tempfile.TemporaryDirectory() as directory:
        queries = Path(directory) / "queries"
        chosen = random.Random(1).choices(names, k=200_000)
        queries.write_text("".join(f"{name} A\n" for name in chosen))
        try:
            for name, (needs, start) in PEERS.items():
                if needs is not None and shutil.which(needs) is None:
                    print(f"{name} is left out: no {needs}")
                    continue
                here = Path(directory) / name.replace(" ", "-")
                here.mkdir(mode=0o700)
                port = free_port()
                command = start(here, names, port)
                with (here / "log").open("wb") as log:
                    peers.append(Peer(name, port, subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)))
            time.sleep(2 + settings.names / 10_000)  # dnsperf would take a refusal for a loss
            for number in range(settings.rounds + 1):
                for peer in peers:
                    measure(peer, queries, settings.seconds)
                    if number == 0:  # warm-up
                        peer.cost.clear()
                        peer.rate.clear()
        finally:
            for peer in peers:
                peer.process.terminate()
                peer.process.wait()
    table = report(peers, settings)
    print(table)
    stem = HERE / "results" / f"cpu-per-query-{settings.names}"
    stem.with_suffix(".md").write_text(table)
    figures = {peer.name: {"cpu_us": peer.cost, "rate": peer.rate} for peer in peers}
    stem.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
