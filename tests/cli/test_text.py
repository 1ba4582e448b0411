"""Durations, moments and tables as people read them."""

import pytest

from meshdns.cli.text import one_line, rfc3339, span, table


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0s"), (0.44, "0.4s"), (9.99, "10.0s"), (10, "10s"), (59.6, "1m"), (61, "1m 1s"), (3600, "1h"),
        (3661, "1h 1m"), (86400, "1d"), (90000, "1d 1h"), (10 * 86400 + 5, "10d"),
    ],
)  # fmt: skip
def test_a_duration_shows_its_two_largest_units(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_columns_stand_below_each_other() -> None:
    assert list(table(("A", "BB", "C"), [("long", "b", "c"), ("x", "y", "")])) == [
        "A     BB  C",
        "long  b   c",
        "x     y",
    ]


@pytest.mark.parametrize(
    ("given", "shown"),
    [("plain", "plain"), ("a\nb\x1b[1m", "a b [1m"), ("\ud800x", " x"), ("x" * 300, "x" * 199 + "…")],
)
def test_other_peoples_words_are_one_harmless_line(given: str, shown: str) -> None:
    assert one_line(given) == shown


def test_times_for_programs_are_rfc_3339() -> None:
    assert rfc3339(1.5) == "1970-01-01T00:00:01.500Z"
