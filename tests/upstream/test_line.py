"""Who is next in line: scenarios, and that nobody is lost or served twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshdns.upstream.line import Line


def filled(*questions: tuple[str, str]) -> Line[str]:
    """Give a line with (door, domain) pairs, each question named by its place among its door's."""
    line: Line[str] = Line()
    for number, (door, domain) in enumerate(questions):
        assert line.join(f"{door}{number}", door, domain)
    return line


@pytest.mark.parametrize(
    ("doors", "order"),
    [
        ("aaa", ["a0", "a1", "a2"]),
        ("aaab", ["a0", "b3", "a1", "a2"]),
        ("aabbc", ["a0", "b2", "c4", "a1", "b3"]),
    ],
)
def test_doors_take_turns_and_behind_each_the_first_is_first(doors: str, order: list[str]) -> None:
    line = filled(*((door, "x") for door in doors))
    assert [line.next() for _ in doors] == order
    assert not line
    with pytest.raises(LookupError):
        line.next()


@pytest.mark.parametrize(
    ("domains", "order"),
    [
        ("xxxxy", ["d0", "d4", "d1", "d2", "d3"]),
        ("xxyyz", ["d0", "d2", "d4", "d1", "d3"]),
        ("xyz", ["d0", "d1", "d2"]),
    ],
)
def test_domains_take_turns_behind_a_door(domains: str, order: list[str]) -> None:
    line = filled(*(("d", domain) for domain in domains))
    assert [line.next() for _ in domains] == order


def test_a_line_is_bounded_behind_its_own_door_only() -> None:
    line: Line[int] = Line(per_door=3, per_suffix=2)
    assert [line.join(n, "a", "x") for n in range(3)] == [True, True, False]
    assert [line.join(n, "a", "y") for n in range(2)] == [True, False]
    assert line.is_full("a")
    assert not line.is_full("b")
    assert line.join(9, "b", "x")
    line.next()
    assert line.join(9, "a", "x")


@given(st.lists(st.one_of(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), st.none()), max_size=60))
def test_whoever_joins_leaves_once(steps: list[tuple[str, str] | None]) -> None:
    line: Line[int] = Line(per_door=5, per_suffix=3)
    inside: list[int] = []
    for number, step in enumerate(steps):
        if step is not None:
            if line.join(number, *step):
                inside.append(number)
        elif inside:
            inside.remove(line.next())
        assert bool(line) is bool(inside)
    while line:
        inside.remove(line.next())
    assert inside == []
    assert not line._doors
    assert not line._lengths
