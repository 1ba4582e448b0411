"""``meshdns generate externalname``: what it prints and writes, and what it gives to a shell."""

import io
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate.utils as kubernetes_validate
import pytest
import yaml

from tests.cli.conftest import Meshdns, Said
from tests.kubernetes import mesh

MANIFESTS = mesh.DATA / "manifests"
NAME = """\
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {type: ExternalName, externalName: %s}  # kept
"""


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mesh.keep(tmp_path_factory.mktemp("data"), mesh.usual())


@pytest.fixture
def generate(meshdns: Meshdns, data_dir: Path) -> Meshdns:
    def run(*words: Any) -> Said:
        return meshdns("generate", "externalname", *words, "--data-dir", data_dir)

    return run


def read(said: Said) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(said.out))


def test_the_documented_service_and_ingress(generate: Meshdns) -> None:
    words = ["echo.default.svc.80.mesh", "--namespace", "default", "--suffix", "-multizone", "--ingress", "kong"]
    service, ingress = read(generate(*words, "--path", "/bar", "--route-name", "demo-multizone"))
    assert service["metadata"]["name"] == "echo-multizone"
    assert service["metadata"]["namespace"] == "default"
    assert service["spec"]["type"] == "ExternalName"
    assert service["spec"]["externalName"] == "echo.default.svc.80.mesh"
    assert ingress["metadata"]["name"] == "demo-multizone"
    assert ingress["metadata"]["namespace"] == "default"
    assert ingress["spec"] == {
        "ingressClassName": "kong",
        "rules": [
            {
                "http": {
                    "paths": [
                        {
                            "path": "/bar",
                            "pathType": "ImplementationSpecific",
                            "backend": {"service": {"name": "echo-multizone", "port": {"number": 80}}},
                        }
                    ]
                }
            }
        ],
    }


def test_the_documented_front(generate: Meshdns) -> None:
    (service,) = read(generate("frontend.kong.svc.80.mesh", "--name", "front"))
    assert service["metadata"]["name"] == "front"
    assert service["spec"]["externalName"] == "frontend.kong.svc.80.mesh"


def test_json_is_one_list_of_the_same(generate: Meshdns) -> None:
    words = ["my*", "--suffix=-mesh", "--ingress", "kong", "--httproute", "public"]
    listed = json.loads(generate(*words, "-o", "json").out)
    assert (listed["apiVersion"], listed["kind"]) == ("v1", "List")
    assert listed["items"] == read(generate(*words))


def test_the_configuration_says_the_mesh_and_the_zones(meshdns: Meshdns, data_dir: Path, tmp_path: Path) -> None:
    config = tmp_path / "meshdns.yaml"
    config.write_text(
        f"data_dir: {data_dir}\nzones: [mesh.local]\nsources:\n"
        '  - {name: kuma, type: kuma, address: "127.0.0.1:5678", mesh: payments, plaintext: true}\n'
    )
    said = meshdns("generate", "externalname", "--config", config)
    names = [each["spec"]["externalName"] for each in read(said)]
    assert names
    assert all(name.endswith(".mesh.local") for name in names)
    said = meshdns("generate", "--config", config, "externalname", "web.mesh")
    assert read(said)[0]["metadata"]["annotations"]["meshdns.io/mesh"] == "payments"


def test_what_cannot_be_a_service_is_said_and_only_strict_minds(generate: Meshdns) -> None:
    said = generate("under_score.mesh", "web.mesh")
    assert said.code == 0
    assert "under_score.mesh: skipped, Kubernetes takes no underscore" in said.err
    assert len(read(said)) == 1
    strict = generate("under_score.mesh", "web.mesh", "--strict")
    assert (strict.code, strict.out) == (1, said.out)
    assert generate("web.mesh", "--strict").code == 0
    assert generate("quiet.mesh", "--strict").code == 0
    assert generate("quiet.mesh", "--strict", "--ingress", "kong").code == 1


def test_what_is_not_served_is_1_and_the_rest_is_written(generate: Meshdns) -> None:
    said = generate("wbe.mesh", "web.mesh")
    assert said.code == 1
    assert "wbe.mesh: no such name; the nearest: web.mesh" in said.err
    assert len(read(said)) == 1


