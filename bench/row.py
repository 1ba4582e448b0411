"""One row of the table: what was measured, what it must be, and how both are written."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

TIMES = "×"  # noqa: RUF001 - the sign, not the letter
"""The unit of a ratio."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A limit: ``Bound("<=", 1.7)``."""

    op: Literal["<=", ">="]
    value: float

    def holds(self, figure: float) -> bool:
        """Tell whether *figure* keeps the limit, which itself does."""
        return figure <= self.value if self.op == "<=" else figure >= self.value

    def __str__(self) -> str:
        return f"{'≤' if self.op == '<=' else '≥'} {self.value:,g}"


def at_most(value: float) -> Bound:
    """Give the limit "no more than *value*"."""
    return Bound("<=", value)


def at_least(value: float) -> Bound:
    """Give the limit "no less than *value*"."""
    return Bound(">=", value)


@dataclass(frozen=True, slots=True)
class Row:
    """One row. key: its name for ``--only``, such as ``hot-a-vs-echo``. what: the same in words.

    measured: one figure a round, ratios taken within the round. unit: ``TIMES``, ``µs``, ``ms``, ``MiB``, ``queries``…
    must, stretch: none for a figure that only informs. details: the absolute figures behind it, by name.
    """

    key: str
    what: str
    measured: tuple[float, ...]
    unit: str
    must: Bound | None = None
    stretch: Bound | None = None
    details: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.measured:
            raise ValueError(f"{self.key}: no figure was measured")

    @property
    def median(self) -> float:
        """The figure of the middle round."""
        return statistics.median(self.measured)

    @property
    def met(self) -> bool | None:
        """Whether the median keeps ``must``; None without one."""
        return None if self.must is None else self.must.holds(self.median)

    @property
    def stretched(self) -> bool | None:
        """Whether the median keeps ``stretch``; None without one."""
        return None if self.stretch is None else self.stretch.holds(self.median)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that could not be measured here. why: in words for a reader of the table."""

    key: str
    why: str


HEAD = "| what | median (lowest to highest) | must | met | stretch |\n|---|---|---|---|---|\n"


def number(figure: float) -> str:
    """Write *figure* with as many digits as say something."""
    if abs(figure) >= 100 or figure == round(figure):
        return f"{figure:,.0f}"
    return f"{figure:.1f}" if abs(figure) >= 10 else f"{figure:.2f}"


def markdown(rows: Sequence[Row | LeftOut]) -> str:
    """Give *rows* as a Markdown table, what was left out as a list below it."""
    lines = [_line(row) for row in rows if isinstance(row, Row)]
    missing = [f"- left out: `{row.key}`: {row.why}\n" for row in rows if isinstance(row, LeftOut)]
    return (HEAD + "".join(lines) if lines else "") + ("\n" if lines and missing else "") + "".join(missing)


def _line(row: Row) -> str:
    met = {True: "✓", False: "**missed**", None: ""}[row.met]
    stretch = "" if row.stretch is None else f"{row.stretch} {'✓' if row.stretched else 'missed'}"
    unit = f" {row.unit}" if row.unit else ""
    return f"| {row.what} | {figures(row.measured)}{unit} | {row.must or ''} | {met} | {stretch} |\n"


def figures(measured: Sequence[float]) -> str:
    """Write the median, and how far the rounds were apart where there are several."""
    middle = number(statistics.median(measured))
    return middle if len(measured) == 1 else f"{middle} ({number(min(measured))} to {number(max(measured))})"


def to_json(row: Row | LeftOut) -> dict[str, Any]:
    """Give *row* for a JSON document."""
    if isinstance(row, LeftOut):
        return {"key": row.key, "left_out": row.why}
    return {
        "key": row.key,
        "what": row.what,
        "unit": row.unit,
        "median": row.median,
        "measured": list(row.measured),
        "must": row.must and [row.must.op, row.must.value],
        "met": row.met,
        "stretch": row.stretch and [row.stretch.op, row.stretch.value],
        "details": {name: list(values) for name, values in row.details.items()},
    }


def from_json(document: Mapping[str, Any]) -> Row | LeftOut:
    """Read what :func:`to_json` gave."""
    if "left_out" in document:
        return LeftOut(document["key"], document["left_out"])
    must, stretch = document["must"], document["stretch"]
    return Row(
        document["key"],
        document["what"],
        tuple(document["measured"]),
        document["unit"],
        must and Bound(*must),
        stretch and Bound(*stretch),
        document["details"],
    )
