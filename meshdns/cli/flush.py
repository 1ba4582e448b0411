"""``meshdns flush [NAME]``: forget what others answered, so that it is asked anew."""

import argparse
import sys
import time

from meshdns.cli.instance import configuration
from meshdns.cli.question import parse_question
from meshdns.errors import MeshdnsError
from meshdns.processes.flush import request_flush
from meshdns.processes.status import read_status, responders_read
from meshdns.wire.name import to_text

PATIENCE = 5.0
"""Seconds that the responders have; they look once a second."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb takes."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="only what is kept at and under this name")


def run(arguments: argparse.Namespace) -> int:
    """Ask the responders of a running instance to forget; 1 when there is none, or when they do not."""
    config = configuration(arguments)
    status = read_status(config.data_dir)
    if not status.running:
        print("nothing to flush: the instance does not run", file=sys.stderr)
        return 1
    if status.forwarding is None:
        print("nothing to flush: the instance does not forward (no upstreams)", file=sys.stderr)
        return 1
    name = None
    if arguments.name is not None:
        name = parse_question(arguments.name, None)[1].lower()
    before = status.forwarding.flushed
    try:
        mark = request_flush(config.data_dir, None if name == b"\0" else name)
    except OSError as fault:
        raise MeshdnsError(f"{config.data_dir}: {fault.strerror}") from None
    deadline = time.monotonic() + PATIENCE
    while not responders_read(config.data_dir, mark):
        if time.monotonic() > deadline:
            print("the responders have not heard of it yet", file=sys.stderr)
            return 1
        time.sleep(0.05)
    after = read_status(config.data_dir).forwarding
    count = 0 if after is None else after.flushed - before
    print(f"flushed {count} answers" + ("" if name is None else f" at and under {to_text(name)}"))
    return 0
