"""What control planes do, one scenario each over real gRPC, with the event that an operator sees."""

import asyncio
import dataclasses
from ipaddress import ip_address
from pathlib import Path

import grpc
import pytest

from meshdns.inventory.event import Connected, Disconnected, Noticed, Pushed, Unchanged
from meshdns.xds.protocol import Memory, Winner
from tests.xds.control_plane import NOT_FOUND, ControlPlane, Mesh, Recording, Relay
from tests.xds.listeners import delta, dns_filter, document, dynconf, outbound, packed, passthrough, sotw
from tests.xds.listening import DATA, FAST, Listening, names, source

UNKNOWN = grpc.StatusCode.UNKNOWN
ECHO = {"echo.mesh": ["240.0.0.1"]}
TABLE = dynconf(document(ECHO))
LISTENER = outbound("240.0.0.1", 80, "echo")


def plane_with(*steps: object, **options: object) -> ControlPlane:
    plane = ControlPlane(**options)  # type: ignore[arg-type]
    plane.meshes["default"] = Mesh(list(steps), 0 if steps else -1)
    return plane


# --- refusals: every text that kuma-cp was seen to send, always as UNKNOWN

TOKEN = (
    "authentication failed: could not parse token. kuma-cp runs with an in-memory database and its state isn't "
    "preserved between restarts. Keys are lost: "
)
REFUSALS = [
    (
        NOT_FOUND.format("default.meshdns"),
        'knows no Dataplane "meshdns" of mesh "default"',
        'create mesh "default"',
    ),
    (
        "there is already an active stream from this node, try again later",
        'another active stream of Dataplane "meshdns"',
        'give every instance its own "dataplane"',
    ),
    (
        "proxyId {default eph2} does not match proxy resource {Dataplane default other}",
        "another Dataplane registered",
        "register: false",
    ),
    (
        "request must have a valid Proxy ID: the name should be provided after the dot",
        'cannot read the node id "default.meshdns"',
        '"mesh" and "dataplane"',
    ),
    (
        "invalid node ID: the name should be provided after the dot",
        'cannot read the node id "default.meshdns"',
        '"mesh" and "dataplane"',
    ),
    (TOKEN + "token is malformed: token contains an invalid number of segments", "refused the token", "token_file"),
    (
        TOKEN + "token is malformed: could not base64 decode header: illegal base64 data at input byte 6",
        "refused the token",
        "token_file",
    ),
    (TOKEN + "token signature is invalid: crypto/rsa: verification error", "refused the token", "token_file"),
    (TOKEN + "token has invalid claims: token is expired", "refused the token", "token_file"),
    (
        "authentication failed: proxy name from requestor: meshdns is different than in token: other",
        "refused the token",
        "token_file",
    ),
    (
        'authentication failed: dataplane contains tag "kuma.io/service" with value "meshdns" which is not allowed '
        'with this token. Allowed values in token are ["web"]',
        "refused the token",
        "token_file",
    ),
    (
        'authentication failed: dataplane has no tag "kuma.io/service" required by the token',
        "refused the token",
        "token_file",
    ),
    (
        'could not extract credential from DiscoveryRequest: request must have exactly 1 "authorization" header, got 2',
        "could not find the token",
        "token_file",
    ),
    ("something nobody has seen yet\nwith a second line", "UNKNOWN something nobody has seen yet with a second", ""),
]


@pytest.mark.parametrize("protocol", ["sotw", "delta"])
@pytest.mark.parametrize(("text", "reason", "remedy"), REFUSALS, ids=[str(n) for n in range(len(REFUSALS))])
async def test_a_refusal_is_told_as_what_it_is_and_tried_again(
    text: str, reason: str, remedy: str, protocol: str
) -> None:
    step = delta("v1", [TABLE, LISTENER]) if protocol == "delta" else sotw("v1", [TABLE, LISTENER])
    async with plane_with(step) as plane, Listening(source(plane.address, protocol=protocol)) as listening:
        plane.refusals.extend([(UNKNOWN, text)] * 3)
        event = await listening.next(Disconnected)
        assert reason in event.reason
        assert remedy in event.remedy
        assert "\n" not in event.reason
        await listening.next(Pushed)
        assert len(listening.of(Disconnected)) == 1  # three refusals of one kind are one line
        assert len(plane.streams) == 4


