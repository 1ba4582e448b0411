"""TLS and everything that goes wrong before a stream exists, over real sockets."""

import asyncio
import dataclasses
import socket
from pathlib import Path

import grpc
import pytest
import trustme
from grpc import aio

from meshdns.inventory.event import Connected, Disconnected, Pushed
from tests.xds.control_plane import ControlPlane, Mesh
from tests.xds.listeners import delta, document, dynconf
from tests.xds.listening import FAST, Listening, source


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def certificate(authority: trustme.CA, *names: str) -> tuple[bytes, bytes]:
    issued = authority.issue_cert(*(names or ("127.0.0.1", "localhost")))
    return issued.private_key_pem.bytes(), b"".join(blob.bytes() for blob in issued.cert_chain_pems)


def secure(tls: tuple[bytes, bytes] | None, token: str | None = None) -> ControlPlane:
    plane = ControlPlane(tls=tls, token=token)
    plane.meshes["default"] = Mesh([delta("v1", [dynconf(document({"echo.mesh": ["240.0.0.1"]}))])], 0)
    return plane


async def test_tls_with_a_token(authority: trustme.CA, tmp_path: Path) -> None:
    ca_file, token_file = tmp_path / "ca.pem", tmp_path / "token"
    ca_file.write_bytes(authority.cert_pem.bytes())
    token_file.write_text("secret\n")
    async with (
        secure(certificate(authority), "secret") as plane,
        Listening(source(plane.address, ca_file=ca_file, token_file=token_file)) as listening,
    ):
        await listening.next(Pushed)
        assert plane.violations == []


async def test_a_control_plane_that_signed_itself_is_trusted_by_its_own_certificate(tmp_path: Path) -> None:
    """kuma-cp makes such a pair where none is given."""
    authority = trustme.CA()
    key, chain = certificate(authority)
    ca_file = tmp_path / "kuma-cp.crt"
    ca_file.write_bytes(authority.cert_pem.bytes() + chain)
    async with secure((key, chain)) as plane, Listening(source(plane.address, ca_file=ca_file)) as listening:
        await listening.next(Pushed)


async def test_a_rotated_ca_is_taken_at_the_next_attempt(authority: trustme.CA, tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(trustme.CA().cert_pem.bytes())
    async with (
        secure(certificate(authority)) as plane,
        Listening(source(plane.address, ca_file=ca_file)) as listening,
    ):
        event = await listening.next(Disconnected)
        assert f"the certificate of control plane {plane.address} is not signed by {ca_file}" in event.reason
        assert "CERTIFICATE_VERIFY_FAILED" in event.reason
        assert "ca_file" in event.remedy
        ca_file.write_bytes(authority.cert_pem.bytes())
        await listening.next(Connected)


async def test_a_certificate_for_other_names(authority: trustme.CA, tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(authority.cert_pem.bytes())
    async with (
        secure(certificate(authority, "kuma-cp.example")) as plane,
        Listening(source(plane.address, ca_file=ca_file)) as listening,
    ):
        event = await listening.next(Disconnected)
        assert "is for other names" in event.reason


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read: No such file"),
        (b"", "holds no certificate"),
        (b"garbage", "holds no certificate"),
        (b"\xff\xfe", "holds no certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "holds no certificate"),
    ],
)
async def test_a_ca_file_that_is_none(
    authority: trustme.CA, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_bytes(content)
    async with (
        secure(certificate(authority)) as plane,
        Listening(source(plane.address, ca_file=ca_file)) as listening,
    ):
        event = await listening.next(Disconnected)
        assert str(ca_file) in event.reason
        assert reason in event.reason
        ca_file.write_bytes(authority.cert_pem.bytes())
        await listening.next(Connected)


async def test_plaintext_to_tls(authority: trustme.CA) -> None:
    async with secure(certificate(authority)) as plane, Listening(source(plane.address)) as listening:
        event = await listening.next(Disconnected)
        assert f"{plane.address} closed the connection at once" in event.reason
        assert "the control plane speaks TLS" in event.remedy


async def test_tls_to_plaintext(authority: trustme.CA, tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(authority.cert_pem.bytes())
    async with secure(None) as plane, Listening(source(plane.address, ca_file=ca_file)) as listening:
        event = await listening.next(Disconnected)
        assert f"{plane.address} does not speak TLS" in event.reason


async def test_nothing_listens() -> None:
    plane = secure(None)
    await plane.start()
    await plane.stop()
    async with Listening(source(plane.address)) as listening:
        event = await listening.next(Disconnected)
        assert f"nothing listens at {plane.address}" in event.reason
        await plane.start()
        await listening.next(Connected)
        await plane.end_streams()
    await plane.stop()


async def test_something_that_is_no_grpc() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with Listening(source(f"127.0.0.1:{port}")) as listening:
            event = await listening.next(Disconnected)
            assert f"127.0.0.1:{port} does not speak gRPC" in event.reason
            assert "port 5678" in event.remedy


async def test_a_listener_that_never_answers() -> None:
    """Taken by the kernel, read by nobody: no connection, which says nothing about protocols."""
    with socket.socket() as idle:
        idle.bind(("127.0.0.1", 0))
        idle.listen(8)
        address = f"127.0.0.1:{idle.getsockname()[1]}"
        async with Listening(source(address, timing=dataclasses.replace(FAST, patience=0.3))) as listening:
            event = await listening.next(Disconnected)
            assert event.reason == f"cannot reach control plane {address}: no connection within 0.3 s"


async def test_grpc_without_ads() -> None:
    server = aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with Listening(source(f"127.0.0.1:{port}")) as listening:
            event = await listening.next(Disconnected)
            assert "does not offer this kind of stream" in event.reason
    finally:
        await server.stop(None)


async def test_one_protocol_only_is_offered() -> None:
    """Not kuma-cp, but its kin: what is not offered is no reason to wait."""
    plane = secure(None)
    plane.refusals.append((grpc.StatusCode.UNIMPLEMENTED, "unknown method"))
    plane.meshes["default"].steps = [delta("v1", [dynconf(document({}))])]
    async with plane, Listening(source(plane.address)) as listening:
        event = await listening.next(Disconnected)
        assert "does not offer" in event.reason
        await plane.until(lambda: len(plane.streams) >= 2)
        assert [stream.mode for stream in plane.streams[:2]] == ["delta", "sotw"]
