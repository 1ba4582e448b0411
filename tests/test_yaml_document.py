"""YAML read strictly: values, lines, repeated keys, and what is refused."""

import contextlib
import random
import string
from typing import Any

import pytest

from meshdns.yaml_document import MAX_DEPTH, DocumentError, YamlList, YamlMapping, decode, read

VALUES: list[tuple[str, Any]] = [
    ("", None),
    ("~", None),
    ("null", None),
    ("true", True),
    ("False", False),
    ("yes", "yes"),
    ("off", "off"),
    ("0", 0),
    ("-7", -7),
    ("+7", 7),
    ("007", 7),
    ("0x10", "0x10"),
    ("1_000", "1_000"),
    ("1:30", "1:30"),
    ("1.5", 1.5),
    (".5", 0.5),
    ("1e3", 1000.0),
    ("1.2.3.4", "1.2.3.4"),
    ("-", None),
    ("2001:10:20:30:40:50:1:2", "2001:10:20:30:40:50:1:2"),
    ("2026-01-01", "2026-01-01"),
    (".inf", ".inf"),
    ("9" * 41, "9" * 41),
    ('"5"', "5"),
    ("'true'", "true"),
    ("!!str 5", "5"),
    ('"\\u00e9"', "é"),
]


@pytest.mark.parametrize(("text", "value"), VALUES)
def test_scalars_are_read_by_the_core_schema(text: str, value: Any) -> None:
    if text == "-":
        assert read("a: \n  -") == {"a": [None]}
        return
    found = read(f"a: {text}\n")["a"]
    assert found == value
    assert type(found) is type(value)


def test_an_empty_document_is_nothing() -> None:
    assert read("") is read("# remark") is read("---\n") is None


def test_everything_knows_its_line() -> None:
    tree = read("a: 1\nb:\n  - x\n  - c: 2\n    d: {e: 3,\n     f: 4}\n")
    assert isinstance(tree, YamlMapping)
    assert tree.lines == {"a": 1, "b": 2}
    items = tree["b"]
    assert isinstance(items, YamlList)
    assert items.lines == [3, 4]
    assert items[1].lines == {"c": 4, "d": 5}
    assert items[1]["d"].lines == {"e": 5, "f": 6}


def test_a_repeated_key_keeps_its_first_value_and_is_told() -> None:
    tree = read("a: 1\nb: 2\n'a': 3\na: {a: 4}\n")
    assert tree == {"a": 1, "b": 2}
    assert tree.repeated == [("a", 3), ("a", 4)]


def test_keys_are_text_and_merging_is_not_done() -> None:
    assert read("1: a\ntrue: b\n<<: {c: d}\n") == {"1": "a", "true": "b", "<<": {"c": "d"}}


def test_aliases_share_what_their_anchor_names() -> None:
    tree = read("a: &x [1]\nb: *x\n&k c: *k\n")
    assert tree == {"a": [1], "b": [1], "c": "c"}
    assert tree["a"] is tree["b"]


REFUSED = [
    ("a: [1\n", "not YAML", 2),
    ("a: 'x\n", "not YAML", 2),
    ("a: b: c\n", "not YAML", 1),
    ("a: @x\n", "not YAML", 1),
    ("x:\n- a\n b\nc\n", "not YAML", None),
    ("a:\n\tb: 1\n", "indented with a tab", 2),
    ("\ta: 1\n", "indented with a tab", 1),
    ("a: 1\n---\nb: 1\n", "a second document", 2),
    ("a: &x [*x]\n", "unknown anchor '*x'", 1),
    ("a: !!int 5\n", "the tag", 1),
    ("a: !!set {b}\n", "the tag", 1),
    ("a: !x [b]\n", "the tag", 1),
    ("[a]: b\n", "a key must be text", 1),
    ("a: " + "[" * MAX_DEPTH + "]" * MAX_DEPTH, "nested deeper", 1),
    ("[" * 100_000, "nested deeper", 1),
    ("a: b\nc: \x01\n", "not YAML", 2),
    ("a: \ud800\n", "not text", None),
]


@pytest.mark.parametrize(("text", "message", "line"), REFUSED)
def test_what_is_not_one_plain_document_is_refused_with_its_line(text: str, message: str, line: int | None) -> None:
    with pytest.raises(DocumentError) as caught:
        read(text)
    assert message in caught.value.fault.problem
    if line is not None:
        assert caught.value.fault.line == line


@pytest.mark.parametrize(
    ("content", "message", "line"),
    [(b"a\0b", "zero octets", None), (b"a: b\nc: \xff\n", "octet 0xff", 2), (b"\xff\xfea\0", "not a text file", None)],
)
def test_what_is_not_text_is_refused(content: bytes, message: str, line: int | None) -> None:
    with pytest.raises(DocumentError) as caught:
        decode(content)
    assert message in caught.value.fault.problem
    assert caught.value.fault.line == line


def test_any_text_is_read_or_refused() -> None:
    """Never another exception: 5,000 texts grown from a document by cutting, doubling and strewing signs."""
    dice = random.Random(20261121)
    seed = "ttl: 30\nrecords:\n  a.mesh: &x [240.0.0.1, '::1']\n  \"*.b\": {addresses: *x, ports: [{number: 80}]}\n"
    signs = "{}[]:,-#&*!|>'\"%@`\t\n ~?<\\" + string.digits + "é\u2028\ufeff\x07"
    for _ in range(5_000):
        text = seed
        for _ in range(dice.randint(1, 8)):
            at = dice.randrange(len(text) + 1)
            match dice.randrange(3):
                case 0:
                    text = text[:at] + dice.choice(signs) + text[at:]
                case 1:
                    text = text[:at] + text[at + dice.randint(1, 9) :]
                case _:
                    text = text[:at] + text[dice.randrange(len(text) + 1) :]
            text = text or "a"
        with contextlib.suppress(DocumentError):
            read(text)
