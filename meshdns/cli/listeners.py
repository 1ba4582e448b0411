"""``meshdns listeners``: every address and port that the mesh listens on, and the service behind it."""

import argparse

from meshdns.cli.instance import configuration, snapshot
from meshdns.cli.text import one_line, print_json, table
from meshdns.inventory.record import IPAddress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb takes."""
    parser.add_argument("--json", action="store_true", help="an object: address:port to service")


def run(arguments: argparse.Namespace) -> int:
    """Print the listeners."""
    with snapshot(configuration(arguments)) as seen:
        listeners = seen.listeners()
        if arguments.json:
            print_json({endpoint(*place): service for place, service in listeners.items()})
            return 0
        rows = [
            (endpoint(*place), one_line(service), _short(seen.names_of(place[0])))
            for place, service in listeners.items()
        ]
    if rows:
        for line in table(("LISTENER", "SERVICE", "NAMES"), rows):
            print(line)
    return 0


def endpoint(address: IPAddress, port: int) -> str:
    """Give ``240.0.0.3:80`` or ``[::1]:80``."""
    return f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"


def _short(names: tuple[str, ...], limit: int = 3) -> str:
    more = f", and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more if names else "-"
