"""explain: the server's own verdict, and the reasons that an operator needs."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meshdns.config import load
from meshdns.inventory.record import Table
from tests.cli import keeping
from tests.cli.conftest import Meshdns

CASES: list[tuple[str, str, str, str, str]] = [
    # asked, rcode, how, what the reason says, what else is printed
    (
        "echo.default.svc.8080.mesh",
        "NOERROR",
        "exact",
        "exactly this name",
        "80 → echo_default_svc_8080 (a placeholder",
    ),
    ("ECHO.Default.svc.8080.mesh.", "NOERROR", "exact", "exactly this name", "8080 → echo_default_svc_8080"),
    ("echo_default.svc_8080.mesh", "NOERROR", "lenient", "echo.default.svc.8080.mesh answers", "240.0.0.3"),
    ("x.y.wild.mesh", "NOERROR", "wildcard", "the wildcard *.wild.mesh", "extra, records.yaml, version v1"),
    ("web.mesh", "NOERROR", "exact", "exactly this name", "extra gives 10.0.0.1; kuma comes before it"),
    ("httpbin.org", "NOERROR", "exact", "exactly this name", "240.0.0.11"),
    ("mesh SOA", "NOERROR", "apex", "mesh is one of our zones", "hostmaster.mesh"),
    ("240.0.0.3", "NOERROR", "exact", "exactly this name", "240.0.0.3:80 → echo_default_svc_8080"),
    ("echo.default.svc.8080.mesh ANY", "NOERROR", "exact", "RFC 8482", "HINFO"),
    ("web.mesh AAAA", "NOERROR", "nodata", "has A, but no AAAA", "web.mesh AAAA: NOERROR, no data"),
    ("echo.default.svc.8080.mesh SRV", "NOERROR", "nodata", "has A, AAAA, but no SRV", "srv: true"),
    ("httpbin.org TXT", "NOERROR", "nodata", "has A, but no TXT", "kuma"),
    ("mesh", "NOERROR", "nodata", "an SOA and nothing else", "mesh A: NOERROR, no data"),
    ("inside.mesh", "NOERROR", "nodata", "names below it", "deep.inside.mesh"),
    ("default.svc.8080.mesh", "NOERROR", "nodata", "names below it", "echo.default.svc.8080.mesh"),
    ("x.wild.mesh AAAA", "NOERROR", "nodata", "has A, but no AAAA", "extra"),
    ("redis.mesh", "NXDOMAIN", "nxdomain", "no source gives this name", "by kuma, version v2"),
    ("wen.mesh", "NXDOMAIN", "nxdomain", "mesh is our zone", "nearest   web.mesh"),
    ("a.b.mesh", "NXDOMAIN", "nxdomain", "no source gives this name", "a_b.mesh is served, but only as spelled"),
    ("240.9.9.9", "NXDOMAIN", "nxdomain", "no name resolves to 240.9.9.9", "PTR"),
    ("web", "REFUSED", "not_ours", "not in our zones (mesh, mesh.local)", "web.mesh is served: was the zone left out?"),
    ("web.mesh.default.svc.cluster.local", "REFUSED", "not_ours", "not in our zones", "search domain default.svc.clu"),
    ("example.com", "REFUSED", "not_ours", "not in our zones", "example.com A: REFUSED"),
    ("web.mesh AXFR", "REFUSED", "refused", "zone transfers are not offered", "REFUSED"),
]


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_the_verdict_and_its_reason(meshdns: Meshdns, kept: Path, case: tuple[str, str, str, str, str]) -> None:
    asked, rcode, how, reason, printed = case
    told = json.loads(meshdns("explain", "--data-dir", kept, "--json", *asked.split()).out)
    assert (told["rcode"], told["how"]) == (rcode, how)
    assert reason in told["reason"]
    said = meshdns("explain", "--data-dir", kept, *asked.split())
    assert printed in said.out
    assert said.code == (0 if told["resolves"] else 1)


def test_the_push_that_gave_the_record_and_the_one_that_took_it(meshdns: Meshdns, kept: Path) -> None:
    told = json.loads(meshdns("explain", "--data-dir", kept, "--json", "web.mesh").out)
    assert (told["pushed"]["source"], told["pushed"]["version"]) == ("kuma", "v1")
    assert [record["addresses"] for record in told["shadowed"]] == [["10.0.0.1"]]
    told = json.loads(meshdns("explain", "--data-dir", kept, "--json", "redis.mesh").out)
    assert told["removed"]["generation"] > 0
    assert told["nearest"]


def test_a_name_that_only_the_guard_keeps_is_said_to_be_held(meshdns: Meshdns, tmp_path: Path) -> None:
    many = "\n".join(f"s{number}.mesh 240.0.1.{number}" for number in range(30))
    full = keeping.table(many, "kuma", "_kuma:dynamicconfig")
    keeping.keep(tmp_path, [("kuma", "v1", full), ("kuma", "v2", Table())], sources=["kuma"], connected=["kuma"])
    told = json.loads(meshdns("explain", "--data-dir", tmp_path, "--json", "s7.mesh").out)
    assert told["resolves"]
    assert told["held"]["source"] == "kuma"
    said = meshdns("explain", "--data-dir", tmp_path, "s7.mesh")
    assert "the last push of kuma lacks it; the guard keeps it" in said.out
    assert "kuma (held)" in meshdns("names", "--data-dir", tmp_path, "s7.mesh").out


def test_an_unknown_name_is_not_denied_before_every_source_has_delivered(meshdns: Meshdns, tmp_path: Path) -> None:
    keeping.keep(tmp_path, [("kuma", "v1", keeping.table(keeping.KUMA, "kuma", "t"))])
    told = json.loads(meshdns("explain", "--data-dir", tmp_path, "--json", "nope.mesh").out)
    assert (told["rcode"], told["how"]) == ("SERVFAIL", "not_ready")
    assert [state["name"] for state in told["waiting"]] == ["extra"]
    said = meshdns("explain", "--data-dir", tmp_path, "nope.mesh")
    assert "extra: the instance does not run, has never delivered" in said.out
    assert meshdns("explain", "--data-dir", tmp_path, "web.mesh").code == 0, "a known name is answered all the same"


def test_the_zones_and_sources_of_a_configuration_count(meshdns: Meshdns, tmp_path: Path) -> None:
    config = tmp_path / "meshdns.yaml"
    (tmp_path / "records.yaml").write_text("records: {}\n")
    config.write_text(
        "zones: [corp]\nmapped_v6: drop\nsources:\n"
        "  - {name: kuma, type: file, path: records.yaml}\n  - {name: late, type: file, path: records.yaml}\n"
    )
    rules = load(config).rules()
    pushed = keeping.table("web.corp 10.0.0.1 ::ffff:10.0.0.1\nonly.corp ::ffff:10.0.0.2", "kuma", "t")
    keeping.keep(tmp_path / "meshdns-data", [("kuma", "v1", pushed)], sources=["kuma"], rules=rules)

    def explain(*words: str) -> Any:
        return json.loads(meshdns("explain", "--config", config, "--json", *words).out)

    assert explain("nope.corp")["rcode"] == "SERVFAIL", "a source was configured since, and has not delivered"
    assert explain("nope.mesh")["rcode"] == "REFUSED"
    assert "mapped_v6: drop" in explain("web.corp", "AAAA")["hints"][0]
    assert "mapped_v6: drop" in explain("only.corp", "AAAA")["reason"]


def test_a_record_older_than_the_journal_is_explained_without_its_push(
    meshdns: Meshdns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshdns.store.journal.MAX_ROWS", 1)
    extra = keeping.table(keeping.EXTRA, "extra", "records.yaml")
    less = replace(extra, records=keeping.without(extra.records, "a_b.mesh"))
    keeping.keep(tmp_path, [("extra", "1", extra), ("extra", "2", less)], sources=["extra"])
    assert json.loads(meshdns("explain", "--data-dir", tmp_path, "--json", "web.mesh").out)["pushed"] is None
    assert "before the oldest push" in meshdns("explain", "--data-dir", tmp_path, "web.mesh").out