async def test_a_missing_dataplane_is_found_once_it_is_put() -> None:
    plane = plane_with(delta("v1", [TABLE]), dataplanes=set())
    async with plane, Listening(source(plane.address, register=False)) as listening:
        event = await listening.next(Disconnected)
        assert 'resource "default.meshdns" not found' in event.reason
        assert "register: true" in event.remedy
        assert plane.dataplanes is not None
        plane.dataplanes.add("default.meshdns")
        await listening.next(Pushed)
        assert all(stream.resource == "" for stream in plane.streams)


async def test_it_registers_its_own_dataplane() -> None:
    plane = plane_with(delta("v1", [TABLE]), dataplanes=set())
    async with plane, Listening(source(plane.address)) as listening:
        await listening.next(Pushed)
        assert '"name": "meshdns"' in plane.last.resource


async def test_a_missing_mesh_is_named() -> None:
    async with (
        plane_with(delta("v1", [TABLE])) as plane,
        Listening(source(plane.address, mesh="nope")) as listening,
    ):
        event = await listening.next(Disconnected)
        assert 'mesh "nope"' in event.reason
        assert 'create mesh "nope"' in event.remedy


async def test_a_second_instance_with_the_same_name_does_not_disturb_the_first() -> None:
    async with (
        plane_with(delta("v1", [TABLE])) as plane,
        Listening(source(plane.address)) as first,
        Listening(source(plane.address)) as second,
    ):
        await first.next(Pushed)
        event = await second.next(Disconnected)
        assert "another active stream" in event.reason
        await plane.play(delta("v2", [LISTENER]))
        assert (await first.next(Pushed)).version == "v2"
        await first.__aexit__(None, None, None)
        await second.next(Pushed)


# --- tokens


