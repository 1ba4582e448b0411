"""What is true of the repository as a whole: its documents, its examples, its files."""

import ast
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import trustme

from meshdns import config as configuration
from meshdns.cli.main import VERBS, main
from meshdns.config import Config, load
from meshdns.upstream.settings import UpstreamSettings

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = [path for path in sorted((ROOT / "config").glob("*.yaml")) if path.name != "records.yaml"]


def tracked() -> list[Path]:
    """Give every file of the repository; what git would take, where there is git."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def blocks(path: Path, *languages: str) -> list[str]:
    """Give the code blocks of a document that are in one of *languages*."""
    found = re.findall(r"^( *)```(\w+)\n(.*?)^\1```$", path.read_text(), re.MULTILINE | re.DOTALL)
    return [body for _, language, body in found if language in languages]


def commands(path: Path) -> list[list[str]]:
    """Give every command of a document's shell blocks: lines of ``sh``, lines with a prompt of ``console``."""
    lines = [line.strip() for body in blocks(path, "sh") for line in body.splitlines()]
    lines += [line[2:] for body in blocks(path, "console") for line in body.splitlines() if line.startswith("$ ")]
    return [shlex.split(line, comments=True) for line in lines if line]


# ---- documents


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_of_a_document_exists(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in commands(path):
        if words[0] == "make":
            assert words[1] in targets
        elif words[0].endswith("meshdns"):
            assert words[1] in VERBS, words
            verb = words[1:3] if words[1] == "generate" else words[1:2]
            assert main([*verb, "--help"]) == 0
            known = capsys.readouterr().out
            for option in words[2:]:
                assert not option.startswith("--") or option.partition("=")[0] in known, words
        else:
            assert words[0] in ("docker", "kumactl", "curl", "envoy"), words


def test_verbs_and_exit_codes_are_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for verb in VERBS:
        assert f"`meshdns {verb}" in readme
    for words in re.findall(r"`meshdns (\w+)", readme):
        assert words in VERBS


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_named_files_of_a_document_exist(path: Path) -> None:
    text = path.read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (path.parent / target).exists(), target
    for target in re.findall(r"`((?:config|docs|tests|meshdns)/[\w./-]+\.\w+)`", text):
        assert (ROOT / target).exists(), target


def test_every_key_of_the_configuration_is_in_its_reference() -> None:
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", (ROOT / "docs" / "configuration.md").read_text(), re.MULTILINE)
    documented = {key for row in rows for key in re.findall(r"\w+", row)}
    fields = Config.model_fields
    known = {field.alias or name for name, field in fields.items()}
    parts = (type(Config().tcp), type(Config().rate_limit), type(Config().cache), UpstreamSettings)
    for model in (*configuration._SOURCE_TYPES.values(), *parts):
        known |= {field.alias or name for name, field in model.model_fields.items()}
    known -= {"name", "type"}
    assert documented == known


def test_the_defaults_in_the_reference_are_the_true_ones(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "configuration.md").read_text().partition("## Sources")[0]
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", text, re.MULTILINE)
    top = {key: value for key, value in rows if key in Config.model_fields}
    assert len(top) > 8
    (tmp_path / "records.yaml").write_text("records: {}\n")
    path = tmp_path / "meshdns.yaml"
    for key, value in top.items():
        path.write_text(f"{key}: {value}\nsources: [{{name: a, type: file, path: records.yaml}}]\n")
        given = load(path)
        path.write_text("sources: [{name: a, type: file, path: records.yaml}]\n")
        assert getattr(given, key) == getattr(load(path), key) or key == "sources", key


# ---- examples


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a directory to check examples in, with what they take from the environment."""
    monkeypatch.setenv("POD_NAME", "meshdns-7d4f")
    monkeypatch.setenv("POD_NAMESPACE", "meshdns")
    (tmp_path / "records.yaml").write_text((ROOT / "config" / "records.yaml").read_text())
    shutil.copytree(ROOT / "config" / "mesh", tmp_path / "mesh")
    return tmp_path


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_passes_check_once_its_files_are_there(
    elsewhere: Path, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = path.read_text()
    for name in set(re.findall(r"(?:ca_file|token_file): (\S+)", text)):
        dummy = elsewhere / Path(name).name
        dummy.write_text(trustme.CA().cert_pem.bytes().decode() if name.endswith(".crt") else "aaaa.bbbb.cccc\n")
        text = text.replace(name, str(dummy))
    copy = elsewhere / path.name
    copy.write_text(text)
    code = main(["check", "--config", str(copy)])
    assert (code, capsys.readouterr().err) == (0, "")


def test_every_use_has_an_example() -> None:
    assert {path.stem for path in EXAMPLES} >= {
        "sidecar", "coredns-forward", "externalname", "kuma-universal", "kong-mesh", "publisher",
    }  # fmt: skip


# ---- files


def test_no_file_names_a_place_of_one_machine_or_a_registry() -> None:
    places = re.compile(
        rb"(?<![\w.])/(?:work|root|home/\w+|Users)/|"
        rb"(?:docker|ghcr|quay|gcr|registry\.k8s)\.io/|registry\.npm[j]s|files\.python[h]osted|py[p]i\.org/simple|index-ur[l]"
    )
    here = Path(__file__)
    found = [
        f"{path.relative_to(ROOT)}: {match[0].decode()}"
        for path in tracked()
        if path != here and path.suffix not in (".bin", ".pb", ".gz")
        for match in places.finditer(path.read_bytes())
    ]
    assert not found


def test_every_package_has_a_charter_and_every_module_says_what_it_is_for() -> None:
    for path in sorted((ROOT / "meshdns").rglob("*.py")):
        said = ast.get_docstring(ast.parse(path.read_text())) or ""
        assert said, f"{path.relative_to(ROOT)} has no docstring"
        if path.name == "__init__.py" and path.parent.name not in ("meshdns", "decode", "forwarders"):
            assert "May import" in said, path
            assert re.search(r"[Mm]ust never", said), path


def test_test_data_names_its_origin() -> None:
    folders = {
        (ROOT / "tests" / "data" / path.relative_to(ROOT / "tests" / "data").parts[0])
        for path in tracked()
        if path.is_relative_to(ROOT / "tests" / "data")
    }
    assert folders
    assert [folder.name for folder in folders if not (folder / "README.md").is_file()] == []


def test_the_locks_pin_what_the_project_asks_for() -> None:
    for name in ("requirements.lock", "requirements-build.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text()
        pinned = re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE)
        assert pinned
        assert pinned == sorted(pinned)
        for entry in re.split(r"^(?=[a-z0-9-]+==)", text, flags=re.MULTILINE):
            assert not entry.strip() or "--hash=sha256:" in entry, entry
    build = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements-build.lock").read_text(), re.MULTILINE))
    dev = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements-dev.lock").read_text(), re.MULTILINE))
    run = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert (build | run).items() <= dev.items()


@pytest.mark.needs("hadolint")
def test_the_dockerfile_has_no_findings() -> None:
    done = subprocess.run(["hadolint", str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_scripts_can_be_executed() -> None:
    for path in (ROOT / ".ci").iterdir():
        assert os.access(path, os.X_OK), path
