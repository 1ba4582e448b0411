"""names and listeners: what is printed, as tables and as the JSON that other programs rely on."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Meshdns


def test_names_as_json_have_every_member_of_the_contract(meshdns: Meshdns, kept: Path) -> None:
    said = meshdns("names", "--data-dir", kept, "--json", "echo.*")
    assert json.loads(said.out) == [
        {
            "name": "echo.default.svc.8080.mesh",
            "addresses": ["240.0.0.3", "::ffff:f000:3"],
            "ttl": 30,
            "service": "echo_default_svc_8080",
            "ports": [
                {"number": 80, "target": "echo_default_svc_8080", "placeholder": True},
                {"number": 8080, "target": "echo_default_svc_8080", "placeholder": False},
            ],
            "source": "kuma",
            "resource": "_kuma:dynamicconfig",
            "version": "v1",
        }
    ]


def test_names_are_an_array_sorted_by_name(meshdns: Meshdns, kept: Path) -> None:
    said = meshdns("names", "--data-dir", kept, "--json")
    names = [record["name"] for record in json.loads(said.out)]
    assert names == sorted(names)
    assert said.code == 0
    assert len(names) == 8


def test_a_name_of_two_sources_is_listed_once_as_it_is_served(meshdns: Meshdns, kept: Path) -> None:
    (record,) = json.loads(meshdns("names", "--data-dir", kept, "--json", "web.mesh").out)
    assert (record["addresses"], record["source"]) == (["240.0.0.10"], "kuma")


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("web.mesh", ["web.mesh"]),
        ("WEB.mesh.", ["web.mesh"]),
        ("legacy*", ["Legacy_App.mesh"]),
        ("*.wild.mesh", ["*.wild.mesh"]),
        ("*inside*", ["deep.inside.mesh"]),
        ("?_b.mesh", ["a_b.mesh"]),
        ("redis.mesh", []),
        ("[", []),
    ],
)
def test_a_pattern_chooses_names(meshdns: Meshdns, kept: Path, pattern: str, found: list[str]) -> None:
    said = meshdns("names", "--data-dir", kept, "--json", pattern)
    assert [record["name"] for record in json.loads(said.out)] == found
    assert said.code == (0 if found else 1)


def test_the_table_of_names_is_aligned_and_marks_placeholders(meshdns: Meshdns, kept: Path) -> None:
    lines = meshdns("names", "--data-dir", kept).out.splitlines()
    assert lines[0].split() == ["NAME", "ADDRESSES", "TTL", "PORTS", "SERVICE", "SOURCE"]
    column = lines[0].index("PORTS")
    echo = next(line for line in lines if line.startswith("echo.default"))
    assert echo[column:].startswith("80*,8080  echo_default_svc_8080")
    assert {line.rsplit(maxsplit=1)[1] for line in lines[1:]} == {"kuma", "extra"}


def test_listeners_as_json_are_address_and_port_to_service(meshdns: Meshdns, kept: Path) -> None:
    said = meshdns("listeners", "--data-dir", kept, "--json")
    assert json.loads(said.out) == {
        "240.0.0.3:80": "echo_default_svc_8080",
        "240.0.0.9:6379": "redis",
        "[fd00:fd00::1]:80": "six",
    }


def test_the_table_of_listeners_says_which_names_lead_there(meshdns: Meshdns, kept: Path) -> None:
    lines = meshdns("listeners", "--data-dir", kept).out.splitlines()
    assert lines[1].split() == [
        "240.0.0.3:80", "echo_default_svc_8080", "echo.default.svc.8080.mesh,", "echo_default_svc_8080.mesh",
    ]  # fmt: skip
    assert lines[3].split() == ["[fd00:fd00::1]:80", "six", "-"]


@pytest.mark.parametrize("verb", ["names", "listeners", "explain"])
def test_a_directory_without_a_store_is_said_to_have_none(meshdns: Meshdns, tmp_path: Path, verb: str) -> None:
    said = meshdns(verb, "--data-dir", tmp_path, *(["web.mesh"] if verb == "explain" else []))
    assert (said.code, said.out) == (1, "")
    assert str(tmp_path) in said.err
