"""Durations as operators write them: ``500ms``, ``5s``, ``5m``, ``1h``; in the program they are seconds."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, ValidationInfo

MAX_DURATION = 30 * 24 * 3600
"""Seconds; nothing that an operator sets here is meant to last longer than a month."""

_FORM = re.compile(r"([0-9]+)(ms|s|m|h)\Z")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


def read_duration(value: Any, info: ValidationInfo) -> float:
    """Give *value* in seconds; plain numbers only as 0, or where no file is read (code, JSON).

    Raises ValueError in words for an operator.
    """
    if isinstance(value, str) and (match := _FORM.match(value)):
        seconds = int(match[1][:12]) * _SECONDS[match[2]]
    elif isinstance(value, int | float) and not isinstance(value, bool) and (value == 0 or not info.context):
        seconds = value
    else:
        raise ValueError(f"must be a duration such as 500ms, 5s, 5m or 1h, not {str(value)[:60]!r}")
    if not 0 <= seconds <= MAX_DURATION:
        raise ValueError(f"{str(value)[:60]!r} is longer than 30 days")
    return float(seconds)


Duration = Annotated[
    float, BeforeValidator(read_duration), PlainSerializer(lambda seconds: f"{round(seconds * 1000)}ms", str, "json")
]
"""A field of a settings model that holds seconds."""
