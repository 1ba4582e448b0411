"""``meshdns names [PATTERN]``: the names that are served, from the store, whether or not a server runs."""

import argparse
import sys
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

from meshdns.cli.instance import configuration, snapshot
from meshdns.cli.text import one_line, print_json, table
from meshdns.inventory.record import NameRecord
from meshdns.store.reader import StoredRecord


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb takes."""
    parser.add_argument("pattern", nargs="?", metavar="PATTERN", help="only names like this: 'echo*', '*.svc.mesh'")
    parser.add_argument("--json", action="store_true", help="an array of records")


def run(arguments: argparse.Namespace) -> int:
    """Print the names; 1 when a pattern matches none."""
    with snapshot(configuration(arguments)) as seen:
        wanted = _like(arguments.pattern)
        found = [stored for stored in seen.records() if wanted(stored.record.name.lower())]
    found.sort(key=lambda stored: stored.record.name)  # the store's order is that of the names in lower case
    if arguments.json:
        print_json([record_json(stored.record) for stored in found])
    elif found:
        for line in table(("NAME", "ADDRESSES", "TTL", "PORTS", "SERVICE", "SOURCE"), map(_row, found)):
            print(line)
        if sys.stdout.isatty() and any(port.placeholder for stored in found for port in stored.record.ports):
            print("* a placeholder: stands for whatever the service's real port is")
    if found or not arguments.pattern:
        return 0
    print(f"no name is like {arguments.pattern!r}", file=sys.stderr)
    return 1


def record_json(record: NameRecord) -> dict[str, Any]:
    """Give a record as ``names --json`` and ``explain --json`` print it."""
    return {
        "name": record.name,
        "addresses": [str(address) for address in record.addresses],
        "ttl": record.ttl,
        "service": record.service,
        "ports": [
            {"number": port.number, "target": port.target, "placeholder": port.placeholder} for port in record.ports
        ],
        "source": record.origin.source,
        "resource": record.origin.resource,
        "version": record.origin.version,
    }


def _like(pattern: str | None) -> Callable[[str], bool]:
    if pattern is None:
        return lambda name: True
    wanted = pattern.lower().removesuffix(".")
    return lambda name: name == wanted or fnmatchcase(name, wanted)


def _row(stored: StoredRecord) -> tuple[str, ...]:
    record = stored.record
    return (
        record.name,
        ",".join(str(address) for address in record.addresses),
        str(record.ttl),
        ",".join(f"{port.number}{'*' if port.placeholder else ''}" for port in record.ports) or "-",
        one_line(record.service or "-"),
        record.origin.source + (" (held)" if stored.held else ""),
    )
