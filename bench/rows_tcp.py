"""What honest clients over UDP notice while others abuse TCP."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.instance import Running, names_of, on_core, own_directory, pss, serving
from bench.probing import Seen, build_prober, probing, write_probes
from bench.programs import build, missing
from bench.row import LeftOut, Row, at_most
from bench.settings import LOAD_CORE, Settings

NAMES, CLIENTS = 1_000, 200

RATE = 500
"""Honest queries a second."""

MODES = {
    "noread": "that send queries for ever and never read",
    "reset": "that connect, ask and reset as fast as they can",
}

HEAD_START = 0.5
"""Seconds of abuse before anything is measured."""


def rows(settings: Settings) -> Iterator[Row | LeftOut]:
    """Give the rows ``tcp-…``."""
    keys = [f"tcp-{mode}-{kind}" for mode in MODES for kind in ("lost", "p99")]
    if not settings.wants_any(keys):
        return
    if why := missing("cc"):
        yield from (LeftOut(key, why) for key in keys if settings.wants(key))
        return
    names = names_of(NAMES)
    with own_directory() as here:
        prober, abuser = build_prober(here), build("abuser.c", here)
        queries = write_probes(here / "queries", names)
        for mode in MODES:
            if settings.wants_any((f"tcp-{mode}-lost", f"tcp-{mode}-p99")):
                with serving(names) as server:
                    command = (abuser, server.port, mode, CLIENTS, queries)
                    probers = (prober, server.port, queries, settings.seconds)
                    rounds = [_round(server, command, probers) for _ in range(settings.rounds)]
                yield from (row for row in _rows(mode, rounds) if settings.wants(row.key))


Round = tuple[Seen, dict[str, float]]


def _rows(mode: str, rounds: list[Round]) -> list[Row]:
    what = f"{CLIENTS} TCP clients {MODES[mode]}: honest UDP at {RATE} queries/s"
    seen = [each for each, _ in rounds]
    lost = sum(each.lost + each.wrong for each in seen)
    details: dict[str, list[float]] = {
        kind: [getattr(each, kind) for each in seen] for kind in ("p50", "p999", "max", "late", "late_sent", "behind")
    }
    abuse = {name: [each[name] for _, each in rounds] for name in rounds[0][1]}
    return [
        Row(f"tcp-{mode}-lost", f"{what}, lost or wrong", (lost,), "", at_most(0)),
        Row(
            f"tcp-{mode}-p99",
            f"{what}, p99",
            tuple(each.p99 / 1000 for each in seen),
            "ms",
            at_most(20),
            None,
            {**details, **abuse},
        ),
    ]


def _round(server: Running, command: Sequence[object], honest: tuple[Path, int, Path, float]) -> Round:
    """Take one round. command: the abuser's. honest: what the prober is told."""
    with _abusing(command) as abuse:
        time.sleep(HEAD_START)
        with probing(*honest, rate=RATE) as at_work:
            seen = at_work.read()
        memory = pss(server.pids)
        abuse.send_signal(signal.SIGTERM)
        said, _ = abuse.communicate()
    return seen, {f"abuser {name}": float(value) for name, value in json.loads(said).items()} | {"MiB": memory}


@contextmanager
def _abusing(command: Sequence[object]) -> "Iterator[subprocess.Popen[str]]":
    with on_core(LOAD_CORE):
        process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
