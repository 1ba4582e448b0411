"""``meshdns check``: every fault of a configuration and of the records files that it names, each with its place."""

import argparse
from collections.abc import Iterable

from meshdns.cli.main import FINDINGS, OK, USAGE
from meshdns.cli.text import print_json
from meshdns.config import Examined, examine_file, find
from meshdns.errors import Fault
from meshdns.sources.file import read_once
from meshdns.sources.records import RecordsError
from meshdns.sources.settings import FileSettings

Place = tuple[str, Fault]
"""A file, and what is wrong with it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Check, print, and give 2 for a fault of the configuration, 1 for one of a records file, else 0.

    Raises ConfigError when there is no configuration to check.
    """
    examined = examine_file(find(arguments.config))
    in_records, names = _check_records(examined.records)
    places = [*((str(examined.path), fault) for fault in examined.faults), *in_records]
    if arguments.json:
        print_json(_as_json(examined, places, names))
    else:
        _print_text(examined, places, names)
    if examined.faults:
        return USAGE
    return FINDINGS if places else OK


def _check_records(files: Iterable[FileSettings]) -> tuple[list[Place], dict[str, int]]:
    """Read each file; gives what is wrong with them, and how many names each gives that can be used."""
    places: list[Place] = []
    names: dict[str, int] = {}
    for path, settings in {str(settings.path): settings for settings in files}.items():
        if not settings.path.exists():  # a fault of the configuration already
            continue
        try:
            table, faults = read_once(settings)
            names[path] = len(table.records)
        except RecordsError as error:
            faults = error.faults
        places += [(path, fault) for fault in faults]
    return places, names


def _as_json(examined: Examined, places: list[Place], names: dict[str, int]) -> dict[str, object]:
    return {
        "config": str(examined.path),
        "ok": not places,
        "faults": [
            {"file": file, "line": fault.line, "key": fault.key, "problem": fault.problem} for file, fault in places
        ],
        "records": names,
    }


def _print_text(examined: Examined, places: list[Place], names: dict[str, int]) -> None:
    for file, fault in places:
        print(fault.at(file))
    if examined.config is not None:
        config = examined.config
        sources = ", ".join(f"{source.name} ({source.type})" for source in config.sources)
        print(f"{examined.path}: ok, sources in order of precedence: {sources}; zones: {', '.join(config.zones)}")
    faulty = {file for file, _ in places}
    for file, count in names.items():
        print(f"{file}: {count} name{'' if count == 1 else 's'}{', without what is named above' * (file in faulty)}")
