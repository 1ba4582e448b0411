"""The ADS server over real gRPC: our own client, a client that says what it should not, TLS, tokens, NACKs."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

from meshdns.errors import StoreError
from meshdns.inventory.event import Connected, Disconnected, Noticed, Pushed
from meshdns.publisher.certificate import read_certificate
from meshdns.publisher.gate import SECOND_STREAM
from meshdns.publisher.packed import ENDPOINT, LISTENER
from meshdns.publisher.publication import Publication
from meshdns.publisher.server import AdsServer, ListenError
from meshdns.publisher.session import Protocol
from meshdns.publisher.tokens import Token, read_key, sign
from tests.publisher.meshes import dataplane, gateway, settings, written
from tests.publisher.published import PATIENCE, publishing, stream
from tests.scale import LONG, bound
from tests.xds.control_plane import Relay
from tests.xds.listening import Listening, source

both = pytest.mark.parametrize("protocol", ["sotw", "delta"])
ECHO = dataplane("echo-1", "echo_default_svc_8080", 18080)
CLIENT = gateway("client")


@both
async def test_our_own_client_hears_what_our_own_server_publishes(tmp_path: Path, protocol: Protocol) -> None:
    async with publishing(tmp_path, ECHO) as published:
        client = source(published.address, protocol=protocol, dataplane="observer")
        async with Listening(client) as listening:
            pushed = await listening.next(Pushed)
            own = next(event for event in published.events if isinstance(event, Pushed))
            assert {name: record.addresses for name, record in pushed.table.records.items()} == {
                name: record.addresses for name, record in own.table.records.items()
            }
            assert dict(pushed.table.listeners) == dict(own.table.listeners)
            published.write(ECHO, dataplane("web-1", "web", 18081))
            grown = await listening.next(Pushed)
            assert grown.table.records.keys() - pushed.table.records.keys() == {"web.mesh"}
            published.write(dataplane("web-1", "web", 18081))
            shrunk = await listening.next(Pushed)
            assert set(shrunk.table.records) == {"web.mesh"}


@both
async def test_who_brings_its_dataplane_along_may_come_back_at_once(tmp_path: Path, protocol: Protocol) -> None:
    async with publishing(tmp_path, ECHO) as published:
        for _ in range(3):
            async with Listening(source(published.address, protocol=protocol, dataplane="observer")) as listening:
                await listening.next(Pushed)
                assert not listening.of(Disconnected)


@both
async def test_a_change_reaches_the_stream_within_a_tenth_of_a_second(tmp_path: Path, protocol: Protocol) -> None:
    took = []
    async with publishing(tmp_path, ECHO, CLIENT) as published, stream(published.address, protocol) as opened:
        await opened.ask(ENDPOINT, "default.client", **_names(protocol, "echo_default_svc_8080"))
        nonce = (await opened.next()).nonce
        for port in range(20000, 20020):
            await opened.ask(
                ENDPOINT,
                response_nonce=nonce,
                **({} if protocol == "delta" else _names(protocol, "echo_default_svc_8080")),
            )
            began = time.monotonic()
            published.write(dataplane("echo-1", "echo_default_svc_8080", port), CLIENT)
            nonce = (await opened.next()).nonce
            took.append(time.monotonic() - began)
    assert sorted(took)[len(took) // 4] < bound(0.1)


def _names(protocol: Protocol, *names: str) -> dict[str, Any]:
    return {"resource_names_subscribe" if protocol == "delta" else "resource_names": names}


NOT_FOUND = "create a Dataplane in Kuma CP first or pass it as an argument to kuma-dp"
REFUSED = [
    ("default.ghost", None, f'resource "default.ghost" not found; {NOT_FOUND}'),
    ("nope.client", None, f'resource "nope.client" not found; {NOT_FOUND}'),
    ("nodot", None, "request must have a valid Proxy ID: the name should be provided after the dot"),
    (
        "default.me",
        {"dataplane.resource": written(gateway("other"))},
        "proxyId default.me does not match proxy resource",
    ),
    ("default.me", {"dataplane.resource": "type: Dataplane\nname: ["}, "the metadata of node default.me"),
]


@both
@pytest.mark.parametrize(("node", "metadata", "text"), REFUSED)
async def test_every_refusal_is_unknown_with_a_text(
    tmp_path: Path, protocol: Protocol, node: str, metadata: Any, text: str
) -> None:
    async with publishing(tmp_path, CLIENT) as published, stream(published.address, protocol) as opened:
        await opened.ask(node=node, metadata=metadata)
        code, details = await opened.refusal()
    assert code == "UNKNOWN"
    assert details.startswith(text)


@both
async def test_a_request_that_is_none_is_refused(tmp_path: Path, protocol: Protocol) -> None:
    async with publishing(tmp_path, CLIENT) as published, stream(published.address, protocol) as opened:
        await opened.call.write(b"\xff\xff\xff")
        assert await opened.refusal() == ("UNKNOWN", "a request of 3 octets is not a discovery request")


@both
async def test_one_stream_for_a_data_plane(tmp_path: Path, protocol: Protocol) -> None:
    async with publishing(tmp_path, CLIENT, gateway("second")) as published:
        async with stream(published.address, protocol) as first:
            await first.ask(LISTENER, "default.client")
            await first.next()
            async with stream(published.address, "delta") as again:
                await again.ask(node="default.client")
                assert await again.refusal() == (
                    "UNKNOWN",
                    "there is already an active stream from this node, try again later",
                )
            async with stream(published.address, protocol) as second:
                await second.ask(node="default.second")
                await second.next()
            await first.ask(ENDPOINT)  # the first one lives on
            assert (await first.next()).type_url == ENDPOINT
        async with asyncio.timeout(PATIENCE):
            while True:
                async with stream(published.address, protocol) as later:
                    await later.ask(node="default.client")
                    read = asyncio.ensure_future(later.call.read())
                    await asyncio.wait({read})
                    if read.exception() is None and read.result() is not aio.EOF:
                        break


@both
async def test_a_stream_stays_with_its_data_plane(tmp_path: Path, protocol: Protocol) -> None:
    async with (
        publishing(tmp_path, CLIENT, gateway("second")) as published,
        stream(published.address, protocol) as opened,
    ):
        await opened.ask(node="default.client")
        await opened.next()
        await opened.ask(node="default.second")
        assert (await opened.refusal())[0] == "UNKNOWN"


@both
async def test_what_a_data_plane_refuses_is_shown_until_it_takes_it(tmp_path: Path, protocol: Protocol) -> None:
    async with publishing(tmp_path, ECHO, CLIENT) as published, stream(published.address, protocol) as opened:
        await opened.ask(LISTENER, "default.client")
        response = await opened.next()
        await opened.ask(
            LISTENER,
            response_nonce=response.nonce,
            error_detail={
                "code": 13,
                "message": "Error adding/updating listener(s) outbound:240.0.0.0:80: cannot bind",
            },
        )
        expected = (
            "data plane client refuses Listener outbound:240.0.0.0:80: "
            "Error adding/updating listener(s) outbound:240.0.0.0:80: cannot bind"
        )
        await published.until(lambda: expected in published.notices)
        published.write(dataplane("web-1", "web", 18081), CLIENT)
        response = await opened.next()
        await opened.ask(LISTENER, response_nonce=response.nonce)
        await published.until(lambda: not published.notices)


async def test_a_name_server_lives_without_a_port_for_data_planes(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(written(ECHO))
    async with publishing(tmp_path) as other:
        taken = settings(tmp_path / "own.yaml", plaintext=True, tokens=False, listen=other.address)
        with pytest.raises(ListenError, match=f"cannot listen on {other.address}: it is in use"):
            await Publication(taken, data_dir=tmp_path / "second").start()
        publication = Publication(taken, data_dir=tmp_path / "third")
        events = publication.events()
        heard = []
        async with asyncio.timeout(PATIENCE):
            async for event in events:
                heard.append(event)
                notices = event.notices if isinstance(event, Pushed) else ()
                if any("data planes are not served" in notice for notice in notices):
                    break
        await events.aclose()
        publication.close()
    kinds = {type(event) for event in heard}
    assert kinds >= {Connected, Pushed}
    assert kinds <= {Connected, Pushed, Noticed}


@both
async def test_a_token_lets_its_own_data_plane_in(tmp_path: Path, protocol: Protocol) -> None:
    async with publishing(tmp_path, CLIENT, gateway("second"), tokens=True) as published:
        key = read_key(published.data_dir)
        now = time.time()
        good = sign(Token("default", "client", int(now) + 60), key, now=now)
        cases = [
            ((good,), "default.client", ""),
            ((good,), "default.second", "authentication failed: proxy name from requestor: second is different"),
            ((), "default.client", "authentication failed: could not parse token: token is malformed"),
            ((good, good), "default.client", "could not extract credential from DiscoveryRequest"),
            ((sign(Token("default", "client", int(now) - 1), key, now=now - 60),), "default.client", "authentication"),
        ]
        for authorization, node, text in cases:
            async with stream(published.address, protocol, *authorization) as opened:
                await opened.ask(node=node)
                if text:
                    code, details = await opened.refusal()
                    assert (code, details[: len(text)]) == ("UNKNOWN", text)
                else:
                    await opened.next()


@both
@pytest.mark.needs("openssl")
async def test_a_certificate_of_its_own(tmp_path: Path, protocol: Protocol) -> None:
    async with publishing(tmp_path, ECHO, CLIENT, plaintext=False, tokens=True) as published:
        chain = published.data_dir / "tls" / "127.0.0.1.crt"
        assert (published.data_dir / "tls" / "127.0.0.1.key").stat().st_mode & 0o077 == 0
        now = time.time()
        token = tmp_path / "token"
        token.write_text(sign(Token("default", "observer", int(now) + 60), read_key(published.data_dir), now=now))
        good = source(published.address, protocol=protocol, dataplane="observer", ca_file=chain, token_file=token)
        async with Listening(good) as listening:
            assert len((await listening.next(Pushed)).table.records) == 2
        before = chain.read_bytes()
        read_certificate(settings(listen="127.0.0.1:1"), published.data_dir)
        assert chain.read_bytes() == before  # made once
        async with Listening(source(published.address, protocol=protocol, dataplane="observer")) as plain:
            assert "speaks TLS" in (await plain.next(Disconnected)).remedy


async def nobody(server: AdsServer) -> None:
    """Wait until no data plane is connected."""
    async with asyncio.timeout(PATIENCE):
        while server.data_planes:  # noqa: ASYNC110 (who goes is not told)
            await asyncio.sleep(0.005)


@both
async def test_the_place_of_a_data_plane_that_is_gone_without_a_word_is_free_again(
    tmp_path: Path, protocol: Protocol
) -> None:
    """Its stream may be ended from our side just then: gRPC cancels a stream's task while it waits for its readers."""
    async with publishing(tmp_path, CLIENT) as published, Relay(int(published.address.rpartition(":")[2])) as relay:
        server = published.publication._server
        assert server is not None
        for ended in (False, True) * 4:
            async with stream(relay.address, protocol) as gone:
                await gone.ask(node="default.client")
                await gone.next()
                relay.fall_silent()
                async with stream(published.address, protocol) as early:
                    await early.ask(node="default.client")
                    assert (await early.refusal())[1] == SECOND_STREAM
                if ended:
                    for place in server._streams.values():
                        place.end()
                relay.cut()
            relay.speak()
            await nobody(server)
            async with stream(published.address, protocol) as back:
                await back.ask(node="default.client")
                await back.next()
            await nobody(server)


def test_without_openssl_it_is_said_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(StoreError, match="set cert_file and key_file"):
        read_certificate(settings(listen="127.0.0.1:1"), tmp_path)


@pytest.mark.skipif(not LONG, reason="waits half a minute for pings: MESHDNS_LONG=1")
async def test_a_client_may_ping_every_six_seconds(tmp_path: Path) -> None:
    pinging = (
        ("grpc.keepalive_time_ms", 6_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    )
    async with publishing(tmp_path, CLIENT) as published, stream(published.address, "delta", options=pinging) as opened:
        await opened.ask(node="default.client")
        await opened.next()
        read = asyncio.ensure_future(opened.call.read())
        done, _ = await asyncio.wait({read}, timeout=35)
        read.cancel()
        assert not done
