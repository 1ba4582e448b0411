"""The parts of the client that need no wire: waits, the choice of protocol, its memory, the outbox, who we are."""

import asyncio
import json
import logging
import random
from pathlib import Path

import pytest
from pydantic import ValidationError

from meshdns.inventory.event import Connected, Disconnected, Noticed, Unchanged
from meshdns.xds.backoff import Backoff
from meshdns.xds.node import observer_node
from meshdns.xds.outbox import Outbox, Snapshot
from meshdns.xds.protocol import Choice, Memory, Winner
from meshdns.xds.refusal import explain, silent
from meshdns.xds.settings import KumaSettings

# --- backoff


def test_waits_grow_to_their_limit_and_are_jittered() -> None:
    rolls = random.Random(7)
    backoff = Backoff(1.0, 30.0, rolls.random)
    waits = [backoff.wait(0.0) for _ in range(200)]
    assert all(wait >= 1.0 for wait in waits)  # never more than one attempt a second
    assert all(wait <= 30.0 for wait in waits)  # never further apart than this
    assert all(wait >= 15.0 for wait in waits[10:])
    assert len({round(wait, 6) for wait in waits[10:]}) > 150
    backoff.reset()
    assert backoff.wait(0.0) == 1.0


def test_a_stream_that_lived_long_is_replaced_soon_but_not_by_all_at_once() -> None:
    assert Backoff(1.0, 30.0, lambda: 0.0).wait(600.0) == 1.0
    assert Backoff(1.0, 30.0, lambda: 1.0).wait(600.0) == 0.5
    assert Backoff(1.0, 30.0, lambda: 1.0).wait(0.1) == 0.9


# --- choice and memory


def test_both_protocols_in_turn_with_growing_patience() -> None:
    choice = Choice("auto", patience=15.0, limit=120.0)
    seen = []
    for _ in range(10):
        seen.append((choice.protocol, choice.patience))
        choice.silent()
    assert seen == [
        (protocol, patience) for patience in (15.0, 30.0, 60.0, 120.0, 120.0) for protocol in ("delta", "sotw")
    ]


def test_the_winner_comes_first_next_time_with_the_patience_it_needed() -> None:
    choice = Choice("auto", patience=15.0, limit=120.0)
    for _ in range(3):
        choice.silent()
    winner = choice.answered()
    assert winner == Winner("sotw", 30.0)
    assert (choice.protocol, choice.patience) == ("sotw", 30.0)
    choice.silent()
    assert (choice.protocol, choice.patience) == ("delta", 30.0)
    again = Choice("auto", patience=15.0, limit=120.0, winner=winner)
    assert (again.protocol, again.patience) == ("sotw", 30.0)


@pytest.mark.parametrize("protocol", ["delta", "sotw"])
def test_a_configured_protocol_stays(protocol: str) -> None:
    choice = Choice(protocol, patience=1.0, limit=4.0, winner=Winner("delta", 2.0))  # type: ignore[arg-type]
    seen = []
    for _ in range(3):
        seen.append((choice.protocol, choice.patience))
        choice.silent()
    assert seen == [(protocol, 2.0), (protocol, 4.0), (protocol, 4.0)]


def test_memory_is_kept_for_each_control_plane(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "new", "[::1]:5678")
    assert memory.recall() is None
    memory.remember(Winner("sotw", 30.0))
    assert Memory(tmp_path / "new", "[::1]:5678").recall() == Winner("sotw", 30.0)
    assert Memory(tmp_path / "new", "other:5678").recall() is None
    assert len(list((tmp_path / "new").iterdir())) == 1  # nothing half-written stays behind


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b'{"protocol": "soap", "patience": 1}',
        b'{"protocol": "delta"}',
        b'{"protocol": "delta", "patience": "long"}',
        b'{"protocol": "delta", "patience": NaN}',
        b'{"protocol": "delta", "patience": -1}',
        b"\xff\x00",
        b"[" * 100_000,
    ],
)
def test_a_damaged_memory_is_as_good_as_none(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    memory = Memory(tmp_path, "cp:5678")
    memory.remember(Winner("delta", 15.0))
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)
    assert Memory(tmp_path, "cp:5678").recall() is None
    assert str(file) in caplog.text
    Memory(tmp_path, "cp:5678").remember(Winner("sotw", 15.0))
    assert json.loads(file.read_bytes())["protocol"] == "sotw"


