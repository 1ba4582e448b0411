"""The door: exit codes, what is loaded, and output that nobody reads to its end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from meshdns import __version__
from meshdns.cli.main import VERBS
from tests.cli.conftest import Meshdns

HEAVY = {"pydantic", "yaml", "lmdb", "grpc", "google.protobuf", "dnslib", "asyncio"}


def test_version_is_printed(meshdns: Meshdns) -> None:
    assert meshdns("--version").out == f"meshdns {__version__}\n"


def test_without_a_verb_the_help_is_printed_as_wrong_usage(meshdns: Meshdns) -> None:
    said = meshdns()
    assert said.code == 2
    assert all(verb in said.err for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_says_which_instance(meshdns: Meshdns, verb: str) -> None:
    said = meshdns(verb, "--help")
    assert said.code == 0
    assert "--config" in said.out
    assert "--data-dir" in said.out


@pytest.mark.parametrize(
    "words",
    [
        ["frobnicate"],
        ["names", "--frobnicate"],
        ["query"],
        ["query", "web.mesh", "NOTYPE", "--server", "127.0.0.1"],
        ["query", "a..mesh", "--server", "127.0.0.1"],
        ["query", "web.mesh", "--server", "not-an-address"],
        ["query", "web.mesh", "--server", "127.0.0.1:99999"],
        ["names", "--config", "absent.yaml"],
    ],
)
def test_wrong_usage_and_configuration_exit_2_with_a_message(meshdns: Meshdns, words: list[str]) -> None:
    said = meshdns(*words)
    assert (said.code, said.out) == (2, "")
    assert said.err


def test_every_fault_of_a_configuration_is_printed(meshdns: Meshdns, tmp_path: Path) -> None:
    path = tmp_path / "meshdns.yaml"
    path.write_text("listn: []\ndrain: 5\nsources: [{name: a, type: file, path: absent.yaml}]\n")
    said = meshdns("names", "--config", path)
    assert said.code == 2
    assert [word for word in ("listn", "drain", "sources[0].path") if word in said.err] == [
        "listn", "drain", "sources[0].path",
    ]  # fmt: skip


def test_the_configuration_is_found_by_the_environment(
    meshdns: Meshdns, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "records.yaml").write_text("records: {}\n")
    path = tmp_path / "anywhere.yaml"
    path.write_text(f"data_dir: {kept}\nsources: [{{name: a, type: file, path: records.yaml}}]\n")
    monkeypatch.setenv("MESHDNS_CONFIG", str(path))
    assert meshdns("names", "web.mesh").code == 0


def _loaded(*words: str) -> set[str]:
    """Give the heavy packages that a process loads for ``meshdns`` with *words*."""
    program = (
        "import sys, json; from meshdns.cli.main import main; main(sys.argv[1:]); "
        "print(json.dumps(list(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    return HEAVY & set(json.loads(done.stderr.splitlines()[-1]))


def test_help_loads_nothing_heavy() -> None:
    assert _loaded("--help") == set()


def test_a_verb_that_reads_the_store_loads_no_grpc(kept: Path) -> None:
    assert _loaded("names", "--data-dir", str(kept)).isdisjoint({"grpc", "google.protobuf", "dnslib"})


def test_a_reader_that_stops_early_is_no_error(kept: Path) -> None:
    command = [sys.executable, "-m", "meshdns", "names", "--data-dir", str(kept), "--json"]
    reading, writing = os.pipe()
    os.close(reading)  # nobody reads any of it
    try:
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False, timeout=30)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")