def test_sources_that_never_delivered_are_named(meshdns: Meshdns, tmp_path: Path) -> None:
    mesh.keep(tmp_path, [], sources=("kuma",))
    said = meshdns("generate", "externalname", "--data-dir", tmp_path)
    assert (said.code, said.out) == (0, "")
    assert "source kuma has never delivered" in said.err
    assert meshdns("generate", "externalname", "--data-dir", tmp_path, "--strict").code == 1


def test_a_file_a_service(generate: Meshdns, tmp_path: Path) -> None:
    out = tmp_path / "new" / "services"
    said = generate("echo*", "--ingress", "kong", "--output-dir", out)
    assert (said.code, said.out) == (0, "")
    assert "2 files written, 0 were the same already" in said.err
    assert sorted(path.name for path in out.iterdir()) == ["echo-80.yaml", "echo-8080.yaml"]
    written = "---\n".join((out / name).read_text() for name in ("echo-80.yaml", "echo-8080.yaml"))
    assert written == generate("echo*", "--ingress", "kong").out
    (out / "mine.yaml").write_text("stays\n")
    (out / "echo-80.yaml").write_text("changed\n")
    before = (out / "echo-8080.yaml").stat().st_mtime_ns
    assert "1 files written, 1 were the same already" in generate("echo*", "--ingress", "kong", "--output-dir", out).err
    assert (out / "echo-8080.yaml").stat().st_mtime_ns == before
    assert (out / "mine.yaml").read_text() == "stays\n"
    generate("echo*", "--output-dir", out, "-o", "json")
    assert json.loads((out / "echo-80.json").read_text())["kind"] == "List"


WRONG_USAGE = [
    (["--namespace", "A_b"], "--namespace: 'A_b' is not"),
    (["web.mesh", "--name", "9a"], "--name: '9a' is not"),
    (["--suffix", "-Multi"], "--suffix: '-Multi' is not"),
    (["--suffix", "-"], "--suffix: '-' is not"),
    (["--suffix", "-" + "x" * 40], "--suffix"),
    (["--suffix"], "expected one argument"),
    (["--suffix", "--strict"], "expected one argument"),
    (["web.mesh", "--name", "a", "--suffix", "-b"], "--suffix: is not for a Service whose whole name"),
    (["--name", "front"], "--name: is for one Service, and these are 21"),
    (["--ingress", "kong", "--path", "/bar"], "--path: is for one Service"),
    (["--path", "/bar"], "--path: needs --ingress or --httproute"),
    (["web.mesh", "--ingress", "Kong Gateway"], "--ingress: 'Kong Gateway' is not"),
    (["web.mesh", "--ingress", ""], "--ingress: '' is not"),
    (["web.mesh", "--httproute", "a/b/c"], "--httproute: 'a/b' is not NAMESPACE/GATEWAY"),
    (["web.mesh", "--httproute", "infra/"], "--httproute: '' is not"),
    (["web.mesh", "--ingress", "kong", "--path", "bar"], "--path: 'bar' is not"),
    (["web.mesh", "--ingress", "kong", "--path", "/a//b"], "--path: '/a//b' is not"),
    (["--output-dir", "/dev/null/x"], "/dev/null/x: cannot be made"),
    (["--lint"], "needs files, directories, or -"),
    (["--lint", "absent.yaml"], "absent.yaml: cannot be read"),
    (["-o", "xml"], "invalid choice"),
]


@pytest.mark.parametrize(("words", "problem"), WRONG_USAGE, ids=[" ".join(words) for words, _ in WRONG_USAGE])
def test_wrong_usage_is_2_and_named(generate: Meshdns, words: list[str], problem: str) -> None:
    said = generate(*words)
    assert said.code == 2
    assert problem in said.err + said.out
    assert "kind:" not in said.out


def test_help_says_what_there_is(meshdns: Meshdns) -> None:
    assert "externalname" in meshdns("generate", "--help").out
    assert meshdns("generate").code == 2
    said = meshdns("generate", "externalname", "--help")
    assert said.code == 0
    for word in ("--lint", "--fix", "--suffix", "--httproute", "--config", "--data-dir"):
        assert word in said.out


