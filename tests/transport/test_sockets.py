"""Binding: both protocols on one port, clear refusals, nothing shared by accident."""

import logging
import os
import socket
import subprocess
import sys

import pytest

from meshdns.transport import sockets
from meshdns.transport.sockets import BindError, bind


def test_udp_and_tcp_get_one_free_port_for_every_responder() -> None:
    bound = bind(["127.0.0.1:0"], responders=3)
    ports = {each.getsockname()[1] for each in bound.sockets()}
    assert len(ports) == 1
    assert bound.addresses == (f"127.0.0.1:{ports.pop()}",)
    assert len(bound.rows) == 3
    bound.close()


def test_the_port_is_shared_only_among_several_responders() -> None:
    for responders in (1, 2):
        bound = bind(["127.0.0.1:0"], responders=responders)
        shared = {each.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) for each in bound.sockets()}
        assert shared == {int(responders > 1)}
        bound.close()


@pytest.mark.parametrize("responders", [1, 2])
@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_an_address_in_use_is_refused_with_its_holder(kind: socket.SocketKind, responders: int) -> None:
    code = (
        "import socket, sys; s = socket.socket(socket.AF_INET, socket.SocketKind(int(sys.argv[1])));"
        "s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1); s.bind(('127.0.0.1', 0));"
        "s.type == socket.SOCK_STREAM and s.listen(); print(s.getsockname()[1], flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(int(kind))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        port = int(holder.stdout.readline())
        with pytest.raises(BindError, match=rf"127\.0\.0\.1:{port} .*in use by pid {holder.pid} \("):
            bind([f"127.0.0.1:{port}"], responders)
        holder.communicate("")


def test_after_a_refusal_nothing_stays_bound() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        free = bind(["127.0.0.1:0"])
        free_port = free.rows[0][0].udp.getsockname()[1]
        free.close()
        with pytest.raises(BindError):
            bind([f"127.0.0.1:{free_port}", f"127.0.0.1:{taken.getsockname()[1]}"])
        bind([f"127.0.0.1:{free_port}"]).close()


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(BindError, match="no such address"):
        bind(["192.0.2.1:0"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may bind every port")
def test_a_privileged_port_names_the_remedies() -> None:
    with pytest.raises(BindError, match=r"CAP_NET_BIND_SERVICE .*ip_unprivileged_port_start"):
        bind(["127.0.0.1:81"])


def test_a_family_that_the_machine_lacks_is_skipped_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sockets, "_has_ipv6", lambda: False)
    with caplog.at_level(logging.WARNING):
        bound = bind(["127.0.0.1:0", "[::1]:0"])
    assert len(bound.addresses) == 1
    assert "[::1]:0 is skipped" in caplog.text
    bound.close()
    with pytest.raises(BindError, match="nothing to listen on"):
        bind(["[::1]:0"])


def test_both_wildcards_share_a_port() -> None:
    first = bind(["0.0.0.0:0"])
    port = first.rows[0][0].udp.getsockname()[1]
    if sockets._has_ipv6():
        bind([f"[::]:{port}"]).close()
    assert first.rows[0][0].is_wildcard
    assert not first.rows[0][0].is_loopback
    first.close()


def test_connections_wait_before_anybody_accepts() -> None:
    bound = bind(["127.0.0.1:0"])
    port = bound.rows[0][0].tcp.getsockname()[1]
    with socket.create_connection(("127.0.0.1", port), timeout=5) as waiting:
        waiting.sendall(b"\0\0")
    bound.close()


def test_a_small_receive_buffer_names_the_sysctl(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sockets, "RECEIVE_BUFFER", 1 << 40 >> 12)
    with caplog.at_level(logging.WARNING), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        monkeypatch.setattr(sockets, "_SO_RCVBUFFORCE", socket.SO_RCVBUF)
        sockets._widen(udp)
    assert "net.core.rmem_max" in caplog.text
