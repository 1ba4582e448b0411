"""The part of Go's text/template that VirtualOutbounds use; parsed into a small tree, with nothing that could run.

``{{.name}}``, ``{{if .name}}…{{else if .name}}…{{else}}…{{end}}``, remarks ``{{/* */}}`` and trim markers. A name
that has no value is an error here; Go would print ``<no value>``, which no DNS name can hold.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

MAX_LENGTH = 4096
"""Characters of a template."""

MAX_DEPTH = 16
"""Nested conditions."""

_BLANKS = " \t\r\n"
_FIELD = re.compile(r"\.([A-Za-z0-9_]+)\Z")
_WORD = re.compile(r"[A-Za-z]+")
_UNSUPPORTED = "only {{.name}} and {{if .name}}…{{else}}…{{end}} are understood"


class TemplateError(ValueError):
    """A template cannot be used. position: of the character, from 1, 0 where there is none."""

    def __init__(self, problem: str, position: int = 0) -> None:
        self.position = position
        super().__init__(f"{problem} (at character {position})" if position else problem)


class MissingValueError(TemplateError):
    """A template uses a name that has no value. name: which."""

    def __init__(self, name: str, position: int) -> None:
        self.name = name
        super().__init__(f"there is no value for .{name}", position)


@dataclass(frozen=True, slots=True)
class _Text:
    text: str


@dataclass(frozen=True, slots=True)
class _Value:
    name: str
    position: int


@dataclass(frozen=True, slots=True)
class _If:
    name: str
    then: "tuple[_Part, ...]"
    otherwise: "tuple[_Part, ...]"


_Part: TypeAlias = _Text | _Value | _If


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template. fields: every name that it uses, in order."""

    text: str
    fields: tuple[str, ...] = field(compare=False, repr=False)
    _parts: tuple[_Part, ...] = field(compare=False, repr=False)

    def render(self, values: Mapping[str, str]) -> str:
        """Give the text with *values* filled in. Raises MissingValueError."""
        return "".join(_render(self._parts, values))


def _render(parts: tuple[_Part, ...], values: Mapping[str, str]) -> list[str]:
    out: list[str] = []
    for part in parts:
        match part:
            case _Text(text):
                out.append(text)
            case _Value(name, position):
                if name not in values:
                    raise MissingValueError(name, position)
                out.append(values[name])
            case _If(name, then, otherwise):
                out.extend(_render(then if values.get(name) else otherwise, values))
    return out


@dataclass(frozen=True, slots=True)
class _Action:
    words: str
    position: int


def parse(text: str) -> Template:
    """Parse *text*. Raises TemplateError with the place of what is wrong."""
    if len(text) > MAX_LENGTH:
        raise TemplateError(f"longer than {MAX_LENGTH} characters")
    parser = _Parser(_tokens(text))
    parts, end = parser.block(0)
    if end is not None:
        raise TemplateError(f"{{{{{end.words}}}}} without an {{{{if}}}}", end.position)
    return Template(text, tuple(dict.fromkeys(parser.fields)), parts)


def _tokens(text: str) -> list[_Text | _Action]:
    tokens: list[_Text | _Action] = []
    at, trim = 0, False
    while True:
        start = text.find("{{", at)
        plain = text[at:] if start < 0 else text[at:start]
        if trim:
            plain = plain.lstrip(_BLANKS)
        if start < 0:
            if plain:
                tokens.append(_Text(plain))
            return tokens
        inner = start + 2
        if text[inner : inner + 1] == "-" and text[inner + 1 : inner + 2] in tuple(_BLANKS):
            plain = plain.rstrip(_BLANKS)
            inner += 2
        if plain:
            tokens.append(_Text(plain))
        remark = text[inner:].lstrip(_BLANKS) if inner > start + 2 else text[inner:]
        closing = len(text) - len(remark)
        if remark.startswith("/*"):
            closing = text.find("*/", closing + 2)
            if closing < 0:
                raise TemplateError("a remark that does not end", start + 1)
            words, end = "", text.find("}}", closing)
            if end < 0 or text[closing + 2 : end].strip(_BLANKS) not in ("", "-"):
                raise TemplateError("a remark must be alone in its {{ }}", start + 1)
            trim = text[closing + 2 : end].endswith("-")
        else:
            end = text.find("}}", inner)
            if end < 0:
                raise TemplateError("{{ without }}", start + 1)
            words = text[inner:end]
            trim = len(words) > 1 and words[-1] == "-" and words[-2] in _BLANKS
            words = (words[:-1] if trim else words).strip(_BLANKS)
            tokens.append(_Action(words, start + 1))
        at = end + 2


class _Parser:
    """Tokens → parts, by going down one condition at a time."""

    def __init__(self, tokens: list[_Text | _Action]) -> None:
        self._tokens = iter(tokens)
        self.fields: list[str] = []

    def block(self, depth: int) -> tuple[tuple[_Part, ...], _Action | None]:
        """Give the parts up to an ``else`` or ``end``, and that."""
        parts: list[_Part] = []
        for token in self._tokens:
            if isinstance(token, _Text):
                parts.append(token)
                continue
            words = token.words
            word = _WORD.match(words)
            keyword = word[0] if word else ""
            if keyword in ("else", "end"):
                return tuple(parts), token
            if keyword == "if":
                parts.append(self._condition(words[2:], token.position, depth + 1))
            else:
                parts.append(_Value(self._field(words, token.position), token.position))
        return tuple(parts), None

    def _condition(self, words: str, position: int, depth: int) -> _If:
        if depth > MAX_DEPTH:
            raise TemplateError(f"conditions nested deeper than {MAX_DEPTH}", position)
        if words.strip(_BLANKS) == "":
            raise TemplateError("{{if}} without a name", position)
        name = self._field(words.strip(_BLANKS), position)
        then, end = self.block(depth)
        otherwise: tuple[_Part, ...] = ()
        if end is not None and end.words != "end":
            rest = end.words[4:].strip(_BLANKS)
            if end.words == "else":
                otherwise, end = self.block(depth)
                if end is not None and end.words != "end":
                    raise TemplateError(f"{{{{{end.words}}}}} after {{{{else}}}}", end.position)
            elif end.words[:4] == "else" and rest.startswith("if"):
                return _If(name, then, (self._condition(rest[2:], end.position, depth + 1),))
            else:
                raise TemplateError(f"{{{{{end.words}}}}}: {_UNSUPPORTED}", end.position)
        if end is None:
            raise TemplateError("{{if}} without {{end}}", position)
        return _If(name, then, otherwise)

    def _field(self, words: str, position: int) -> str:
        if not words:
            raise TemplateError("{{ }} holds nothing", position)
        match = _FIELD.match(words)
        if match is None:
            raise TemplateError(f"{{{{{words[:40]}}}}}: {_UNSUPPORTED}", position)
        self.fields.append(match[1])
        return match[1]
