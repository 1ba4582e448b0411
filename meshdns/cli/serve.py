"""``meshdns serve``: run an instance until it is told to end."""

import argparse
from functools import partial

from meshdns.cli.instance import configuration
from meshdns.store.collector import collector_paused


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take nothing besides the configuration; ``--trial`` is how an upgrade tries the image that is to come."""
    parser.add_argument("--trial", type=int, help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Serve; give 0 when ended as told, 2 when the data directory cannot be used, 3 when something is in use."""
    with collector_paused():
        from meshdns.processes.service import serve  # noqa: PLC0415 - only when the words are good

    return serve(partial(configuration, arguments), trial=arguments.trial)
