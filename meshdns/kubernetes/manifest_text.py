"""Manifests → text that an API server and a person read: YAML in their own order, or JSON.

Written here rather than by PyYAML: the same text from every version of it, and a tenth of the time.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Words that no YAML 1.1 or 1.2 reader takes for anything but text; everything else stands in quotes.
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9._/-]*\Z")
_RESERVED = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def to_yaml(manifests: Iterable[Mapping[str, Any]]) -> str:
    """Give *manifests* (mappings, lists, texts, numbers, booleans) as documents of one YAML file."""
    return "---\n".join("\n".join(_block(manifest, "")) + "\n" for manifest in manifests)


def to_json(manifests: Iterable[Mapping[str, Any]]) -> str:
    """Give *manifests* as one JSON List, as ``kubectl get -o json`` does."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)}, indent=2) + "\n"


def scalar(value: Any) -> str:
    """Give a text, number or boolean as YAML in one line."""
    if isinstance(value, str) and _PLAIN.match(value) and value.lower() not in _RESERVED:
        return value
    if not isinstance(value, str) or value.isascii():
        return json.dumps(value)
    # JSON is YAML but for characters beyond U+FFFF, which JSON writes as two.
    return '"' + "".join([_escaped(character) for character in value]) + '"'


def _escaped(character: str) -> str:
    return json.dumps(character)[1:-1] if character <= "\uffff" else f"\\U{ord(character):08x}"


def _block(value: Any, indent: str) -> list[str]:
    lines = []
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if isinstance(inner, Mapping | list | tuple) and inner:
                lines.append(f"{indent}{scalar(key)}:")
                lines += _block(inner, indent if isinstance(inner, Sequence) else indent + "  ")
            else:
                lines.append(f"{indent}{scalar(key)}: {scalar(inner)}")
    else:
        for item in value:
            inner_lines = _block(item, indent + "  ") if isinstance(item, Mapping) and item else [scalar(item)]
            lines.append(f"{indent}- {inner_lines[0].lstrip()}")
            lines += inner_lines[1:]
    return lines