def test_a_memory_that_cannot_be_written_is_told_and_does_no_harm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        Memory(tmp_path / "file", "cp:5678").remember(Winner("delta", 15.0))
    assert "cannot be written" in caplog.text
    Memory(None, "cp:5678").remember(Winner("delta", 15.0))
    assert Memory(None, "cp:5678").recall() is None


# --- outbox


async def test_the_latest_snapshot_replaces_the_one_before() -> None:
    outbox = Outbox()
    outbox.put(Connected("cp"))
    outbox.put(Snapshot({}, "1"))
    outbox.put(Noticed("odd"))
    outbox.put(Snapshot({}, "2"))
    outbox.put(Unchanged())  # of a table that nobody has taken yet: nothing new
    assert [await outbox.take() for _ in range(3)] == [Connected("cp"), Noticed("odd"), Snapshot({}, "2")]
    outbox.put(Unchanged())
    outbox.put(Unchanged())
    outbox.put(Disconnected("gone"))
    assert [await outbox.take() for _ in range(2)] == [Unchanged(), Disconnected("gone")]


async def test_a_slow_taker_loses_old_words_and_never_the_table() -> None:
    outbox = Outbox()
    outbox.put(Snapshot({}, "1"))
    for number in range(1_000):
        outbox.put(Noticed(str(number)))
    assert await outbox.take() == Snapshot({}, "1")
    assert await outbox.take() == Noticed("901")


async def test_the_outbox_waits() -> None:
    outbox = Outbox()
    taking = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    assert not taking.done()
    outbox.put(Unchanged())
    assert await taking == Unchanged()


# --- settings and node


def settings(**more: object) -> KumaSettings:
    return KumaSettings.model_validate({"name": "kuma", "address": "127.0.0.1:5678", "plaintext": True, **more})


