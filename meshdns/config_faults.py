"""What pydantic finds in a configuration, said in plain words: the key an operator wrote, and what to write instead."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

KeyPath = tuple[str | int, ...]
"""Where a value is: ``("sources", 1, "path")``."""

_SHOWN = 60
"""Characters of a value that a message repeats."""

_PROBLEMS: dict[str, str] = {
    "missing": "missing",
    "string_type": "must be text, not {input} (write it in quotes)",
    "string_too_short": "must not be empty",
    "string_too_long": "longer than {max_length} characters",
    "string_pattern_mismatch": "{input} cannot be (it must match {pattern})",
    "int_type": "must be a whole number, not {input}",
    "int_parsing": "must be a whole number, not {input}",
    "int_parsing_size": "{input} is too large a number",
    "int_from_float": "must be a whole number, not {input}",
    "float_type": "must be a number, not {input}",
    "float_parsing": "must be a number, not {input}",
    "finite_number": "must be a finite number, not {input}",
    "bool_type": "must be true or false, not {input}",
    "bool_parsing": "must be true or false, not {input}",
    "tuple_type": "must be a list, not {input}",
    "list_type": "must be a list, not {input}",
    "frozen_set_type": "must be a list, not {input}",
    "dict_type": "must be a mapping (key: value), not {input}",
    "mapping_type": "must be a mapping (key: value), not {input}",
    "model_type": "must be a mapping (key: value), not {input}",
    "model_attributes_type": "must be a mapping (key: value), not {input}",
    "path_type": "must be a path, not {input}",
    "literal_error": "must be {expected}, not {input}",
    "enum": "must be {expected}, not {input}",
    "greater_than": "must be more than {gt}, not {input}",
    "greater_than_equal": "must be at least {ge}, not {input}",
    "less_than": "must be less than {lt}, not {input}",
    "less_than_equal": "must be at most {le}, not {input}",
    "too_short": "must hold at least {min_length}",
    "too_long": "must hold at most {max_length}",
}
"""pydantic's error types → our words; ``{input}`` is the value, the rest is the type's own context."""


def key_of(path: KeyPath) -> str:
    """Give *path* as an operator reads it: ``sources[1].path``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if part.isprintable() else repr(part))
    return text


def shown(value: Any) -> str:
    """Give *value* as a message repeats it: short, and never a whole structure."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, str):
        return repr(value if len(value) <= _SHOWN else value[:_SHOWN] + "…")
    if isinstance(value, Sequence):
        return "a list"
    if value is None:
        return "nothing"
    return str(value).lower()[:_SHOWN]  # true and false as YAML writes them


def nearest(word: str, known: Sequence[str]) -> str:
    """Give ``; did you mean 'listen'?`` for the known word that *word* resembles, or nothing."""
    close = get_close_matches(word.lower().replace("-", "_"), known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def keys_of(model: type[BaseModel]) -> list[str]:
    """Give the keys that *model* reads."""
    return [field.alias or name for name, field in model.model_fields.items()]


def plain_problems(
    error: ValidationError,
    locate: Callable[[tuple[str | int, ...]], tuple[KeyPath, type[BaseModel] | None]],
    later: Mapping[str, str],
) -> Iterator[tuple[KeyPath, str]]:
    """Give every finding of *error* with the path of its key.

    locate: pydantic's location → the path in the file, and the model that reads the mapping it lies in.
    later: keys and values that are words of another version, each with what to say about it.
    """
    for detail in error.errors(include_url=False):
        path, model = locate(detail["loc"])
        kind = detail["type"]
        if kind in {"union_tag_not_found", "union_tag_invalid"} and isinstance(detail["input"], Mapping):
            path = (*path, "type")
        yield path, _problem(detail, path, model, later)


def _problem(detail: ErrorDetails, path: KeyPath, model: type[BaseModel] | None, later: Mapping[str, str]) -> str:
    kind = detail["type"]
    context: dict[str, Any] = detail.get("ctx", {})
    if kind == "extra_forbidden":
        word = str(path[-1])
        return later.get(word) or f"unknown key {word!r}{nearest(word, keys_of(model) if model else ())}"
    if kind == "union_tag_not_found":
        return (
            "missing"
            if isinstance(detail["input"], Mapping)
            else _PROBLEMS["model_type"].format(input=shown(detail["input"]))
        )
    if kind == "union_tag_invalid":
        tag, expected = str(context["tag"]), str(context["expected_tags"])
        words = [word.strip("' ") for word in expected.split(",")]
        return later.get(tag) or f"must be one of {', '.join(words)}, not {tag!r}{nearest(tag, words)}"
    if kind in {"value_error", "assertion_error"}:
        return str(context["error"])
    if kind in _PROBLEMS:
        return _PROBLEMS[kind].format(**{**context, "input": shown(detail["input"])})
    return detail["msg"]
