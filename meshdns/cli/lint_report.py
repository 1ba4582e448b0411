"""What a lint found, as a person, a program or a code review reads it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

from meshdns.cli.text import one_line
from meshdns.errors import ConfigError
from meshdns.kubernetes.finding import Finding

_LIMIT = 1_000


@dataclass(frozen=True, slots=True)
class Report:
    """files: how many were read. unusable: what could not be read. left, fixed: findings that stay, and that do not."""

    files: int
    left: tuple[Finding, ...] = ()
    fixed: tuple[Finding, ...] = ()
    unusable: tuple[ConfigError, ...] = ()


def print_text(report: Report, out: TextIO) -> None:
    """Print a line for each finding, as compilers do."""
    for error in report.unusable:
        print(error, file=out)
    for finding in report.fixed:
        print(
            f"{_place(finding)}: fixed: {_words(finding.message)}; {_words(finding.remedy)} [{finding.rule}]", file=out
        )
    for finding in report.left:
        print(f"{_place(finding)}: {_words(finding.message)}; {_words(finding.remedy)} [{finding.rule}]", file=out)


def print_report_json(report: Report, out: TextIO) -> None:
    """Print one object."""
    json.dump(
        {
            "files": report.files,
            "findings": [_object(finding) for finding in report.left],
            "fixed": [_object(finding) for finding in report.fixed],
            "unusable": [
                {"file": error.path, "line": fault.line, "message": str(fault)}
                for error in report.unusable
                for fault in error.faults
            ],
        },
        out,
        indent=2,
    )
    out.write("\n")


def print_github(report: Report, out: TextIO) -> None:
    """Print workflow commands, which a code review shows beside the line."""
    for error in report.unusable:
        for fault in error.faults:
            _command(out, "error", {"file": error.path, "line": fault.line or 1}, str(fault))
    for finding in report.left:
        properties: dict[str, str | int] = {
            "file": finding.path,
            "line": finding.line,
            "col": finding.column,
            "title": f"meshdns {finding.rule}",
        }
        _command(out, "error", properties, f"{finding.message}; {finding.remedy}")
    for finding in report.fixed:
        _command(
            out, "notice", {"file": finding.path, "line": finding.line}, f"fixed: {finding.message}; {finding.remedy}"
        )


FORMATS: Mapping[str, Callable[[Report, TextIO], None]] = {
    "text": print_text,
    "json": print_report_json,
    "github": print_github,
}
"""Every form in which findings are printed."""


def summary(report: Report) -> str:
    """Give what came out, in one line."""
    fixable = sum(finding.fixable for finding in report.left)
    parts = [_count(report.files, "file")]
    if report.unusable:
        parts.append(f"{len(report.unusable)} unusable")
    if report.fixed:
        parts.append(f"{len(report.fixed)} fixed")
    parts.append(_count(len(report.left), "finding") if report.left else "nothing to report")
    if fixable:
        parts.append(f"{fixable} of them --fix can correct")
    return ", ".join(parts)


def _object(finding: Finding) -> dict[str, Any]:
    return {
        "file": finding.path,
        "line": finding.line,
        "column": finding.column,
        "rule": finding.rule,
        "message": finding.message,
        "fix": finding.remedy,
        "fixable": finding.fixable,
    }


def _place(finding: Finding) -> str:
    return f"{finding.path}:{finding.line}:{finding.column}"


def _words(text: str) -> str:
    return one_line(text, _LIMIT)


def _command(out: TextIO, level: str, properties: Mapping[str, str | int], message: str) -> None:
    """Print one workflow command; what would end a value is written as a percent code."""
    said = ",".join(f"{key}={_escape(str(value), ':,')}" for key, value in properties.items())
    print(f"::{level} {said}::{_escape(message)}", file=out)


def _escape(text: str, more: str = "") -> str:
    for sign in ("%", "\r", "\n", *more):
        text = text.replace(sign, f"%{ord(sign):02X}")
    return text


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
