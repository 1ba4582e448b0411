"""status, explain and flush on a running instance that forwards."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Meshdns
from tests.serving import Serving, serving
from tests.upstream.tap import GOOD, Tap, ask, config, tap


@pytest.fixture(scope="module")
def forwarding(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    with tap() as server, serving(tmp_path_factory.mktemp("serve"), config(f"127.0.0.1:{server.port}")) as instance:
        yield server, instance


Pair = tuple[Tap, Serving]


def test_flush_makes_a_name_be_asked_anew(forwarding: Pair, meshdns: Meshdns) -> None:
    server, instance = forwarding
    for name in ("one.flush.example", "two.flush.example", "kept.example"):
        for _ in range(2):
            assert ask(instance.port, name)[0] is not None
    done = meshdns("flush", "FLUSH.example.", "--config", instance.config)
    assert (done.code, done.out) == (0, "flushed 2 answers at and under flush.example\n")
    for name in ("one.flush.example", "kept.example"):
        ask(instance.port, name)
    asked = [text.lower() for text in server.asked()]
    assert (asked.count("one.flush.example."), asked.count("kept.example.")) == (2, 1)
    done = meshdns("flush", "--config", instance.config)
    assert done.code == 0
    ask(instance.port, "kept.example")
    assert [text.lower() for text in server.asked()].count("kept.example.") == 2
    assert server.leaked() == []


def test_status_shows_servers_and_what_is_kept(forwarding: Pair, meshdns: Meshdns) -> None:
    server, instance = forwarding
    ask(instance.port, "status.example")
    meshdns("flush", "nothing.example", "--config", instance.config)  # returns behind a heartbeat
    done = meshdns("status", "--json", "--config", instance.config)
    told = json.loads(done.out)["forwarding"]
    (upstream,) = told["upstreams"]
    assert (upstream["zone"], upstream["server"]) == (".", f"127.0.0.1:{server.port}")
    assert 0 < upstream["rtt"] < 5
    assert upstream["suspect_since"] is None
    assert told["entries"] >= 1
    assert told["octets"] > 0
    text = meshdns("status", "--config", instance.config).out
    assert f"upstream    127.0.0.1:{server.port} (zone .): answers in" in text
    assert "answers kept" in text


@pytest.mark.parametrize(
    ("name", "code", "expected"),
    [
        ("www.example", 0, ["www.example A: NOERROR", "forwarded to the servers of zone .", f"this instance: {GOOD}"]),
        ("localhost", 0, ["answered here (special_names)", "127.0.0.1"]),
        ("nosuch.mesh", 1, ["nosuch.mesh A: NXDOMAIN", "mesh is our zone"]),
    ],
)
def test_explain_says_who_answered_what(
    forwarding: Pair, meshdns: Meshdns, name: str, code: int, expected: list[str]
) -> None:
    server, instance = forwarding
    done = meshdns("explain", name, "--config", instance.config)
    assert done.code == code
    for words in expected:
        assert words.replace("this instance: 192", "this instance: NOERROR, 1 records: 192") in done.out
    if name == "www.example":
        assert f"upstream  127.0.0.1:{server.port}: NOERROR, 1 records: {GOOD}, in" in done.out
        told = json.loads(meshdns("explain", name, "--json", "--config", instance.config).out)["forwarded"]
        assert told["zone"] == "."
        assert [each["server"] for each in told["servers"]] == [f"127.0.0.1:{server.port}"]
    assert server.leaked() == []


def test_where_nothing_is_forwarded_there_is_nothing_to_flush(tmp_path: Path, meshdns: Meshdns) -> None:
    done = meshdns("flush", "--data-dir", tmp_path)
    assert done.code == 1
    assert "does not run" in done.err