@pytest.mark.parametrize("version", [kubernetes_validate.all_versions()[0], kubernetes_validate.all_versions()[-1]])
def test_the_validators_own_command_takes_what_is_printed(generate: Meshdns, tmp_path: Path, version: str) -> None:
    path = tmp_path / "all.yaml"
    path.write_text(generate("--namespace", "edge", "--suffix", "-multizone", "--ingress", "kong").out)
    done = subprocess.run(
        [sys.executable, "-m", "kubernetes_validate", "--strict", "--kubernetes-version", version, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "ERROR" not in done.stdout


# Linting.


def test_right_files_are_0_and_wrong_ones_1(generate: Meshdns) -> None:
    said = generate("--lint", MANIFESTS / "right", MANIFESTS / "documented")
    assert (said.code, said.out) == (0, "")
    assert said.err == "13 files, nothing to report\n"


def test_findings_are_lines_as_compilers_print_them(generate: Meshdns, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(NAME % "echo_default_svc_80.mesh")
    said = generate("--lint", path)
    assert said.code == 1
    assert said.out == (
        f"{path}:4:42: echo_default_svc_80.mesh has an underscore, which Kubernetes refuses; "
        "write echo.default.svc.80.mesh [underscore]\n"
    )
    assert said.err == "1 file, 1 finding, 1 of them --fix can correct\n"


def test_findings_as_json(generate: Meshdns, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(NAME % "240.0.0.10")
    report = json.loads(generate("--lint", path, "--format", "json").out)
    assert report == {
        "files": 1,
        "findings": [
            {
                "file": str(path),
                "line": 4,
                "column": 42,
                "rule": "ip-literal",
                "message": "240.0.0.10 is an address; an externalName is a name, and no resolver follows a CNAME "
                "to an address",
                "fix": "write web.mesh",
                "fixable": True,
            }
        ],
        "fixed": [],
        "unusable": [],
    }


def test_findings_as_annotations(generate: Meshdns, tmp_path: Path) -> None:
    path = tmp_path / "100%,a:b.yaml"
    path.write_text(NAME % "my_svc.mesh")
    broken = tmp_path / "b.yaml"
    broken.write_text("a: 1\nb: [\n")
    said = generate("--lint", tmp_path, "--format", "github")
    assert said.code == 2
    place = str(tmp_path).replace("%", "%25")
    assert said.out.splitlines() == [
        f"::error file={place}/b.yaml,line=3::not YAML: expected the node content%2C but found '<stream end>'".replace(
            "%2C", ","
        ),
        f"::error file={place}/100%25%2Ca%3Ab.yaml,line=4,col=42,title=meshdns underscore::my_svc.mesh has an "
        "underscore, which Kubernetes refuses; write my.svc.mesh",
    ]


def test_fix_writes_what_is_wrong_and_leaves_the_rest(generate: Meshdns, tmp_path: Path) -> None:
    wrong, right, other = tmp_path / "wrong.yaml", tmp_path / "right.yml", tmp_path / "notes.txt"
    wrong.write_bytes(b"\xef\xbb\xbf" + (NAME % "My_Svc.mesh.").replace("\n", "\r\n").encode())
    wrong.chmod(0o640)
    right.write_text((NAME % "web.mesh").replace("{name: a}", "{name: b}"))
    other.write_text(NAME % "my_svc.mesh")
    before = right.stat()
    said = generate("--fix", tmp_path)
    assert said.code == 0
    assert wrong.read_bytes() == b"\xef\xbb\xbf" + (NAME % "my.svc.mesh").replace("\n", "\r\n").encode()
    assert wrong.stat().st_mode & 0o777 == 0o640
    assert (right.stat().st_mtime_ns, right.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert other.read_text() == NAME % "my_svc.mesh"
    assert said.out.count("fixed: ") == 3
    assert said.err == "2 files, 3 fixed, nothing to report\n"
    assert generate("--lint", "--fix", tmp_path).err == "2 files, nothing to report\n"


def test_what_cannot_be_fixed_stays_1(generate: Meshdns, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(NAME % "cart.default.svc.80.mesh.")
    said = generate("--fix", path)
    assert said.code == 1
    assert path.read_text() == NAME % "cart.default.svc.80.mesh"
    assert "a push of source kuma removed it at" in said.out
    assert said.err == "1 file, 1 fixed, 1 finding\n"


def test_a_link_is_followed_and_stays_one(generate: Meshdns, tmp_path: Path) -> None:
    real, link = tmp_path / "real.yaml", tmp_path / "link.yaml"
    real.write_text(NAME % "my_svc.mesh")
    link.symlink_to(real.name)
    assert generate("--fix", link).code == 0
    assert link.is_symlink()
    assert real.read_text() == NAME % "my.svc.mesh"
    assert generate("--lint", link, real, "--format", "json").code == 0  # one file, not a Service twice


def test_standard_input_is_corrected_to_standard_output(generate: Meshdns, monkeypatch: pytest.MonkeyPatch) -> None:
    for words, out in (("--lint", None), ("--fix", NAME % "my.svc.mesh")):
        stdin = io.TextIOWrapper(io.BytesIO((NAME % "my_svc.mesh").encode()))
        monkeypatch.setattr(sys, "stdin", stdin)
        said = generate(words, "-")
        if out is None:
            assert said.code == 1
            assert said.out.startswith("-:4:42: ")
        else:
            assert (said.code, said.out) == (0, out)
            assert "-:4:42: fixed: " in said.err


def test_what_is_unusable_is_2_and_the_rest_is_judged(generate: Meshdns, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: 1\nb: [\n")
    (tmp_path / "b.yaml").write_bytes(b"a: 1\nb: \xff\n")
    (tmp_path / "c.yaml").write_text(NAME % "my_svc.mesh")
    said = generate("--lint", tmp_path, tmp_path / "absent.yaml")
    assert said.code == 2
    assert f"{tmp_path}/a.yaml:3: not YAML: " in said.out
    assert f"{tmp_path}/b.yaml:2: octet 0xff is not UTF-8" in said.out
    assert f"{tmp_path}/absent.yaml: cannot be read: " in said.out
    assert "[underscore]" in said.out
    report = json.loads(generate("--lint", tmp_path, "--format", "json").out)
    assert [(each["file"], each["line"]) for each in report["unusable"]] == [
        (f"{tmp_path}/b.yaml", 2),
        (f"{tmp_path}/a.yaml", 3),
    ]


def test_an_empty_directory_is_no_clean_one(generate: Meshdns, tmp_path: Path) -> None:
    said = generate("--lint", tmp_path)
    assert said.code == 2
    assert "no file that ends with .json, .yaml, .yml" in said.err


def test_without_a_store_nothing_is_clean(meshdns: Meshdns, tmp_path: Path) -> None:
    said = meshdns("generate", "externalname", "--lint", MANIFESTS / "right", "--data-dir", tmp_path)
    assert said.code == 2
    assert "no instance has kept anything here yet" in said.err


def test_ten_thousand_names_take_at_most_three_seconds(tmp_path: Path) -> None:
    records = []
    for number in range(5_000):
        records += mesh.legacy(
            f"svc-{number % 2500}_ns-{number % 7}_svc_{8000 + number % 3}", f"240.1.{number // 250}.{number % 250}"
        )[1:]
        target = f"kri_msvc_default_east_ns_svc-{number}_"
        records.append(
            mesh.record(
                f"svc-{number}.ns.svc.east.mesh.local",
                f"241.1.{number // 250}.{number % 250}",
                ports={80: f"{target}http", 9000: f"{target}raw"},
            )
        )
    mesh.keep(tmp_path, [("kuma", "v1", mesh.table(*records))], sources=("kuma",))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "meshdns", "generate", "externalname", "--data-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    names = [line for line in done.stdout.splitlines() if line.startswith("  name: ")]
    assert len(names) == len(set(names)) == 10_000
    assert done.stderr == ""
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime  # not the time of other processes
    assert spent < 3, f"{spent:.1f} s"
