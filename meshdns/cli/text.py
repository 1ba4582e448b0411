"""What verbs print: aligned tables, moments and durations, as people read them."""

import json
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

_SPANS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def print_json(value: Any) -> None:
    """Print *value* as indented JSON, in ASCII: whatever a control plane pushed, it can be written anywhere."""
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    """Give lines in which the columns stand below each other; the last column may be of any width."""
    everything = [head, *rows]
    widths = [max(len(row[place]) for row in everything) for place in range(len(head) - 1)]
    for row in everything:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        yield "  ".join((*cells, row[-1])).rstrip()


def span(seconds: float) -> str:
    """Give a duration in its two largest units: ``3d 4h``, ``12m 5s``, ``0.4s``."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    left = round(seconds)
    parts: list[str] = []
    for size, unit in _SPANS:
        if left >= size or parts:
            parts.append(f"{left // size}{unit}")
            left %= size
    return " ".join(part for part in parts[:2] if not part.startswith("0"))


def moment(unix: float) -> str:
    """Give a time of day in UTC with how long ago it was: ``2026-11-21 10:14:03 UTC, 12m 5s ago``."""
    return f"{time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(unix))}, {span(max(0.0, time.time() - unix))} ago"


def rfc3339(unix: float) -> str:
    """Give a time as JSON readers want it, in UTC with milliseconds."""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(unix))}.{int(unix * 1000) % 1000:03d}Z"


def one_line(text: str, limit: int = 200) -> str:
    """Give *text* as one line without control characters, cut at *limit*: other people's words reach a terminal."""
    plain = "".join(character if character.isprintable() else " " for character in text)
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"
