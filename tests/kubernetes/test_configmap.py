"""Joining an existing ConfigMap: our part comes in, and nothing else changes by one byte."""

import json
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest
import yaml

from meshdns.errors import ConfigError
from meshdns.kubernetes.configmap import merge
from meshdns.kubernetes.corefile import server_blocks
from meshdns.kubernetes.forwarders import Target
from meshdns.kubernetes.forwarders.coredns import BEGIN, END
from meshdns.kubernetes.forwarders.target import parse_endpoint

DATA = Path(__file__).parent.parent / "data" / "configmaps"
TARGET = Target((parse_endpoint("10.96.0.53"),), ("mesh", "mesh.local"), (ip_network("fd00:fd00::/64"),))
OTHER = replace(TARGET, endpoints=(parse_endpoint("10.96.0.54"),), zones=("mesh",))
COREFILE_MAPS = [
    ("kubeadm.yaml", "coredns"),
    ("kubectl-get.yaml", "coredns"),
    ("kubectl-get.json", "coredns"),
    ("list.yaml", "coredns"),
    ("port-1053.yaml", "coredns"),
    ("nodelocaldns.yaml", "nodelocal"),
]


def corefile_of(text: str, name: str) -> str:
    for document in yaml.safe_load_all(text):
        for item in document.get("items", [document]):
            if item["kind"] == "ConfigMap" and item["metadata"]["name"] == name:
                return str(item["data"]["Corefile"])
    raise AssertionError(name)


def without_ours(corefile: str) -> str:
    before, _, rest = corefile.partition(BEGIN)
    return before + rest.partition(END + "\n")[2]


@pytest.mark.parametrize(("file", "resolver"), COREFILE_MAPS)
def test_the_other_blocks_stay_and_ours_comes_once(file: str, resolver: str) -> None:
    text = (DATA / file).read_text()
    name = {"coredns": "coredns", "nodelocal": "node-local-dns"}[resolver]
    merged = merge(text, resolver, TARGET, path=file)
    before, after = corefile_of(text, name), corefile_of(merged, name)
    assert without_ours(after) == before.rstrip("\n") + "\n"
    ours = [block for block in server_blocks(after) if block.ours]
    assert [zone for zone, _ in ours[0].serves] == list(TARGET.names)
    assert len(ours) == 1


@pytest.mark.parametrize(("file", "resolver"), COREFILE_MAPS)
def test_twice_is_once(file: str, resolver: str) -> None:
    once = merge((DATA / file).read_text(), resolver, TARGET, path=file)
    assert merge(once, resolver, TARGET, path=file) == once


@pytest.mark.parametrize(("file", "resolver"), COREFILE_MAPS)
def test_an_earlier_block_is_replaced_where_it_stands(file: str, resolver: str) -> None:
    text = (DATA / file).read_text()
    assert merge(merge(text, resolver, OTHER, path=file), resolver, TARGET, path=file) == merge(
        text, resolver, TARGET, path=file
    )


@pytest.mark.parametrize("file", ["kubeadm.yaml", "list.yaml", "port-1053.yaml"])
def test_a_literal_block_changes_by_whole_lines_only(file: str) -> None:
    text = (DATA / file).read_text()
    lines, merged = text.splitlines(), merge(text, "coredns", TARGET, path=file).splitlines()
    first = next(number for number, line in enumerate(merged) if BEGIN in line)
    last = next(number for number, line in enumerate(merged) if line.strip() == END)
    assert merged[:first] + merged[last + 1 :] == lines


def test_a_block_between_others_stays_between_them() -> None:
    corefile = "    a:53 {\n    }\n    # BEGIN meshdns\n    # END meshdns\n    .:53 {\n    }\n"
    text = f"kind: ConfigMap\ndata:\n  Corefile: |\n{corefile}"
    merged = merge(text, "coredns", TARGET, path="f")
    blocks = server_blocks(yaml.safe_load(merged)["data"]["Corefile"])
    assert [block.serves[0][0] for block in blocks] == ["a", "mesh", ""]


def test_the_block_takes_port_and_bind_of_the_root_block() -> None:
    merged = merge((DATA / "port-1053.yaml").read_text(), "coredns", TARGET, path="f")
    ours = next(block for block in server_blocks(corefile_of(merged, "coredns")) if block.ours)
    assert {port for _, port in ours.serves} == {1053}
    assert ours.bind == ("10.0.0.10", "fd00::10")


def test_nodelocal_takes_the_bind_line_of_its_file() -> None:
    merged = merge((DATA / "nodelocaldns.yaml").read_text(), "nodelocal", TARGET, path="f")
    ours = next(block for block in server_blocks(corefile_of(merged, "node-local-dns")) if block.ours)
    assert ours.bind == ("__PILLAR__LOCAL__DNS__", "__PILLAR__DNS__SERVER__")


