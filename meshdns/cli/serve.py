"""``meshdns serve``: run an instance until it is told to end."""

import argparse

from meshdns.cli.instance import configuration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take nothing besides the configuration."""


def run(arguments: argparse.Namespace) -> int:
    """Serve; give 0 when ended as told, 2 when the data directory cannot be used, 3 when something is in use."""
    config = configuration(arguments)
    from meshdns.processes.supervisor import serve  # noqa: PLC0415 - only when the configuration is good

    return serve(config, reload=lambda: configuration(arguments))