@pytest.mark.parametrize(
    "more",
    [
        {"address": "kuma-cp.kuma-system:5678", "plaintext": False, "ca_file": "ca.pem"},
        {"address": "[::1]:5678"},
        {"address": "localhost:5678"},
        {"address": "127.80.0.1:5678"},
        {"address": "10.0.0.1:5678", "plaintext_remote": True},
        {"protocol": "sotw", "register": False, "dataplane": "pod-abc.ns", "service_vip_port": 8080},
    ],
)
def test_settings_go_through_json(more: dict[str, object]) -> None:
    value = settings(**more)
    assert KumaSettings.model_validate_json(value.model_dump_json()) == value


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"address": "127.0.0.1"}, "is not host:port"),
        ({"address": "https://127.0.0.1:5678"}, "is not host:port"),
        ({"address": "127.0.0.1:0"}, "is not host:port"),
        ({"address": "127.0.0.1:65536"}, "is not host:port"),
        ({"address": "::1:5678"}, "is not host:port"),
        ({"address": "[::zz]:5678"}, "is not"),
        ({"ca_file": "ca.pem"}, "exclude each other"),
        ({"plaintext": False}, "ca_file is required"),
        ({"address": "10.0.0.1:5678"}, "plaintext_remote"),
        ({"address": "cp.example:5678"}, "plaintext_remote"),
        ({"mesh": "a.b"}, "pattern"),
        ({"mesh": ""}, "pattern"),
        ({"dataplane": "a b"}, "pattern"),
        ({"protocol": "both"}, "'auto', 'delta' or 'sotw'"),
        ({"service_vip_port": 0}, "greater than or equal to 1"),
        ({"register_dataplane": False}, "Extra inputs"),
        ({"adress": "x"}, "Extra inputs"),
    ],
)
def test_wrong_settings_are_refused(more: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        settings(**more)


@pytest.mark.parametrize("protocol", ["delta", "sotw"])
def test_the_node_is_an_observer(protocol: str) -> None:
    node = observer_node(settings(mesh="payments", dataplane="pod.ns"), protocol)  # type: ignore[arg-type]
    assert node.id == "payments.pod.ns"
    metadata = node.metadata
    assert metadata["dataplane.dns.port"] == "15053"
    assert metadata["dataplane.dns.empty.port"] == "15055"
    assert metadata["dataplane.proxyType"] == "dataplane"
    assert metadata["version"]["kumaDp"]["version"]
    assert metadata["version"]["envoy"]["version"]
    assert metadata["transparentProxy"]["redirect"]["dns"] == {"enabled": True, "port": 15053}
    features = set(metadata["features"])
    assert {"feature-embedded-dns", "feature-transparent-proxy-in-dataplane-metadata"} <= features
    assert ("feature-delta-grpc" in features) == (protocol == "delta")
    assert "feature-bind-outbounds" not in features  # it suppresses the table
    dataplane = json.loads(metadata["dataplane.resource"])
    assert (dataplane["type"], dataplane["mesh"], dataplane["name"]) == ("Dataplane", "payments", "pod.ns")
    assert dataplane["networking"]["gateway"]["type"] == "DELEGATED"
    assert "inbound" not in dataplane["networking"]
    assert dataplane["networking"]["transparentProxying"]


def test_without_register_no_dataplane_is_handed_over() -> None:
    assert "dataplane.resource" not in observer_node(settings(register=False), "delta").metadata


# --- refusals that a scenario over gRPC does not cover: what the remedy says when there is a token


@pytest.mark.parametrize(
    ("details", "remedy"),
    [
        ("authentication failed: x: token has invalid claims: token is expired", "put a fresh token into token"),
        ("authentication failed: could not parse token. x: token is malformed: x", 'without "Bearer"'),
        ("authentication failed: proxy name from requestor: a is different than in token: b", 'one for "meshdns"'),
        ('authentication failed: dataplane contains tag "kuma.io/service" with value', "bound to tags"),
        ('authentication failed: dataplane has no tag "kuma.io/service" required by the token', "bound to tags"),
        ("authentication failed: something else", "a token of this control plane"),
        ('could not extract credential from DiscoveryRequest: request must have exactly 1 "authorization"', "a proxy"),
    ],
)
def test_remedies_name_the_token_file(details: str, remedy: str) -> None:
    refusal = explain("UNKNOWN", details, settings(token_file="token"), answered=False)
    assert refusal.kind == "refused"
    assert remedy in refusal.remedy


@pytest.mark.parametrize(
    ("code", "details", "answered", "kind", "reason"),
    [
        ("OK", "", True, "ended", "stopping or restarting"),
        ("UNAVAILABLE", "Stream removed (Socket closed)", True, "lost", "was lost"),
        (
            "UNAVAILABLE",
            "failed to connect to all addresses; last error: x: Socket closed",
            False,
            "unreachable",
            "at once",
        ),
        ("UNAVAILABLE", "failed to connect to all addresses; last error: x", False, "unreachable", "cannot reach"),
        ("UNAVAILABLE", "Stream removed (ping timeout)", True, "lost", "half open"),
        ("UNAVAILABLE", "Stream removed (Too many pings)", True, "lost", "Too many pings"),
        ("UNIMPLEMENTED", "Method not found!", False, "not offered", "does not offer"),
        ("INTERNAL", "x\r\n" + "y" * 1000, True, "lost", "INTERNAL x"),
        ("CANCELLED", "", True, "lost", "CANCELLED"),
    ],
)
def test_other_endings(code: str, details: str, answered: bool, kind: str, reason: str) -> None:
    refusal = explain(code, details, settings(), answered=answered)
    assert refusal.kind == kind
    assert reason in refusal.reason
    assert refusal.reason.isprintable()
    assert len(refusal.reason) < 500


@pytest.mark.parametrize(
    "details", ["Socket closed", "failed to connect to all addresses; last error: x: Socket closed"]
)
def test_a_socket_that_is_closed_at_once_is_a_wrong_setting_only_before_anything_was_ever_answered(
    details: str,
) -> None:
    assert "ca_file" in explain("UNAVAILABLE", details, settings(), answered=False).remedy
    refusal = explain("UNAVAILABLE", details, settings(), answered=False, known=True)
    assert (refusal.kind, refusal.remedy) == ("lost", "")
    assert "was lost" in refusal.reason
    refused = explain("UNAVAILABLE", "last error: x: Connection refused", settings(), answered=False, known=True)
    assert "nothing listens at" in refused.reason


def test_silence_says_what_it_may_mean() -> None:
    refusal = silent("delta", 15.0, settings())
    assert refusal.reason == "control plane 127.0.0.1:5678 gave no answer to a delta stream within 15 s"
    assert "2.11" in refusal.remedy
