"""Manifests → text that an API server and a person read: YAML in their own order, or JSON.

Written here rather than by PyYAML: the same text from every version of it, and a tenth of the time.
"""

import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

# Words that no YAML 1.1 or 1.2 reader takes for anything but text; everything else stands in quotes.
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9._/-]*\Z")
_RESERVED = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def to_yaml(manifests: Iterable[Mapping[str, Any]]) -> str:
    """Give *manifests* (dicts, lists, texts, numbers, booleans) as documents of one YAML file."""
    lines: list[str] = []
    for manifest in manifests:
        if lines:
            lines.append("---")
        _mapping(lines, manifest, "", "")
    lines.append("")
    return "\n".join(lines)


def to_json(manifests: Iterable[Mapping[str, Any]]) -> str:
    """Give *manifests* as one JSON List, as ``kubectl get -o json`` does."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)}, indent=2) + "\n"


def scalar(value: Any) -> str:
    """Give a text, number or boolean as YAML in one line."""
    return _text(value) if isinstance(value, str) else json.dumps(value)


@lru_cache(4096)
def _text(value: str) -> str:
    if _PLAIN.match(value) and value.lower() not in _RESERVED:
        return value
    if value.isascii():
        return json.dumps(value)
    # JSON is YAML but for characters beyond U+FFFF, which JSON writes as two.
    return '"' + "".join([_escaped(character) for character in value]) + '"'


def _escaped(character: str) -> str:
    return json.dumps(character)[1:-1] if character <= "\uffff" else f"\\U{ord(character):08x}"


def _mapping(lines: list[str], value: Mapping[str, Any], first: str, indent: str) -> None:
    """Write *value*, its first line behind *first* and the others behind *indent*."""
    here = first
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            lines.append(f"{here}{_text(key)}:")
            _mapping(lines, inner, indent + "  ", indent + "  ")
        elif isinstance(inner, list) and inner:
            lines.append(f"{here}{_text(key)}:")
            _list(lines, inner, indent)
        else:
            lines.append(f"{here}{_text(key)}: {scalar(inner)}")
        here = indent


def _list(lines: list[str], value: Iterable[Any], indent: str) -> None:
    for item in value:
        if isinstance(item, dict) and item:
            _mapping(lines, item, indent + "- ", indent + "  ")
        else:
            lines.append(f"{indent}- {scalar(item)}")