def test_windows_line_ends_stay() -> None:
    text = (DATA / "kubeadm.yaml").read_text().replace("\n", "\r\n")
    merged = merge(text, "coredns", TARGET, path="f")
    assert merged.count("\n") == merged.count("\r\n")
    assert merge(merged, "coredns", TARGET, path="f") == merged


SMALL = [
    "kind: ConfigMap\ndata:\n  Corefile: |-\n    .:53 {\n    }",
    "kind: ConfigMap\ndata:\n  Corefile: |2\n      .:53 {\n      }\n\n\n  other: x\n",
    "kind: ConfigMap\ndata:\n  Corefile: |+\n    .:53 {\n    }\n\n  other: x\n",
    "kind: ConfigMap\ndata:\n  Corefile: ''\n",
    "kind: ConfigMap\ndata:\n  Corefile: |\n  other: x\n",
    "kind: ConfigMap\ndata: {Corefile: '.:53 { \n\n }'}\n",
    'kind: ConfigMap\ndata:\n  Corefile: ".:53 {\\n}\\n" # kept\n  other: x # too\n',
    "kind: ConfigMap\ndata:\n  Corefile: >\n    .:53 {\n\n    }\n\n  other: x\n",
]


@pytest.mark.parametrize("text", SMALL)
def test_every_way_to_write_a_corefile_in_yaml(text: str) -> None:
    merged = merge(text, "coredns", TARGET, path="f")
    old, new = yaml.safe_load(text), yaml.safe_load(merged)
    assert without_ours(new["data"]["Corefile"]).strip() == old["data"]["Corefile"].strip()
    assert new["data"].get("other") == old["data"].get("other")
    assert text.count("#") <= merged.count("#")
    assert any(block.ours for block in server_blocks(new["data"]["Corefile"]))
    assert merge(merged, "coredns", TARGET, path="f") == merged


WRONG = [
    ("kind: Secret\n", "no ConfigMap"),
    ("kind: ConfigMap\ndata: {a: b}\n", "without 'Corefile'"),
    ("kind: ConfigMap\n  data: x\n", "not YAML"),
    ("a: \0", "not YAML"),
    ("", "no ConfigMap"),
    ("kind: ConfigMap\ndata: {Corefile: 'a:53 { \n }'}\n---\nkind: ConfigMap\ndata: {Corefile: ''}\n", "several"),
    ("kind: ConfigMap\ndata:\n  Corefile: |\n    .:53 {\n    }\n    mesh:53 {\n    }\n", "f:6: data.Corefile: another"),
    ("kind: ConfigMap\ndata:\n  Corefile: |\n    .:53 {\n", "f:4: data.Corefile: the block is not closed"),
]


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_what_cannot_be_joined_is_said_with_file_key_and_line(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        merge(text, "coredns", TARGET, path="f")


def test_the_same_zone_on_another_port_is_no_conflict() -> None:
    text = "kind: ConfigMap\ndata:\n  Corefile: |\n    .:53 {\n    }\n    mesh:5353 {\n    }\n"
    assert BEGIN in merge(text, "coredns", TARGET, path="f")


STUB_MAPS = [
    "kind: ConfigMap\nmetadata: {name: kube-dns}\n",
    "kind: ConfigMap\nmetadata: {name: kube-dns}\ndata:\n  upstreamNameservers: '[\"1.1.1.1\"]' # kept\n",
    'kind: ConfigMap\ndata:\n  stubDomains: |\n    {"corp": ["10.1.1.1"], "mesh": ["10.9.9.9"]}\n\n  other: "[]"\n',
    'kind: ConfigMap\ndata: {stubDomains: "{\\"corp\\": [\\"10.1.1.1\\"]}"}\n',
]


@pytest.mark.parametrize("text", STUB_MAPS)
def test_stub_domains_of_others_stay(text: str) -> None:
    merged = merge(text, "kube-dns", TARGET, path="f")
    old, new = yaml.safe_load(text), yaml.safe_load(merged)
    domains = json.loads(new["data"].pop("stubDomains"))
    assert {zone: domains.pop(zone) for zone in TARGET.names} == {zone: ["10.96.0.53:53"] for zone in TARGET.names}
    had = json.loads(old.get("data", {}).pop("stubDomains", "{}"))
    assert domains == {zone: value for zone, value in had.items() if zone != "mesh"}
    assert {**old, "data": old.get("data", {})} == new
    assert merge(merged, "kube-dns", TARGET, path="f") == merged


@pytest.mark.parametrize("value", ["'{'", "'[]'"])
def test_stub_domains_that_are_no_json_object_are_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"f:3: data\.stubDomains"):
        merge(f"kind: ConfigMap\ndata:\n  stubDomains: {value}\n", "kube-dns", TARGET, path="f")
