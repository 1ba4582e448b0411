"""``meshdns check``: every fault of a configuration and of the files that it names, each with its place."""

import argparse
from collections.abc import Iterable

from meshdns.cli.main import FINDINGS, OK, USAGE
from meshdns.cli.text import print_json
from meshdns.config import Examined, examine_file, find
from meshdns.errors import Fault, ResourceError
from meshdns.publisher.settings import PublisherSettings
from meshdns.sources.file import read_once
from meshdns.sources.records import RecordsError
from meshdns.sources.settings import FileSettings

Place = tuple[str, Fault]
"""A file, and what is wrong with it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Check, print, and give 2 for a fault of the configuration, 1 for one of a file that it names, else 0.

    Raises ConfigError when there is no configuration to check.
    """
    examined = examine_file(find(arguments.config))
    in_records, names = _check_records(examined.records)
    in_mesh = _check_mesh(examined)
    places = [*((str(examined.path), fault) for fault in examined.faults), *in_records]
    if arguments.json:
        print_json(_as_json(examined, places, names, in_mesh))
    else:
        _print_text(examined, places, names, in_mesh)
    if examined.faults:
        return USAGE
    return FINDINGS if places or in_mesh else OK


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


def _check_mesh(examined: Examined) -> list[str]:
    """Give what is wrong with the resources that are published, a line each that names file, resource and key."""
    published = [each for each in (examined.config.sources if examined.config else ()) if each.type == "publisher"]
    if not published:
        return []
    from meshdns.publisher.source import read_once as read_mesh  # noqa: PLC0415 - most have none, and it loads much

    found: list[str] = []
    for settings in published:
        assert isinstance(settings, PublisherSettings)
        try:
            found += read_mesh(settings).skipped
        except ResourceError as fault:
            found.append(str(fault))
    return found


def _as_json(examined: Examined, places: list[Place], names: dict[str, int], in_mesh: list[str]) -> dict[str, object]:
    return {
        "config": str(examined.path),
        "ok": not places and not in_mesh,
        "faults": [
            {"file": file, "line": fault.line, "key": fault.key, "problem": fault.problem} for file, fault in places
        ],
        "records": names,
        "mesh": in_mesh,
    }


def _print_text(examined: Examined, places: list[Place], names: dict[str, int], in_mesh: list[str]) -> None:
    for file, fault in places:
        print(fault.at(file))
    for line in in_mesh:
        print(line)
    if examined.config is not None:
        config = examined.config
        sources = ", ".join(f"{source.name} ({source.type})" for source in config.sources)
        print(f"{examined.path}: ok, sources in order of precedence: {sources}; zones: {', '.join(config.zones)}")
    faulty = {file for file, _ in places}
    for file, count in names.items():
        print(f"{file}: {count} name{'' if count == 1 else 's'}{', without what is named above' * (file in faulty)}")
