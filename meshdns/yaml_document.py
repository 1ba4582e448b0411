"""A YAML document read strictly: text in, mappings, lists and scalars with their lines out; no I/O.

Built from libyaml's events rather than from PyYAML's nodes: every line number comes along, a repeated key is
seen, nothing can be constructed but the types below, and 100,000 rich records take 4 s instead of 25.

Plain scalars follow YAML 1.2's core schema, not 1.1's: ``on``, ``1:20`` and ``2026-01-01`` are text. Keys are
always text.
"""

import re
from collections.abc import Callable
from typing import Any

from yaml import AliasEvent, MappingStartEvent, MarkedYAMLError, ScalarEvent, YAMLError
from yaml.cyaml import CSafeLoader
from yaml.events import DocumentStartEvent, MappingEndEvent, SequenceEndEvent, StreamEndEvent

from meshdns.errors import Fault

MAX_DEPTH = 32
"""Nested mappings and lists. Six are in use."""

_INT = re.compile(r"[-+]?[0-9]+\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_NUMERIC_START = frozenset("-+.0123456789")
_MAX_DIGITS = 40
"""Digits of a number; more is text (Python refuses to convert thousands of them)."""

_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_TEXT_TAGS = (None, "!", "tag:yaml.org,2002:str")


class YamlMapping(dict[str, Any]):
    """A mapping that knows where it is: ``line`` of its beginning, ``lines`` of its keys (from 1).

    repeated: (key, line) of every key that was there before; the first one's value is kept.
    """

    __slots__ = ("line", "lines", "repeated")

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: dict[str, int] = {}
        self.repeated: list[tuple[str, int]] = []


class YamlList(list[Any]):
    """A list that knows where it is: ``line`` of its beginning, ``lines`` of its items (from 1)."""

    __slots__ = ("line", "lines")

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: list[int] = []


class DocumentError(Exception):
    """The text is not one readable YAML document; ``fault`` says what is wrong and on which line."""

    def __init__(self, problem: str, line: int | None = None) -> None:
        self.fault = Fault("", problem, line)
        super().__init__(problem)


def decode(content: bytes) -> str:
    """Give the text of a file's *content*: UTF-8, a byte order mark dropped.

    Raises DocumentError for what is no text.
    """
    if b"\0" in content:
        raise DocumentError("not a text file (it holds zero octets)")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DocumentError(f"not UTF-8 text (octet 0x{content[error.start]:02x})", line) from None


def read(text: str) -> Any:
    """Give the one document in *text*: YamlMapping, YamlList, str, int, float, bool or None (also when empty).

    Raises DocumentError for what is no YAML, more than one document, a tag, nesting beyond ``MAX_DEPTH``.
    """
    try:
        # The parser lives in the loader; what would construct objects is never called.
        return _Builder(CSafeLoader(text).get_event).document()
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else None
        raise DocumentError(_plain_words(text, error, line), line) from None
    except YAMLError as error:
        line = text.count("\n", 0, position) + 1 if (position := getattr(error, "position", None)) else None
        raise DocumentError(f"not YAML: {getattr(error, 'reason', error)}", line) from None
    except UnicodeEncodeError:
        raise DocumentError("not text (half of a surrogate pair)") from None


def _plain_words(text: str, error: MarkedYAMLError, line: int | None) -> str:
    lines = text.splitlines()
    if line is not None and line <= len(lines):
        indent = lines[line - 1][: len(lines[line - 1]) - len(lines[line - 1].lstrip())]
        if "\t" in indent:
            return "indented with a tab; YAML wants spaces"
    return "not YAML: " + ", ".join(part for part in (error.context, error.problem) if part)


class _Builder:
    """Events → values. One per document: anchors live here."""

    def __init__(self, next_event: Callable[[], Any]) -> None:
        self._next = next_event  # Any: the stubs give every event the attributes of none
        self._anchors: dict[str, Any] = {}

    def document(self) -> Any:
        self._next()  # the stream's start
        event = self._next()
        if not isinstance(event, DocumentStartEvent):
            return None
        value = self._value(self._next(), 0)
        self._next()  # the document's end
        event = self._next()
        if not isinstance(event, StreamEndEvent):
            raise DocumentError("a second document begins here ('---'); one is expected", _line(event))
        return value

    def _value(self, event: Any, depth: int) -> Any:
        kind = type(event)
        if kind is ScalarEvent:
            value = _scalar(event)
        elif kind is AliasEvent:
            if event.anchor not in self._anchors:
                raise DocumentError(f"unknown anchor '*{event.anchor}'", _line(event))
            return self._anchors[event.anchor]
        else:
            if depth >= MAX_DEPTH:
                raise DocumentError(f"nested deeper than {MAX_DEPTH} levels", _line(event))
            if event.tag is not None:
                raise DocumentError(f"the tag {event.tag!r} is not understood here", _line(event))
            value = self._mapping(event, depth + 1) if kind is MappingStartEvent else self._list(event, depth + 1)
        if event.anchor is not None:
            self._anchors[event.anchor] = value
        return value

    def _mapping(self, start: Any, depth: int) -> YamlMapping:
        mapping = YamlMapping(_line(start))
        lines = mapping.lines
        next_event = self._next
        while type(event := next_event()) is not MappingEndEvent:
            line = event.start_mark.line + 1
            if type(event) is not ScalarEvent:
                raise DocumentError("a key must be text", line)
            key = event.value
            if event.anchor is not None:
                self._anchors[event.anchor] = key
            value = self._value(next_event(), depth)
            if key in lines:
                mapping.repeated.append((key, line))
            else:
                lines[key] = line
                mapping[key] = value
        return mapping

    def _list(self, start: Any, depth: int) -> YamlList:
        items = YamlList(_line(start))
        while type(event := self._next()) is not SequenceEndEvent:
            items.lines.append(_line(event))
            items.append(self._value(event, depth))
        return items


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _scalar(event: Any) -> Any:
    value: str = event.value
    if event.tag not in _TEXT_TAGS:
        raise DocumentError(f"the tag {event.tag!r} is not understood here", _line(event))
    if event.tag is not None or not event.implicit[0]:
        return value
    if value[:1] in _NUMERIC_START and len(value) <= _MAX_DIGITS:
        if _INT.match(value):
            return int(value)
        return float(value) if _FLOAT.match(value) else value
    return _WORDS.get(value, value)
