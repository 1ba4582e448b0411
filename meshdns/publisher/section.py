"""A mapping of a resource's YAML, read field by field: what is wrong is collected, not raised, with line and field."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from meshdns.publisher.model import Finding
from meshdns.yaml_document import YamlList, YamlMapping

_SHOWN = 60


@dataclass(slots=True)
class Report:
    """What is found while one document is read. offset: lines of the file before the document.

    faults make the resource unusable; notices do not.
    """

    file: str
    offset: int = 0
    resource: str = ""
    faults: list[Finding] = field(default_factory=list)
    notices: list[Finding] = field(default_factory=list)

    def fault(self, line: int | None, at: str, problem: str) -> None:
        """Add a fault. line: of the file."""
        self.faults.append(Finding(self.file, line, self.resource, at, problem))

    def notice(self, line: int | None, at: str, problem: str) -> None:
        """Add a notice. line: of the file."""
        self.notices.append(Finding(self.file, line, self.resource, at, problem))


def shown(value: Any) -> str:
    """Give *value* as a message repeats it."""
    if isinstance(value, YamlMapping):
        return "a mapping"
    if isinstance(value, YamlList):
        return "a list"
    if value is None:
        return "nothing"
    text = repr(value) if isinstance(value, str) else str(value).lower()
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


class Section:
    """One mapping, and where it is. ``at`` gives the full name of a key for messages."""

    def __init__(self, report: Report, mapping: YamlMapping, path: str = "") -> None:
        self.report = report
        self.path = path
        self._mapping = mapping
        for key, line in mapping.repeated:
            self.report.fault(report.offset + line, self.at(key), f"there twice (first on line {self.line(key)})")

    def __contains__(self, key: str) -> bool:
        return self._mapping.get(key) is not None

    def at(self, key: str) -> str:
        """Give the name of *key* with its path."""
        plain = key.isidentifier() or key.replace("-", "_").isidentifier()
        if not self.path:
            return key
        return f"{self.path}.{key}" if plain else f'{self.path}["{key[:_SHOWN]}"]'

    def line(self, key: str = "") -> int:
        """Give the line in the file of *key*, or of the section where there is no such key."""
        return self.report.offset + self._mapping.lines.get(key, self._mapping.line)

    def refuse(self, key: str, problem: str) -> None:
        """Say what is wrong with *key*."""
        self.report.fault(self.line(key), self.at(key), problem)

    def notice(self, key: str, problem: str) -> None:
        """Say what an operator should know of *key*."""
        self.report.notice(self.line(key), self.at(key), problem)

    def known(self, *keys: str) -> None:
        """Notice every key that is not one of *keys*."""
        for key in self._mapping:
            if key not in keys:
                close = get_close_matches(key, keys, n=1, cutoff=0.75)
                hint = f"; did you mean '{close[0]}'?" if close else ""
                self.notice(key, f"unknown field, left out of account{hint}")

    def text(self, key: str, *, required: bool = False) -> str:
        """Give a text, empty where there is none."""
        value = self._mapping.get(key)
        if isinstance(value, str):
            if required and not value:
                self.refuse(key, "must not be empty")
            return value
        if value is not None:
            self.refuse(key, f"must be text, not {shown(value)} (write it in quotes)")
        elif required:
            self.refuse(key, "missing")
        return ""

    def number(self, key: str, low: int, high: int, *, required: bool = False) -> int:
        """Give a whole number between *low* and *high*, 0 where there is none (or it is refused)."""
        value = self._mapping.get(key)
        if value is None:
            if required:
                self.refuse(key, "missing")
            return 0
        if isinstance(value, str) and value.isascii() and value.isdigit():  # as proto3 JSON allows
            value = int(value[:12])
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            if value == 0 and not required:
                return 0
            self.refuse(key, f"must be a number from {low} to {high}, not {shown(value)}")
            return 0
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        """Give true or false."""
        value = self._mapping.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.refuse(key, f"must be true or false, not {shown(value)}")
            return default
        return value

    def section(self, key: str, *, required: bool = False) -> "Section | None":
        """Give a mapping within this one."""
        value = self._mapping.get(key)
        if isinstance(value, YamlMapping):
            return Section(self.report, value, self.at(key))
        if value is not None:
            self.refuse(key, f"must be a mapping (key: value), not {shown(value)}")
        elif required:
            self.refuse(key, "missing")
        return None

    def sections(self, key: str) -> Iterator["Section"]:
        """Give the mappings of a list."""
        for index, value in enumerate(self._list(key)):
            path = f"{self.at(key)}[{index}]"
            if isinstance(value, YamlMapping):
                yield Section(self.report, value, path)
            else:
                self.report.fault(self.line(key), path, f"must be a mapping (key: value), not {shown(value)}")

    def texts(self, key: str) -> tuple[str, ...]:
        """Give the texts of a list."""
        found = []
        for index, value in enumerate(self._list(key)):
            if isinstance(value, str) and value:
                found.append(value)
            else:
                self.report.fault(self.line(key), f"{self.at(key)}[{index}]", f"must be text, not {shown(value)}")
        return tuple(found)

    def _list(self, key: str) -> list[Any]:
        value = self._mapping.get(key)
        if isinstance(value, YamlList):
            return value
        if value is not None:
            self.refuse(key, f"must be a list, not {shown(value)}")
        return []

    def items(self, key: str) -> "tuple[Section, dict[str, str]] | None":
        """Give a mapping of text to text, with its section for messages."""
        section = self.section(key)
        if section is None:
            return None
        found: dict[str, str] = {}
        for name, value in section._mapping.items():
            if isinstance(value, str):
                found[name] = value
            else:
                section.refuse(name, f"must be text, not {shown(value)} (write it in quotes)")
        return section, found