async def test_the_token_is_stripped_and_read_at_every_attempt(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old\n")
    plane = plane_with(delta("v1", [TABLE]), token="new")
    async with plane, Listening(source(plane.address, token_file=file)) as listening:
        event = await listening.next(Disconnected)
        assert "refused the token" in event.reason
        assert str(file) in event.remedy
        file.write_text(" new \r\n")
        await listening.next(Pushed)
        # a stream that lives does not care what the file says later
        file.write_text("old")
        await plane.play(delta("v2", [LISTENER]))
        assert (await listening.next(Pushed)).version == "v2"


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "cannot be read"), (b" \n", "is empty"), (b"Bearer abc", "more than a token"), (b"a\nb", "more than a")],
)
async def test_a_token_file_that_is_none_never_reaches_the_wire(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    plane = plane_with(delta("v1", [TABLE]), token="good")
    async with plane, Listening(source(plane.address, token_file=file)) as listening:
        event = await listening.next(Disconnected)
        assert str(file) in event.reason
        assert reason in event.reason
        assert plane.streams == []
        file.write_text("good")
        await listening.next(Pushed)


async def test_a_control_plane_that_wants_a_token_says_which_key_is_missing() -> None:
    async with (
        plane_with(delta("v1", [TABLE]), token="good") as plane,
        Listening(source(plane.address)) as listening,
    ):
        event = await listening.next(Disconnected)
        assert 'exactly 1 "authorization" header, got 0' in event.reason
        assert "token_file" in event.remedy


# --- what is pushed


@pytest.mark.parametrize("protocol", ["sotw", "delta"])
async def test_a_valid_empty_table_is_a_push(protocol: str) -> None:
    """A control plane that restarted with an empty store sends one; what to keep is for the store's guard."""
    make = delta if protocol == "delta" else sotw
    async with (
        plane_with(make("v1", [dynconf(document({})), passthrough()])) as plane,
        Listening(source(plane.address, protocol=protocol)) as listening,
    ):
        push = await listening.next(Pushed)
        assert push.table.records == {}
        assert push.table.listeners == {}
        await plane.until(lambda: plane.last.acks == ["1"])


@pytest.mark.parametrize("protocol", ["sotw", "delta"])
async def test_without_a_table_nothing_is_delivered_and_the_operator_is_asked(protocol: str) -> None:
    make = delta if protocol == "delta" else sotw
    async with (
        plane_with(make("v1", [LISTENER, passthrough()])) as plane,
        Listening(source(plane.address, protocol=protocol)) as listening,
    ):
        event = await listening.next(Noticed)
        assert event.problem == "no DNS table: is transparentProxying set on this Dataplane?"
        await plane.until(lambda: plane.last.acks == ["1"])
        await plane.play(make("v2", [LISTENER, TABLE]))
        push = await listening.next(Pushed)
        assert names(push) == {"echo.mesh": ("240.0.0.1",)}
        assert listening.of(Unchanged) == []


async def test_an_empty_first_delta_answer_without_versions_is_no_delivery() -> None:
    async with plane_with(delta("v1")) as plane, Listening(source(plane.address)) as listening:
        assert "no DNS table" in (await listening.next(Noticed)).problem
        await plane.until(lambda: plane.last.acks == ["1"])
        await plane.end_streams()
        await listening.next(Connected)  # again, and still nothing was claimed
        assert "no DNS table" in (await listening.next(Noticed)).problem
        assert plane.last.claimed == {}
        assert listening.of(Unchanged) == []
        assert listening.of(Pushed) == []


@pytest.mark.parametrize("protocol", ["sotw", "delta"])
async def test_losing_the_table_while_connected_keeps_it(protocol: str) -> None:
    """transparentProxying taken off: delta removes every listener at once, SotW sends the rest."""
    first, gone, back = (
        (delta("v1", [TABLE, LISTENER]), delta("v2", [], [TABLE.name, LISTENER.name]), delta("v3", [TABLE, LISTENER]))
        if protocol == "delta"
        else (sotw("v1", [TABLE, LISTENER]), sotw("v2", []), sotw("v3", [LISTENER, TABLE]))
    )
    async with plane_with(first) as plane, Listening(source(plane.address, protocol=protocol)) as listening:
        await listening.next(Pushed)
        await plane.play(gone)
        assert "no DNS table" in (await listening.next(Noticed)).problem
        await plane.play(back)
        push = await listening.next(Pushed)
        assert push.version == "v3"
        assert len(listening.of(Pushed)) == 2
        await plane.until(lambda: plane.last.acks == ["1", "2", "3"])
        assert plane.violations == []


async def test_names_that_cannot_be_served_are_left_out_and_the_push_is_acked() -> None:
    rows = {f"s{n}.mesh": [f"240.0.1.{n}"] for n in range(97)}
    bad = {"a..b.mesh": ["240.0.2.1"], "x" * 64 + ".mesh": ["240.0.2.2"], "Foo Bar.mesh": ["240.0.2.3"]}
    async with (
        plane_with(delta("v1", [dynconf(document({**rows, **bad}))])) as plane,
        Listening(source(plane.address)) as listening,
    ):
        push = await listening.next(Pushed)
        assert len(push.table.records) == 97
        assert len(push.skipped) == 3
        assert "a..b.mesh" in push.skipped[0]
        assert "64 octets" in push.skipped[1]
        assert "Foo Bar" in push.skipped[2]
        await plane.until(lambda: plane.last.acks == ["1"])
        assert plane.last.nacks == []


async def test_a_name_that_moves_to_another_pool_is_noticed() -> None:
    old = [dynconf(document({"redis.mesh": ["240.0.0.9"]})), outbound("240.0.0.9", 80, "redis")]
    kri = "kri_msvc_default_default__redis_6379"
    new = [
        dynconf(document({"redis.mesh": ["241.0.0.1"]})),
        outbound("241.0.0.1", 6379, tags={"kuma.io/unified-name": kri}),
    ]
    async with plane_with(delta("v1", old)) as plane, Listening(source(plane.address)) as listening:
        assert (await listening.next(Pushed)).notices == ()
        await plane.play(delta("v2", new, [old[1].name]))
        push = await listening.next(Pushed)
        (line,) = push.notices
        assert "'redis.mesh' moved from 240.0.0.9 (ports 80, redis) to 241.0.0.1 (ports 6379, kri_msvc" in line


async def test_a_response_of_another_type_is_left_alone() -> None:
    stray = sotw("v9", [LISTENER])
    stray.type_url = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
    async with (
        plane_with(sotw("v1", [TABLE])) as plane,
        Listening(source(plane.address, protocol="sotw")) as listening,
    ):
        await listening.next(Pushed)
        await plane.until(lambda: plane.last.acks == ["1"])
        await plane.send_out_of_turn(stray.SerializeToString())
        event = await listening.next(Noticed)
        assert "type that was not asked for: type.googleapis.com/envoy.config.cluster.v3.Cluster" in event.problem
        await plane.play(sotw("v2", [TABLE, LISTENER]))
        await listening.next(Pushed)
        await plane.until(lambda: len(plane.last.acks) == 2)
        assert plane.last.acks == ["1", "2"]
        assert plane.last.nacks == []
        assert plane.violations == []


@pytest.mark.parametrize("protocol", ["sotw", "delta"])
async def test_octets_that_are_no_response_cost_the_stream_only(protocol: str) -> None:
    make = delta if protocol == "delta" else sotw
    async with (
        plane_with(make("v1", [TABLE])) as plane,
        Listening(source(plane.address, protocol=protocol)) as listening,
    ):
        await listening.next(Pushed)
        await plane.send_out_of_turn(b"\xff\xff\xff\xff")
        event = await listening.next(Disconnected)
        assert "4 octets is not a discovery response" in event.reason
        await listening.next(Connected)


# --- NACK


def spoiled() -> bytes:
    return b"\x0a\xff\xff\xff\xff"


async def test_a_sotw_nack_names_every_fault_keeps_the_rest_and_is_told_once() -> None:
    good = outbound("240.0.0.2", 80, "web")
    bad = sotw("v2", [dynconf("[]"), good])
    any_ = bad.resources.add()
    any_.CopyFrom(packed(LISTENER))
    any_.value = spoiled()
    plane = plane_with(sotw("v1", [TABLE, LISTENER]), nack_resend=0.05)
    async with plane, Listening(source(plane.address, protocol="sotw")) as listening:
        await listening.next(Pushed)
        await plane.play(bad)
        push = await listening.next(Pushed)
        # the table of names and the listener that could not be read stay, the good new one is taken
        assert names(push) == {"echo.mesh": ("240.0.0.1",)}
        assert set(push.table.listeners.values()) == {"echo", "web"}
        event = await listening.next(Noticed)
        assert "2 unusable resources" in event.problem
        # the control plane sends the same again and again; each is answered, none is told twice
        await plane.until(lambda: len(plane.last.nacks) >= 3)
        text = plane.last.nacks[-1][1]
        assert "_kuma:dynamicconfig: the /dns document is not an object" in text
        assert "resources[2]: not a readable protobuf message" in text
        await plane.play(sotw("v3", [TABLE, LISTENER]))
        assert (await listening.next(Pushed)).version == "v3"
        assert len(listening.of(Noticed)) == 1
        await plane.until(lambda: plane.last.acks[-1] == str(plane.last.sent))
        assert len(plane.streams) == 1
        assert plane.violations == []


async def test_a_delta_nack_is_followed_by_one_new_stream_that_does_not_claim_what_was_refused() -> None:
    good = outbound("240.0.0.2", 80, "web")
    bad = delta("v2", [dynconf("no json"), good])
    async with (
        plane_with(delta("v1", [TABLE, LISTENER])) as plane,
        Listening(source(plane.address, protocol="delta")) as listening,
    ):
        await listening.next(Pushed)
        await plane.play(bad)
        push = await listening.next(Pushed)
        assert names(push) == {"echo.mesh": ("240.0.0.1",)}
        assert set(push.table.listeners.values()) == {"echo", "web"}
        event = await listening.next(Noticed)
        assert "_kuma:dynamicconfig: the /dns document is not JSON" in event.problem
        await plane.until(lambda: len(plane.streams) == 2)
        first, second = plane.streams
        assert first.nacks[0][0] == "2"
        assert set(second.claimed) == {TABLE.name, LISTENER.name, good.name}
        refused = next(item.version for item in bad.resources if item.name == TABLE.name)
        assert refused not in second.claimed.values()
        # it comes again, is refused again, and the stream stays: another one would bring the same
        await plane.until(lambda: len(second.nacks) == 1)
        await plane.play(delta("v3", [dynconf(document({"echo.mesh": ["240.0.0.7"]}))]))
        push = await listening.next(Pushed)
        assert names(push) == {"echo.mesh": ("240.0.0.7",)}
        assert len(plane.streams) == 2
        assert len(listening.of(Noticed)) == 1
        assert listening.of(Disconnected) == []
        assert plane.violations == []


async def test_a_table_that_is_unusable_from_the_start_is_refused_and_nothing_is_delivered() -> None:
    async with (
        plane_with(delta("v1", [dynconf('{"no": "table"}'), LISTENER])) as plane,
        Listening(source(plane.address)) as listening,
    ):
        event = await listening.next(Noticed)
        assert "1 unusable resource, refused with a NACK: _kuma:dynamicconfig:" in event.problem
        await plane.until(lambda: len(plane.streams) == 2 and bool(plane.last.nacks))
        await plane.play(delta("v2", [TABLE]))
        await listening.next(Pushed)
        assert len(listening.of(Pushed)) == 1


# --- streams that end


@pytest.mark.parametrize("protocol", ["sotw", "delta"])
async def test_an_ok_end_is_a_disconnection(protocol: str) -> None:
    make = delta if protocol == "delta" else sotw
    async with (
        plane_with(make("v1", [TABLE])) as plane,
        Listening(source(plane.address, protocol=protocol)) as listening,
    ):
        await listening.next(Pushed)
        await plane.end_streams()
        event = await listening.next(Disconnected)
        assert event.reason == f"control plane {plane.address} ended the stream: it is stopping or restarting"
        await listening.next(Connected)


async def test_a_reconnect_claims_what_is_held() -> None:
    async with (
        plane_with(delta("v1", [TABLE, LISTENER])) as plane,
        Listening(source(plane.address, protocol="delta")) as listening,
    ):
        await listening.next(Pushed)
        # nothing changed meanwhile: an empty answer, which confirms the table
        await plane.end_streams()
        await listening.next(Unchanged)
        versions = {item.name: item.version for item in delta("", [TABLE, LISTENER]).resources}
        assert plane.last.claimed == versions
        await plane.until(lambda: plane.last.acks == ["1"])
        # something changed and something went meanwhile: only that comes
        plane.meshes["default"].steps.append(delta("v2", [dynconf(document({}))], [LISTENER.name]))
        plane.meshes["default"].position += 1
        await plane.end_streams()
        push = await listening.next(Pushed)
        assert push.table.records == {}
        assert push.table.listeners == {}
        assert plane.violations == []


async def test_a_restarted_control_plane_with_other_vips_is_believed_at_once() -> None:
    plane = plane_with(delta("v1", [TABLE, LISTENER]))
    async with plane, Listening(source(plane.address)) as listening:
        await listening.next(Pushed)
        await plane.stop()
        event = await listening.next(Disconnected)
        assert "was lost" in event.reason
        event = await listening.next(Disconnected)
        assert f"nothing listens at {plane.address}" in event.reason
        assert "the last table is served meanwhile" in event.remedy
        other = [dynconf(document({"echo.mesh": ["240.0.0.5"]})), outbound("240.0.0.5", 80, "echo")]
        plane.restart_empty(delta("w1", other))
        await plane.start()
        await listening.next(Connected)
        push = await listening.next(Pushed)
        assert names(push) == {"echo.mesh": ("240.0.0.5",)}
        assert set(push.table.listeners) == {(ip_address("240.0.0.5"), 80)}


async def test_goaway_is_survived() -> None:
    plane = plane_with(delta("v1", [TABLE]))
    async with plane, Listening(source(plane.address)) as listening:
        await listening.next(Pushed)
        await plane.stop(grace=0.1)
        event = await listening.next(Disconnected)
        assert plane.address in event.reason
        await plane.start()
        await listening.next(Connected)


async def test_a_connection_that_is_cut_is_made_again() -> None:
    async with (
        plane_with(delta("v1", [TABLE])) as plane,
        Relay(plane.port) as relay,
        Listening(source(relay.address)) as listening,
    ):
        await listening.next(Pushed)
        relay.cut()
        event = await listening.next(Disconnected)
        assert f"connection to control plane {relay.address} was lost" in event.reason
        await listening.next(Unchanged)


async def test_a_half_open_connection_is_noticed() -> None:
    timing = dataclasses.replace(FAST, keepalive=0.3, keepalive_timeout=1.0)
    async with (
        plane_with(delta("v1", [TABLE])) as plane,
        Relay(plane.port) as relay,
        Listening(source(relay.address, timing=timing)) as listening,
    ):
        await listening.next(Pushed)
        relay.fall_silent()
        before = asyncio.get_running_loop().time()
        event = await listening.next(Disconnected)
        assert asyncio.get_running_loop().time() - before < 30  # the pings' own time-out is 60 s when it is not set
        assert f"control plane {relay.address} no longer answers pings" in event.reason
        relay.speak()
        await plane.end_streams()  # as a control plane's own TCP does in the end
        await listening.next(Connected)


async def test_the_name_of_a_vanished_instance_is_waited_for() -> None:
    """A control plane does not ping: a stream that vanished counts as active until TCP gives up."""
    plane = plane_with(delta("v1", [TABLE]), linger=0.3)
    async with plane, Listening(source(plane.address)) as listening:
        await listening.next(Pushed)
        await plane.end_streams(grpc.StatusCode.UNAVAILABLE, "gone")
        event = await listening.next(Disconnected)
        assert "was lost (gone)" in event.reason
        event = await listening.next(Disconnected)
        assert "another active stream" in event.reason
        await listening.next(Connected)


async def test_closing_ends_the_stream() -> None:
    async with plane_with(delta("v1", [TABLE])) as plane:
        async with Listening(source(plane.address)) as listening:
            await listening.next(Pushed)
        await plane.until(lambda: not plane.open_streams())


# --- renewal


@pytest.mark.parametrize("protocol", ["sotw", "delta"])
async def test_a_frozen_table_thaws_with_the_next_stream(protocol: str) -> None:
    """A deleted Dataplane: the stream stays open and silent. The renewal is no disconnection."""
    make = delta if protocol == "delta" else sotw
    timing = dataclasses.replace(FAST, renew_delta=0.5, renew_sotw=0.5)
    plane = plane_with(make("v1", [TABLE]), linger=0.2)
    async with plane, Listening(source(plane.address, timing=timing, protocol=protocol)) as listening:
        await listening.next(Pushed)
        plane.deleted.add("default.meshdns")
        await plane.play(make("v2", [dynconf(document({"web.mesh": ["240.0.0.2"]}))]))
        push = await listening.next(Pushed)
        assert "web.mesh" in names(push)
        assert listening.of(Disconnected) == []
        assert len(listening.of(Connected)) >= 2
        assert plane.violations == []


async def test_a_renewal_that_changes_nothing_says_so() -> None:
    timing = dataclasses.replace(FAST, renew_delta=0.2)
    async with (
        plane_with(delta("v1", [TABLE])) as plane,
        Listening(source(plane.address, timing=timing)) as listening,
    ):
        for _ in range(3):
            await listening.next(Unchanged)
        assert len(listening.of(Pushed)) == 1
        assert listening.of(Disconnected) == []
        assert len(plane.open_streams()) <= 1
        assert all(stream.finished for stream in plane.streams if not stream.open)


async def test_a_renewal_that_fails_is_told() -> None:
    timing = dataclasses.replace(FAST, renew_delta=0.2)
    plane = plane_with(delta("v1", [TABLE]))
    async with plane, Listening(source(plane.address, timing=timing)) as listening:
        await listening.next(Pushed)
        plane.refuse_always = (UNKNOWN, 'resource "default.meshdns" not found; create a Dataplane')
        event = await listening.next(Disconnected)
        assert "knows no Dataplane" in event.reason


# --- which protocol


async def test_silent_delta_then_sotw_and_the_winner_is_remembered(tmp_path: Path) -> None:
    """kuma-cp 2.0 to 2.10: a delta stream opens and nothing ever comes."""
    timing = dataclasses.replace(FAST, patience=1.0)
    plane = plane_with(sotw("v1", [TABLE]), silent=frozenset({"delta"}))
    async with plane:
        async with Listening(source(plane.address, timing=timing, memory=tmp_path / "m")) as listening:
            event = await listening.next(Disconnected)
            assert "gave no answer to a delta stream within 1 s" in event.reason
            assert "both are tried" in event.remedy
            assert (await listening.next(Connected)).detail == "sotw"
            await listening.next(Pushed)
        assert [stream.mode for stream in plane.streams] == ["delta", "sotw"]
        assert "feature-delta-grpc" in plane.streams[0].features
        assert "feature-delta-grpc" not in plane.streams[1].features
        await plane.until(lambda: not plane.open_streams())
        async with Listening(source(plane.address, timing=timing, memory=tmp_path / "m")) as listening:
            await listening.next(Pushed)
        assert [stream.mode for stream in plane.streams] == ["delta", "sotw", "sotw"]


async def test_silent_sotw_of_a_newer_control_plane(tmp_path: Path) -> None:
    """An upgrade to 3.0: SotW, which was remembered, is silent now."""
    timing = dataclasses.replace(FAST, patience=1.0)
    plane = plane_with(delta("v1", [TABLE]), silent=frozenset({"sotw"}))
    async with plane:
        (tmp_path / f"protocol-127.0.0.1%3A{plane.port}.json").write_text('{"protocol": "sotw", "patience": 1.0}')
        async with Listening(source(plane.address, timing=timing, memory=tmp_path)) as listening:
            assert "to a sotw stream" in (await listening.next(Disconnected)).reason
            assert (await listening.next(Connected)).detail == "delta"


async def test_a_slow_control_plane_is_given_more_time(tmp_path: Path) -> None:
    """10,000 services took 34 s for the first answer; it looks just like a protocol that is not spoken."""
    timing = dataclasses.replace(FAST, patience=0.3, patience_limit=2.4)
    plane = plane_with(delta("v1", [TABLE]), first_delay=0.7, silent=frozenset({"sotw"}))
    async with plane, Listening(source(plane.address, timing=timing, memory=tmp_path)) as listening:
        await listening.next(Pushed)
        # 0.3 and 0.6 were not enough, so 1.2 was
        assert [stream.mode for stream in plane.streams] == ["delta", "sotw"] * 2 + ["delta"]
    assert Memory(tmp_path, plane.address).recall() == Winner("delta", 1.2)


async def test_one_protocol_only_is_waited_for_and_the_other_never_tried() -> None:
    timing = dataclasses.replace(FAST, patience=0.75, patience_limit=1.5)
    plane = plane_with(delta("v1", [TABLE]), silent=frozenset({"delta"}))
    async with plane, Listening(source(plane.address, timing=timing, protocol="delta")) as listening:
        event = await listening.next(Disconnected)
        assert "protocol: auto tries both" in event.remedy
        event = await listening.next(Disconnected)
        assert "within 1.5 s" in event.reason
        plane.silent = frozenset()
        await listening.next(Pushed)
        assert {stream.mode for stream in plane.streams} == {"delta"}


async def test_sotw_silence_to_a_current_version_ends_when_no_version_is_claimed() -> None:
    timing = dataclasses.replace(FAST, patience=1.0)
    plane = plane_with(sotw("v1", [TABLE]))
    plane.quiet_when_current = True
    async with plane, Listening(source(plane.address, timing=timing, protocol="sotw")) as listening:
        await listening.next(Pushed)
        await plane.end_streams()
        await listening.next(Connected)
        assert [stream.version for stream in plane.streams] == ["", "v1", ""]
        await listening.next(Unchanged)


# --- size


async def test_50_000_names_in_a_response_of_20_mib() -> None:
    filler = "x" * 60
    rows = {
        f"s{n}.{filler}.{filler}.{filler}.mesh": [f"240.{n >> 16}.{n >> 8 & 255}.{n & 255}"] for n in range(1, 50_001)
    }
    body = document(rows, extraLabels={"filler": "y" * (10 << 20)})
    async with (
        plane_with(sotw("v1", [dynconf(body)])) as plane,
        Listening(source(plane.address, protocol="sotw", timing=dataclasses.replace(FAST, patience=60.0))) as listening,
    ):
        assert len(plane.meshes["default"].steps[0].SerializeToString()) > 20 << 20
        push = await listening.next(Pushed, seconds=60)
        assert len(push.table.records) == 50_000
        await plane.until(lambda: plane.last.acks == ["1"])


async def test_a_response_above_the_limit_is_told() -> None:
    listener = dynconf(document(ECHO, filler="y" * (65 << 20)))
    async with (
        plane_with(delta("v1", [listener])) as plane,
        Listening(source(plane.address, timing=dataclasses.replace(FAST, patience=60.0))) as listening,
    ):
        event = await listening.next(Disconnected, seconds=60)
        assert "sent a response that is too large" in event.reason
        assert "larger than max" in event.reason


# --- who takes the events


async def test_every_response_is_acked_although_nobody_takes_the_tables() -> None:
    recording = Recording.load(DATA / "2.14.3-delta-embedded-growth")
    async with ControlPlane(recording, auto=True) as plane, Listening(source(plane.address)) as listening:
        await listening.next(Connected)
        await plane.until(lambda: len(plane.last.acks) == len(recording.steps))
        while (await listening.next(Pushed)).version != recording.expected[-1]["version"]:
            pass
        assert len(listening.of(Pushed)) <= 2  # an ACK leaves before the table of its response is put into the slot


async def test_both_encodings_at_once_the_document_wins() -> None:
    filtered = dns_filter({"echo.mesh": ["240.0.0.9"], "only.mesh": ["240.0.0.8"]})
    async with plane_with(delta("v1", [filtered, TABLE])) as plane, Listening(source(plane.address)) as listening:
        push = await listening.next(Pushed)
        assert names(push) == {"echo.mesh": ("240.0.0.1",)}
        await plane.play(delta("v2", [], [TABLE.name]))
        push = await listening.next(Pushed)
        assert names(push) == {"echo.mesh": ("240.0.0.9",), "only.mesh": ("240.0.0.8",)}
