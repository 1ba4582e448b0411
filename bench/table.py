"""The results of one run: kept as JSON, written as Markdown, and never mixed with those of another run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.row import LeftOut, Row, from_json, markdown, to_json

FORMAT = 1


class ResultsError(Exception):
    """Results that are not what they should be, or must not be put together; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Section:
    """Rows of one module. how: how they are measured, in words."""

    title: str
    how: str
    rows: tuple[Row | LeftOut, ...]


@dataclass(frozen=True, slots=True)
class Results:
    """One run. run: its id. command: what was typed. load: the load generator's command.

    partial: it measured some rows only. quick: its figures say only that everything works.
    """

    run: str
    when: str
    command: str
    load: str
    commit: str
    rounds: int
    seconds: float
    quick: bool
    partial: bool
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    sections: tuple[Section, ...]

    def row(self, key: str) -> Row | LeftOut | None:
        """Give the row *key*, if it was measured or left out."""
        return next((row for section in self.sections for row in section.rows if row.key == key), None)

    def to_markdown(self) -> str:
        """Give the table for readers."""
        counted = [row for section in self.sections for row in section.rows if isinstance(row, Row)]
        bounded = [row for row in counted if row.met is not None]
        missed = [row for row in bounded if not row.met]
        warnings = []
        if self.quick:
            warnings.append("A quick run: it shows that everything works, and its figures mean nothing.")
        if self.partial:
            warnings.append("Some rows only (`--only`).")
        lines = [
            "# Measured beside others\n",
            *(f"**{warning}**\n" for warning in warnings),
            f"{len(bounded) - len(missed)} of {len(bounded)} bounds met"
            + (": missed " + ", ".join(f"`{row.key}`" for row in missed) if missed else "")
            + ".\n",
            f"Run `{self.run}`, {self.when}, commit {self.commit}, by `{self.command}`: {self.rounds} interleaved "
            f"rounds of {self.seconds:g} s after one that warms up. A figure is the median of the rounds, with the "
            "lowest and the highest; a ratio is taken within a round.\n",
            f"Load: `{self.load}`.\n",
            f"Machine: {', '.join(f'{name} {value}' for name, value in self.machine.items())}.\n",
            f"Versions: {', '.join(f'{name} {value}' for name, value in self.versions.items())}.\n",
        ]
        for section in self.sections:
            lines += [f"## {section.title}\n", f"{section.how}\n", markdown(section.rows)]
        return "\n".join(lines)

    def to_json(self) -> str:
        """Give everything, for programs."""
        document: dict[str, Any] = {
            "format": FORMAT,
            **{name: getattr(self, name) for name in _PLAIN},
            "machine": dict(self.machine),
            "versions": dict(self.versions),
            "sections": [
                {"title": section.title, "how": section.how, "rows": [to_json(row) for row in section.rows]}
                for section in self.sections
            ],
        }
        return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


_PLAIN = ("run", "when", "command", "load", "commit", "rounds", "seconds", "quick", "partial")


def read(path: Path) -> Results:
    """Read what :meth:`Results.to_json` gave from *path*. Raises ResultsError naming it."""
    try:
        document = json.loads(path.read_text())
        if document["format"] != FORMAT:
            raise ResultsError(f"{path}: format {document['format']}, and {FORMAT} is understood")
        sections = tuple(
            Section(each["title"], each["how"], tuple(from_json(row) for row in each["rows"]))
            for each in document["sections"]
        )
        return Results(
            **{name: document[name] for name in _PLAIN},
            machine=document["machine"],
            versions=document["versions"],
            sections=sections,
        )
    except OSError as fault:
        raise ResultsError(f"{path}: {fault.strerror}") from None
    except (ValueError, KeyError, TypeError) as fault:
        raise ResultsError(f"{path}: not results of this benchmark ({fault!r})") from None


def merge(parts: Sequence[Results]) -> Results:
    """Put the rows of *parts* of one run together; a later one's row stands for an earlier one's of its key.

    Raises ResultsError for parts of different runs: figures of a shared machine compare within one run only.
    """
    first = parts[0]
    for other in parts[1:]:
        if other.run != first.run:
            raise ResultsError(
                f"run {first.run} ({first.when}) and run {other.run} ({other.when}) are different runs; their "
                "figures cannot be compared or put into one table, because only the ratios within a run mean anything"
            )
    sections: dict[str, Section] = {}
    for part in parts:
        for section in part.sections:
            earlier = sections.get(section.title, Section(section.title, section.how, ()))
            rows = {row.key: row for row in (*earlier.rows, *section.rows)}
            sections[section.title] = Section(section.title, section.how, tuple(rows.values()))
    return replace(first, sections=tuple(sections.values()))


def check_place(path: Path, run: str, *, partial: bool, force: bool) -> None:
    """Raise ResultsError where results of *run* must not be written to *path*.

    A whole run replaces what is there; some rows never silently take the place of another run's.
    """
    if force or not partial or not path.exists():
        return
    there = read(path)
    if there.run != run:
        raise ResultsError(
            f"{path} has run {there.run} ({there.when}); some rows of another run do not replace it: "
            "choose another --results, or --overwrite"
        )
