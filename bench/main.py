"""``python -m bench``: measures every row of the table in one run, and writes it as Markdown and JSON."""

import argparse
import os
import secrets
import shlex
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from bench import load, rows_cpu, rows_forwarding, rows_latency, rows_memory, rows_replace, rows_start, rows_tcp
from bench.programs import commit, machine, programs, versions
from bench.row import LeftOut, Row, figures
from bench.settings import LOAD_CORE, SERVER_CORE, Settings
from bench.table import Results, ResultsError, Section, check_place, merge, read

MODULES: tuple[tuple[str, ModuleType], ...] = (
    ("CPU of a query for a mesh name", rows_cpu),
    ("Forwarding", rows_forwarding),
    ("Latency", rows_latency),
    ("Replacing the whole table", rows_replace),
    ("Memory", rows_memory),
    ("Start", rows_start),
    ("Abuse of TCP", rows_tcp),
)
"""Sections of the table in its order. A module gives its rows by ``rows(settings)``, and says in ``HOW``, or else in
its docstring, how they are measured."""

RESULTS = Path(__file__).parent / "results"


def main(argv: Sequence[str] | None = None) -> int:
    """Do what *argv* says; give the exit code: 0 also for bounds that were missed, 1 for what could not be measured."""
    words = sys.argv[1:] if argv is None else list(argv)
    arguments = _parser().parse_args(words)
    try:
        if arguments.show:
            print(merge([read(path) for path in arguments.show]).to_markdown(), end="")
            return 0
        return _run(arguments, words)
    except ResultsError as fault:
        print(f"bench: {fault}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="KEY", help="rows whose key begins so; not written")
    parser.add_argument("--rounds", type=int, help="counted rounds (5)")
    parser.add_argument("--seconds", type=float, help="of load in a round (3)")
    parser.add_argument("--quick", action="store_true", help="see that everything works: 1 round of 1 s; not written")
    parser.add_argument("--results", type=Path, help="where table.md and table.json go (bench/results for a whole run)")
    parser.add_argument("--overwrite", action="store_true", help="some rows may replace the results of another run")
    parser.add_argument(
        "--show", type=Path, nargs="+", metavar="JSON", help="only write results of one run as Markdown"
    )
    return parser


def _run(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    quick = bool(arguments.quick)
    settings = Settings(
        rounds=arguments.rounds or (1 if quick else 5),
        seconds=arguments.seconds or (1.0 if quick else 3.0),
        quick=quick,
        only=tuple(arguments.only),
    )
    run = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    partial = bool(settings.only) or quick
    place: Path | None = arguments.results or (None if partial else RESULTS)
    if place is not None:  # before anything is measured for nothing
        check_place(place / "table.json", run, partial=partial, force=arguments.overwrite)
    if not {SERVER_CORE, LOAD_CORE} <= os.sched_getaffinity(0):
        raise ResultsError(f"cores {SERVER_CORE} and {LOAD_CORE} are needed: one for servers, one for the load")
    _say_what_is_missing()
    results = Results(
        run=run,
        when=time.strftime("%Y-%m-%d %H:%M %Z"),
        command=shlex.join(["python", "-m", "bench", *words]),
        load=load.COMMAND,
        commit=commit(),
        rounds=settings.rounds,
        seconds=settings.seconds,
        quick=quick,
        partial=bool(settings.only),
        machine=machine(),
        versions=versions(),
        sections=(),
    )
    failures = 0
    for title, module in MODULES:
        rows: list[Row | LeftOut] = []
        try:
            rows.extend(_told(module, settings, title))
        except Exception as fault:  # what the others measure is not lost for it
            traceback.print_exc()
            failures += 1
            rows.append(
                LeftOut(title, f"the measurement failed: {str(fault).splitlines()[0] if str(fault) else fault!r}")
            )
        if rows:
            how = " ".join((getattr(module, "HOW", None) or module.__doc__ or "").replace("``", "`").split())
            results = replace(results, sections=(*results.sections, Section(title, how, tuple(rows))))
        if place is not None:  # after every section: a run takes its time, and may be broken off
            place.mkdir(parents=True, exist_ok=True)
            (place / "table.json").write_text(results.to_json())
            (place / "table.md").write_text(results.to_markdown())
    print()
    print(results.to_markdown(), end="")
    if place is None:
        print("\nNot written anywhere: not a whole run, and no --results was given.", file=sys.stderr)
    return 1 if failures else 0


def _say_what_is_missing() -> None:
    for program in programs().values():
        if program.path is None:
            print(f"{program.title} is not here, and its rows are left out: {program.hint}", file=sys.stderr)


def _told(module: ModuleType, settings: Settings, title: str) -> Iterator[Row | LeftOut]:
    """Measure the rows of *module*, and tell each as it comes."""
    for row in module.rows(settings):
        if isinstance(row, LeftOut):
            print(f"{title}: {row.key}: left out: {row.why}", file=sys.stderr, flush=True)
        elif not any(row.key.startswith(only) for only in settings.only or ("",)):
            continue
        else:
            verdict = {True: "met", False: "MISSED", None: ""}[row.met]
            bound = "" if row.must is None else f" (must be {row.must}: {verdict})"
            print(f"{title}: {row.key}: {figures(row.measured)} {row.unit}{bound}", file=sys.stderr, flush=True)
        yield row
