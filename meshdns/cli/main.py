"""``meshdns VERB …``: find the verb, load its file and no other, turn errors into exit codes.

Exit codes: 0 ok · 1 findings, no such name, not ready · 2 usage or configuration · 3 address or directory in use.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from meshdns import __version__
from meshdns.errors import ConfigError, MeshdnsError
from meshdns.store.collector import collector_paused

OK, FINDINGS, USAGE, IN_USE = 0, 1, 2, 3
"""Exit codes of every verb."""

INTERRUPTED = 130
"""What a shell gives for a command that Ctrl-C ended."""

VERBS = {
    "serve": "connect to the sources and answer queries, until told to end",
    "query": "ask a DNS server a question, as a client would",
    "names": "list the names that are served",
    "listeners": "list the addresses and ports behind the names, and where they lead",
    "status": "show how a running instance is",
    "flush": "forget what other DNS servers answered, or what is at and under one name",
    "explain": "say why a name resolves as it does, or why it does not",
    "check": "find every fault of a configuration",
    "publish": "be the control plane of a small mesh, without answering queries; or make a token for a data plane",
    "demo": "run a whole small mesh on this machine: control plane, DNS, an Envoy and two services",
    "bootstrap": "write what an Envoy is started with, to be a data plane of the mesh that is published",
    "generate": "write Kubernetes Services for mesh names, and what tells other resolvers to ask us",
}
"""Each verb with what it does; ``cli/<verb>.py`` does it."""


class Verb(Protocol):
    """What the file of a verb has."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Say what the verb takes besides ``--config`` and ``--data-dir``, which every verb has."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it and give the exit code. ConfigError becomes 2 and any other MeshdnsError 1, each with its message."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``meshdns`` with *argv* (default: the process's own) and give its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in words if word in VERBS), None)
    with collector_paused():  # modules are no garbage
        verb = cast(Verb, import_module(f"meshdns.cli.{chosen}")) if chosen else None
    parser = _parser(chosen, verb)
    try:
        arguments = parser.parse_args(words)
        if verb is None:
            parser.print_help(sys.stderr)
            return USAGE
        code = verb.run(arguments)
        sys.stdout.flush()
        return code
    except ConfigError as error:
        print(error, file=sys.stderr)
        return USAGE
    except MeshdnsError as error:
        print(f"meshdns: {error}", file=sys.stderr)
        return FINDINGS
    except BrokenPipeError:  # who read our output has seen enough; nothing may fail at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as stop:  # argparse: --help, --version, or wrong usage
        return stop.code if isinstance(stop.code, int) else USAGE


def _parser(chosen: str | None, verb: Verb | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meshdns",
        description="Answers DNS queries for service-mesh names with the virtual IPs that a control plane pushes.",
        epilog="Exit codes: 0 ok, 1 findings (no such name, not ready), 2 usage or configuration, 3 address or "
        "directory in use.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"meshdns {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", dest="verb")
    for name, purpose in VERBS.items():
        sub = verbs.add_parser(
            name,
            help=purpose,
            description=purpose[0].upper() + purpose[1:] + ".",
            conflict_handler="resolve",
            allow_abbrev=False,
        )
        if name == chosen and verb is not None:
            instance = sub.add_argument_group("which instance")
            instance.add_argument(
                "--config",
                type=Path,
                metavar="FILE",
                help="its configuration (default: $MESHDNS_CONFIG, ./meshdns.yaml, /etc/meshdns/meshdns.yaml)",
            )
            instance.add_argument(
                "--data-dir", type=Path, metavar="DIR", help="its data directory, instead of the configuration's"
            )
            verb.add_arguments(sub)
    return parser
