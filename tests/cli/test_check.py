"""``meshdns check``: what it prints for people and programs, and what it gives to a shell."""

import json
from pathlib import Path

import pytest

from meshdns.cli.main import main

RECORDS = "records:\n  one.mesh: 240.0.0.1\n  a..b: 240.0.0.1\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A configuration without faults, with a records file without faults."""
    (tmp_path / "records.yaml").write_text("records: {one.mesh: 240.0.0.1}\n")
    file = tmp_path / "meshdns.yaml"
    file.write_text("sources: [{name: extra, type: file, path: records.yaml}]\n")
    return file


def test_a_good_configuration_is_said_to_be_one(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--config", str(path)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"{path}: ok, sources in order of precedence: extra (file); zones: mesh, mesh.local"
    assert second == f"{path.parent}/records.yaml: 1 name"


def test_every_fault_of_every_file_is_printed_at_once(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_text("listne: []\ndrain: 5\n" + path.read_text() + "zones: [a..b]\n")
    (path.parent / "records.yaml").write_text(RECORDS)
    assert main(["check", "--config", str(path)]) == 2
    printed = capsys.readouterr()
    assert printed.err == ""
    places = [line.split(": ")[:2] for line in printed.out.splitlines()]
    assert places == [
        [f"{path}:1", "listne"],
        [f"{path}:2", "drain"],
        [f"{path}:4", "zones[0]"],
        [f"{path.parent}/records.yaml:3", "records"],
        [f"{path.parent}/records.yaml", "1 name, without what is named above"],
    ]


def test_a_fault_of_a_records_file_alone_is_a_finding(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path.parent / "records.yaml").write_text("records: [\n")
    assert main(["check", "--config", str(path)]) == 1
    fault, fine = capsys.readouterr().out.splitlines()
    assert fault.startswith(f"{path.parent}/records.yaml:2: not YAML")
    assert fine.startswith(f"{path}: ok")


def test_json_has_the_same(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_text(path.read_text() + "drain: 5\n")
    (path.parent / "records.yaml").write_text(RECORDS)
    assert main(["check", "--config", str(path), "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert found["config"] == str(path)
    assert not found["ok"]
    assert found["records"] == {f"{path.parent}/records.yaml": 1}
    assert [(fault["file"], fault["line"], fault["key"]) for fault in found["faults"]] == [
        (str(path), 2, "drain"),
        (f"{path.parent}/records.yaml", 3, "records"),
    ]
    assert "such as 500ms" in found["faults"][0]["problem"]


def test_json_of_a_good_configuration(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--json", "--config", str(path)]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "config": str(path),
        "ok": True,
        "faults": [],
        "records": {f"{path.parent}/records.yaml": 1},
        "mesh": [],
    }


def test_a_missing_records_file_is_named_once(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path.parent / "records.yaml").unlink()
    assert main(["check", "--config", str(path)]) == 2
    assert capsys.readouterr().out == f"{path}:1: sources[0].path: {path.parent}/records.yaml: no such file\n"


def test_a_configuration_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--config", str(tmp_path / "gone.yaml")]) == 2
    assert capsys.readouterr().out == f"{tmp_path}/gone.yaml: no such file\n"


def test_without_a_configuration_it_says_where_it_looked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MESHDNS_CONFIG", raising=False)
    monkeypatch.setattr("meshdns.config.DEFAULT_FILES", (Path("meshdns.yaml"),))
    assert main(["check"]) == 2
    assert "looked for $MESHDNS_CONFIG" in capsys.readouterr().err


def test_two_sources_of_one_file_have_it_read_once(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_text(
        "sources: [{name: a, type: file, path: records.yaml}, {name: b, type: file, path: ./records.yaml}]\n"
    )
    (path.parent / "records.yaml").write_text(RECORDS)
    assert main(["check", "--config", str(path)]) == 1
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_the_resources_that_are_published_are_checked_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mesh").mkdir()
    (tmp_path / "mesh" / "echo.yaml").write_text(
        "type: Dataplane\nmesh: default\nname: echo-1\nnetworking: {address: 192.168.0.1}\n"
    )
    file = tmp_path / "meshdns.yaml"
    file.write_text("sources: [{name: own, type: publisher, path: mesh/, mesh: default, vips: bind}]\n")
    assert main(["check", "--config", str(file)]) == 1
    *faults, fine = capsys.readouterr().out.splitlines()
    (fault,) = faults
    assert "echo.yaml:" in fault
    assert "Dataplane 'echo-1'" in fault
    assert fine.startswith(f"{file}: ok")
    assert main(["check", "--config", str(file), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["mesh"] == [fault]
    (tmp_path / "mesh" / "echo.yaml").write_text("type: Mesh\nname: default\n")
    assert main(["check", "--config", str(file)]) == 0
