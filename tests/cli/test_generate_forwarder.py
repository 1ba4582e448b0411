"""``meshdns generate coredns`` and the other resolvers, and ``generate kubernetes``, as typed."""

import io
from pathlib import Path

import pytest
import yaml

from meshdns.cli.main import main
from meshdns.kubernetes.deployment import Deployment
from meshdns.kubernetes.forwarders import FORWARDERS
from meshdns.kubernetes.forwarders.coredns import BEGIN
from meshdns.kubernetes.manifests import VARIANTS, kustomization

DATA = Path(__file__).parent.parent / "data" / "configmaps"


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work where no configuration is found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MESHDNS_CONFIG", raising=False)


def configure(text: str) -> None:
    Path("records.yaml").write_text("records: {}\n")
    Path("meshdns.yaml").write_text(text + "sources: [{name: r, type: file, path: records.yaml}]\n")


@pytest.mark.parametrize("resolver", FORWARDERS)
def test_every_resolver_has_a_default(resolver: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", resolver]) == 0
    printed = capsys.readouterr()
    assert ("10.96.0.53" if FORWARDERS[resolver].in_cluster else "15053") in printed.out
    assert "254.in-addr.arpa" in printed.out
    assert printed.err == ""


def test_zones_and_address_come_from_the_configuration_that_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    configure('listen: ["0.0.0.0:5300"]\nzones: [corp]\nreverse: []\n')
    main(["generate", "dnsmasq"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("server=")]
    assert lines == ["server=/corp/127.0.0.1#5300"]


def test_what_is_typed_goes_before_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    configure("zones: [corp]\n")
    main(["generate", "dnsmasq", "--zones", "a.mesh,b.mesh", "C.mesh", "--reverse", "10.0.0.0/8", "--address", "::1"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("server=")]
    assert lines == [f"server=/{zone}/::1#53" for zone in ("a.mesh", "b.mesh", "c.mesh", "10.in-addr.arpa")]


@pytest.mark.parametrize(
    "part",
    [(name, part) for name, forwarder in FORWARDERS.items() for part in forwarder.parts if len(forwarder.parts) > 1],
)
def test_each_part_can_be_had(part: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", part[0], "--part", part[1]]) == 0
    assert "mesh" in capsys.readouterr().out


def test_merge_prints_the_whole_file_and_leaves_it(capsys: pytest.CaptureFixture[str]) -> None:
    text = (DATA / "kubeadm.yaml").read_text()
    Path("map.yaml").write_text(text)
    assert main(["generate", "coredns", "--merge", "map.yaml"]) == 0
    assert BEGIN in yaml.safe_load(capsys.readouterr().out)["data"]["Corefile"]
    assert Path("map.yaml").read_text() == text


def test_merge_reads_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((DATA / "kubeadm.yaml").read_bytes())))
    assert main(["generate", "coredns", "--merge", "-"]) == 0
    assert BEGIN in capsys.readouterr().out


def test_merge_in_place_writes_once(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("map.yaml")
    path.write_bytes((DATA / "kubeadm.yaml").read_bytes().replace(b"\n", b"\r\n"))
    assert main(["generate", "coredns", "--merge", "map.yaml", "--in-place"]) == 0
    once, changed = path.read_bytes(), path.stat().st_mtime_ns
    assert BEGIN.encode() in once
    assert main(["generate", "coredns", "--merge", "map.yaml", "--in-place"]) == 0
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (once, changed)
    assert capsys.readouterr().out == ""


WRONG = [
    (["coredns", "--address", "meshdns.meshdns"], "--address: 'meshdns.meshdns' is not an IP address"),
    (["coredns", "--zones", "a..b"], "--zones: 'a..b': empty label"),
    (["coredns", "--zones", "*.mesh"], "--zones: '*.mesh': a zone cannot be a wildcard"),
    (["coredns", "--zones", ","], "--zones: names no zone"),
    (["coredns", "--reverse", "10.0.0.1/8"], "--reverse: 10.0.0.1/8 has host bits set"),
    (["coredns", "--in-place"], "--in-place: needs --merge"),
    (["coredns", "--merge", "absent.yaml"], "absent.yaml: cannot be read: No such file"),
    (["coredns", "--merge", "."], ".: cannot be read: Is a directory"),
    (["coredns", "--config", "absent.yaml"], "absent.yaml: "),
    (["nodelocal", "--bind", "a }"], "--bind: 'a }' is not an address"),
    (["bind", "--part", "zone"], "--part"),
    (["kubernetes", "--replicas", "0"], "--replicas: 0 is less than 1"),
    (["kubernetes", "--allow-network", "x"], "--allow-network: 'x'"),
    (["kubernetes", "--ca", "ca"], "--ca: 'ca' is not configmap/NAME"),
    (["kubernetes", "--as", "daemon"], "--as"),
]


@pytest.mark.parametrize(("words", "said"), WRONG)
def test_bad_input_is_named_with_its_option(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", *words]) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.out == ""


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_folder_gets_a_file_each_and_a_kustomization(variant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "kubernetes", "--as", variant, "--namespace", "edge", "--output-dir", "a/b"]) == 0
    made = VARIANTS[variant](Deployment(namespace="edge"))
    written = {path.name: path.read_text() for path in Path("a/b").iterdir()}
    assert written == {**made, "kustomization.yaml": kustomization(made)}
    assert capsys.readouterr().out == ""


def test_options_of_a_cluster_reach_its_manifests(capsys: pytest.CaptureFixture[str]) -> None:
    main(["generate", "kubernetes", "--cluster-ip", "auto", "--allow-namespace", "a", "--allow-namespace", "b"])
    made = {manifest["kind"]: manifest for manifest in yaml.safe_load_all(capsys.readouterr().out)}
    assert "clusterIP" not in made["Service"]["spec"]
    namespaces = [
        source["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        for source in made["NetworkPolicy"]["spec"]["ingress"][0]["from"]
    ]
    assert namespaces == ["a", "b"]
