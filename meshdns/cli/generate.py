"""``meshdns generate PART …``: find the part, load its file and no other.

A part's file has ``add_arguments(parser, …)`` and ``run(arguments, …) -> exit code`` as a verb's has; where one file
does several parts, both are also given the word that the table has for each.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from meshdns.cli.main import USAGE
from meshdns.kubernetes.forwarders import FORWARDERS


class Part(NamedTuple):
    """Something to generate: the module that does it, what it is, and what its functions are given besides."""

    module: str
    purpose: str
    words: tuple[str, ...] = ()


PARTS: dict[str, Part] = {
    "externalname": Part(
        "meshdns.cli.generate_externalname",
        "Kubernetes Services of type ExternalName for mesh services; or check and correct existing ones",
    ),
    **{
        name: Part("meshdns.cli.generate_forwarder", forwarder.title, (name,)) for name, forwarder in FORWARDERS.items()
    },
    "kubernetes": Part("meshdns.cli.generate_kubernetes", "manifests that run meshdns in a cluster"),
}
"""Every part, in the order in which ``--help`` names them."""


class _PartParser(argparse.ArgumentParser):
    """The parser of one part: it gets its arguments when it is the one that was chosen."""

    part = ""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._with_text: set[str] = set()

    def add_argument(self, *names: str, **settings: Any) -> argparse.Action:
        """Add it; remember whether it is an option that takes one text."""
        action = super().add_argument(*names, **settings)
        if action.nargs is None:
            self._with_text.update(action.option_strings)
        return action

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Load the part, let it say what it takes, and parse."""
        instance = self.add_argument_group("which instance")
        # SUPPRESS: what was given before the part's name stays.
        instance.add_argument(
            "--config",
            type=Path,
            metavar="FILE",
            default=argparse.SUPPRESS,
            help="its configuration (default: $MESHDNS_CONFIG, ./meshdns.yaml, /etc/meshdns/meshdns.yaml)",
        )
        instance.add_argument(
            "--data-dir",
            type=Path,
            metavar="DIR",
            default=argparse.SUPPRESS,
            help="its data directory, instead of the configuration's",
        )
        part = PARTS[self.part]
        import_module(part.module).add_arguments(self, *part.words)
        return super().parse_known_args(self._joined(args or ()), namespace)

    def _joined(self, words: Sequence[str]) -> list[str]:
        """Give *words* with ``--suffix -multizone`` as ``--suffix=-multizone``, which is what it means.

        What begins with two hyphens stays an option, so that a forgotten value is noticed.
        """
        joined: list[str] = []
        for word in words:
            is_value = word.startswith("-") and not word.startswith("--")
            if is_value and joined and joined[-1] in self._with_text and "--" not in joined:
                joined[-1] += f"={word}"
            else:
                joined.append(word)
        return joined


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a parser for each part; only the chosen one's file is loaded."""
    # The parts' own options are called what they like, ``part`` among them.
    parts = parser.add_subparsers(title="parts", metavar="PART", dest="generate_part", parser_class=_PartParser)
    for name, part in PARTS.items():
        chosen = parts.add_parser(
            name, help=part.purpose, description=part.purpose[0].upper() + part.purpose[1:] + ".", allow_abbrev=False
        )
        chosen.part = name
    parser.set_defaults(generate_help=parser.format_help)


def run(arguments: argparse.Namespace) -> int:
    """Run the chosen part; 2 when none was."""
    if arguments.generate_part is None:
        sys.stderr.write(arguments.generate_help())
        return USAGE
    part = PARTS[arguments.generate_part]
    code: int = import_module(part.module).run(arguments, *part.words)
    return code
