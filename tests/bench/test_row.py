import pytest

from bench.row import TIMES, Bound, LeftOut, Row, at_least, at_most, figures, from_json, markdown, number, to_json
from bench.settings import Settings


@pytest.mark.parametrize(
    ("bound", "figure", "holds"),
    [
        (at_most(1.7), 1.69, True),
        (at_most(1.7), 1.7, True),
        (at_most(1.7), 1.71, False),
        (at_least(2), 2.0, True),
        (at_least(2), 1.99, False),
        (at_most(0), 0, True),
        (at_most(0), 1, False),
    ],
)
def test_a_bound_is_kept_by_itself(bound: Bound, figure: float, holds: bool) -> None:
    assert bound.holds(figure) is holds


@pytest.mark.parametrize(
    ("measured", "must", "stretch", "met", "stretched"),
    [
        ((1.0, 9.0, 2.0), at_most(2), at_most(1), True, False),  # the median decides, one wild round does not
        ((1.0, 9.0, 9.0), at_most(2), at_most(1), False, False),
        ((3.0,), at_least(2), at_least(3), True, True),
        ((1.0, 2.0), at_most(1.5), None, True, None),
        ((5.0,), None, None, None, None),
    ],
)
def test_the_median_is_what_counts(
    measured: tuple[float, ...], must: Bound | None, stretch: Bound | None, met: bool | None, stretched: bool | None
) -> None:
    row = Row("key", "what", measured, TIMES, must, stretch)
    assert (row.met, row.stretched) == (met, stretched)


def test_a_row_without_a_figure_is_no_row() -> None:
    with pytest.raises(ValueError, match=r"hot-a: no figure was measured"):
        Row("hot-a", "what", (), TIMES)


@pytest.mark.parametrize(
    ("figure", "written"),
    [(0, "0"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12,346"), (5.0, "5"), (-1.5, "-1.50")],
)
def test_figures_have_the_digits_that_say_something(figure: float, written: str) -> None:
    assert number(figure) == written


def test_the_spread_is_shown_where_there_is_one() -> None:
    assert figures((1.5,)) == "1.50"
    assert figures((1.5, 1.25, 3.0)) == "1.50 (1.25 to 3)"


def test_a_miss_is_shown_as_a_miss() -> None:
    table = markdown(
        [
            Row("a", "kept", (1.0,), TIMES, at_most(2), at_most(0.5)),
            Row("b", "broken", (3.0, 4.0, 5.0), "ms", at_most(2)),
            Row("c", "told", (7.25,), "µs"),
            LeftOut("d", "Knot is not here: apt-get install knot"),
        ]
    )
    assert table.splitlines()[2:] == [
        f"| kept | 1 {TIMES} | ≤ 2 | ✓ | ≤ 0.5 missed |",
        "| broken | 4 (3 to 5) ms | ≤ 2 | **missed** |  |",
        "| told | 7.25 µs |  |  |  |",
        "",
        "- left out: `d`: Knot is not here: apt-get install knot",
    ]


@pytest.mark.parametrize(
    "row",
    [
        Row("a", "what", (1.0, 2.0), TIMES, at_most(2), at_least(1), {"ours, cpu µs": [4.0, 5.0]}),
        Row("b", "what", (1.0,), "ms"),
        LeftOut("c", "why"),
    ],
)
def test_json_gives_back_what_it_was_given(row: Row | LeftOut) -> None:
    assert from_json(to_json(row)) == row


@pytest.mark.parametrize(
    ("only", "key", "wanted"),
    [
        ((), "hot-a-vs-echo", True),
        (("hot-a",), "hot-a-vs-echo", True),
        (("hot-a-vs-echo",), "hot-a", True),  # a group that has the row
        (("hot-a",), "hot-edns-vs-echo", False),
        (("large", "mixed"), "mixed-vs-plain", True),
    ],
)
def test_only_means_keys_that_begin_so(only: tuple[str, ...], key: str, wanted: bool) -> None:
    settings = Settings(only=only)
    assert settings.wants(key) is wanted
    assert settings.wants_any(["nothing-else", key]) is wanted
