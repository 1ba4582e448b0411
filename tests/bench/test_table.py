from dataclasses import replace
from pathlib import Path

import pytest

from bench.main import main
from bench.row import LeftOut, Row, at_most
from bench.table import Results, ResultsError, Section, check_place, merge, read

RESULTS = Results(
    run="20260101-120000-ab12",
    when="2026-01-01 12:00 UTC",
    command="python -m bench",
    load="dnsperf",
    commit="0123456789ab",
    rounds=5,
    seconds=3.0,
    quick=False,
    partial=False,
    machine={"cores": "2"},
    versions={"Knot DNS": "3.2.6"},
    sections=(
        Section("Cost", "how", (Row("hot", "hot names", (1.0,), "µs", at_most(2)), LeftOut("knot", "is not here"))),
        Section("Time", "how", (Row("p50", "half of them", (9.0,), "ms", at_most(2)),)),
    ),
)
OTHER = replace(RESULTS, run="20260102-130000-cd34", when="2026-01-02 13:00 UTC")


def written(path: Path, results: Results) -> Path:
    path.write_text(results.to_json())
    return path


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    assert read(written(tmp_path / "table.json", RESULTS)) == RESULTS


def test_the_table_says_what_was_missed_and_what_it_ran_on() -> None:
    text = RESULTS.to_markdown()
    assert "1 of 2 bounds met: missed `p50`." in text
    assert "Knot DNS 3.2.6" in text
    assert "Run `20260101-120000-ab12`" in text
    assert "left out: `knot`: is not here" in text
    assert "quick run" not in text
    assert "quick run" in replace(RESULTS, quick=True).to_markdown()


def test_parts_of_one_run_are_put_together() -> None:
    first = replace(RESULTS, sections=RESULTS.sections[:1])
    knot = Row("knot", "it came later", (3.0,), "µs")
    second = replace(RESULTS, sections=(Section("Cost", "how", (knot,)), RESULTS.sections[1]))
    merged = merge([first, second])
    assert merged.sections == (
        Section("Cost", "how", (RESULTS.sections[0].rows[0], knot)),
        RESULTS.sections[1],
    )


def test_different_runs_are_refused() -> None:
    with pytest.raises(ResultsError, match=r"20260101-120000-ab12 .* and run 20260102-130000-cd34 .* different runs"):
        merge([RESULTS, OTHER])


def test_the_command_refuses_different_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = written(tmp_path / "one.json", RESULTS), written(tmp_path / "other.json", OTHER)
    assert main(["--show", str(one), str(other)]) == 2
    assert "are different runs" in capsys.readouterr().err
    assert main(["--show", str(one), str(one)]) == 0
    assert "1 of 2 bounds met" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not results of this benchmark"),
        ('{"format": 7}', "format 7, and 1 is understood"),
        ('{"format": 1}', "not results of this benchmark"),
    ],
)
def test_what_is_no_result_is_named(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "table.json"
    path.write_text(content)
    with pytest.raises(ResultsError, match=f"table.json: {words}"):
        read(path)


def test_some_rows_do_not_replace_another_run(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    check_place(path, OTHER.run, partial=True, force=False)  # nothing there
    written(path, RESULTS)
    with pytest.raises(ResultsError, match=r"table.json has run 20260101-120000-ab12"):
        check_place(path, OTHER.run, partial=True, force=False)
    check_place(path, OTHER.run, partial=True, force=True)
    check_place(path, OTHER.run, partial=False, force=False)  # a whole run
    check_place(path, RESULTS.run, partial=True, force=False)


def test_the_command_looks_before_it_measures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = written(tmp_path / "table.json", RESULTS).read_text()
    assert main(["--only", "no-such-row", "--results", str(tmp_path)]) == 2
    assert "some rows of another run do not replace it" in capsys.readouterr().err
    assert (tmp_path / "table.json").read_text() == kept
