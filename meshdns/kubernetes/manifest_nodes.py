"""Manifests as YAML nodes that know their place in the text, so that one value can change and nothing else moves.

JSON is read too, as the YAML that it is.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import yaml

from meshdns.errors import ConfigError, Fault
from meshdns.kubernetes.manifest_text import scalar

_BEFORE_VALUE = re.compile(r"(?:[&!]\S*\s+)*")
"""An anchor and a tag, which belong to the node and not to its value."""

_NULL = "tag:yaml.org,2002:null"
_MERGE = "tag:yaml.org,2002:merge"


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A file as it was read. path: what messages call it."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Edit:
    """Characters *start* to *end* of a text become *text*."""

    start: int
    end: int
    text: str


def documents(file: ManifestFile) -> list[yaml.MappingNode]:
    """Give every manifest in *file*, those of a ``List`` too; what is no mapping is left out.

    Raises ConfigError naming the file and the line of what is not YAML.
    """
    path, text = file.path, file.text
    if "\t" in text and _is_json(text):
        text = text.replace("\t", " ")  # JSON may be indented by tabs, YAML may not; no place moves
    try:
        found = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise _unusable(path, f"not YAML: {error.problem or error.context}", line) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _unusable(path, f"not YAML: {error.reason} (U+{ord(text[error.position]):04X})", line) from None
    except RecursionError:
        raise _unusable(path, "nested too deeply", None) from None
    return [manifest for document in found for manifest in _opened(document, 0)]


def _is_json(text: str) -> bool:
    try:
        json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        return False
    return True


def _opened(node: yaml.Node | None, depth: int) -> Iterator[yaml.MappingNode]:
    if not isinstance(node, yaml.MappingNode):
        return
    if (text_of(get(node, "kind")) or "").endswith("List") and depth < 5:
        for item in items(get(node, "items")):
            yield from _opened(item, depth + 1)
    else:
        yield node


def get(node: yaml.Node | None, *keys: str) -> yaml.Node | None:
    """Give the value at the end of *keys*, None where there is none; of a key that is there twice the last counts."""
    for key in keys:
        entry = entry_of(node, key)
        if entry is None:
            return None
        node = entry[1]
    return node


def entry_of(node: yaml.Node | None, key: str, depth: int = 0) -> tuple[yaml.Node, yaml.Node] | None:
    """Give the nodes of *key* and its value; what ``<<`` merges in counts behind the mapping's own."""
    if not isinstance(node, yaml.MappingNode) or depth > 5:
        return None
    for name, value in reversed(node.value):
        if isinstance(name, yaml.ScalarNode) and name.value == key and name.tag != _MERGE:
            return name, value
    for name, value in node.value:
        if name.tag == _MERGE:
            for merged in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                entry = entry_of(merged, key, depth + 1)
                if entry is not None:
                    return entry
    return None


def items(node: yaml.Node | None) -> Sequence[yaml.Node]:
    """Give the items of a list; of anything else none."""
    return node.value if isinstance(node, yaml.SequenceNode) else ()


def text_of(node: yaml.Node | None) -> str | None:
    """Give a scalar's text, None where there is none or it is null."""
    return node.value if isinstance(node, yaml.ScalarNode) and node.tag != _NULL else None


def number_of(node: yaml.Node | None) -> int | None:
    """Give a scalar as a port number, None where it is none."""
    text = text_of(node) or ""
    return int(text) if re.fullmatch(r"[0-9]{1,5}", text) else None


def replaced(file: ManifestFile, node: yaml.Node, value: str | int) -> Edit:
    """Give the edit that writes *value* where the scalar *node* stands in *file*, quoted as it was.

    Numbers stand without quotes. An anchor or tag before the value stays.
    """
    start, end = node.start_mark.index, node.end_mark.index
    prefix = _BEFORE_VALUE.match(file.text, start, end)
    assert prefix is not None
    start = prefix.end()
    style = node.style if isinstance(node, yaml.ScalarNode) else None
    new = scalar(value)
    if isinstance(value, str) and style in {"'", '"'} and not new.startswith('"'):
        new = f"{style}{new}{style}"
    if style in {"|", ">"}:  # such a scalar begins with a line of its own, and ends with its line feeds
        old = file.text[start:end]
        comment = re.search(r"\s+#.*", old.splitlines()[0])
        new += (comment[0] if comment else "") + old[len(old.rstrip("\r\n")) :]
    return Edit(start, end, new)


def apply_edits(text: str, edits: Sequence[Edit]) -> str:
    """Give *text* with *edits* made; of two that overlap only the first is."""
    parts: list[str] = []
    at = 0
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        if edit.start >= at:
            parts += [text[at : edit.start], edit.text]
            at = edit.end
    return "".join((*parts, text[at:]))


def _unusable(path: str, problem: str, line: int | None) -> ConfigError:
    return ConfigError(path, (Fault("", problem, line),))
