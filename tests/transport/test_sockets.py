"""Binding: both protocols on one port, clear refusals, nothing shared by accident."""

import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from meshdns.transport import sockets
from meshdns.transport.holder import holder_of, parse_address
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


@pytest.mark.parametrize(
    ("listen", "named"),
    [
        (["0.0.0.0:5", "127.0.0.1:5"], "cannot listen on 127.0.0.1:5: 0.0.0.0:5, listed before it, has the same port"),
        (["127.0.0.1:5", "0.0.0.0:5"], "cannot listen on 0.0.0.0:5: 127.0.0.1:5, listed before it"),
        (["127.0.0.1:5", "127.0.0.1:5"], "cannot listen on 127.0.0.1:5: 127.0.0.1:5, listed before it"),
    ],
)
def test_addresses_that_exclude_each_other_are_named(listen: list[str], named: str) -> None:
    # two free addresses in the place of what the case names with port 5
    free = bind(["0.0.0.0:0"])
    port = free.rows[0][0].udp.getsockname()[1]
    free.close()
    with pytest.raises(BindError) as refusal:
        bind([text.replace(":5", f":{port}") for text in listen])
    assert named in str(refusal.value).replace(f":{port}", ":5")


def test_addresses_that_do_not_exclude_each_other_are_had_together() -> None:
    bound = bind(["127.0.0.1:0", "127.0.0.1:0", "127.0.0.2:0"])
    assert len(set(bound.addresses)) == 3
    bound.close()


def test_a_socket_of_another_address_is_not_taken_for_the_holder() -> None:
    code = (
        "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('127.0.0.2', 0));"
        "print(s.getsockname()[1], flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        assert holder_of("127.0.0.1", port, socket.SOCK_DGRAM) == ""
        assert holder_of("127.0.0.2", port, socket.SOCK_STREAM) == ""
        for host in ("127.0.0.2", "0.0.0.0"):
            assert holder_of(host, port, socket.SOCK_DGRAM).startswith(f"pid {other.pid} (")
        other.communicate("")


@pytest.mark.skipif(sys.byteorder != "little", reason="written as a little-endian machine shows them")
@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0100007F", "127.0.0.1"),
        ("00000000", "0.0.0.0"),
        ("00000000000000000000000001000000", "::1"),
        ("B80D0120000000000000000001000000", "2001:db8::1"),
    ],
)
def test_addresses_as_the_kernel_lists_them(text: str, address: str) -> None:
    assert str(parse_address(text)) == address


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_several_responders_share_what_arrives(kind: socket.SocketKind) -> None:
    bound = bind(["127.0.0.1:0"], responders=3)
    port = bound.rows[0][0].udp.getsockname()[1]
    made = []
    for _ in range(200):  # that one of three gets none of 200 is a matter of 1 in 10^35
        made.append(socket.socket(socket.AF_INET, kind))
        made[-1].connect(("127.0.0.1", port))
        made[-1].send(b"x")
    for (endpoint,) in bound.rows:
        if kind == socket.SOCK_DGRAM:
            assert endpoint.udp.recv(9) == b"x"
        else:
            endpoint.tcp.accept()[0].close()
    for each in made:
        each.close()
    bound.close()


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


UNPRIVILEGED = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


@pytest.mark.skipif(
    not UNPRIVILEGED.exists() or int(UNPRIVILEGED.read_text()) <= 81, reason="any user may have port 81 here"
)
def test_a_privileged_port_names_the_remedies() -> None:
    code = (
        "import os; from meshdns.transport.sockets import bind;"
        "os.geteuid() or (os.setgroups([]), os.setgid(65534), os.setuid(65534)); bind(['127.0.0.1:81'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "BindError: cannot listen on 127.0.0.1:81 (UDP): " in done.stderr
    assert "CAP_NET_BIND_SERVICE (or: sysctl -w net.ipv4.ip_unprivileged_port_start=81)" in done.stderr


@pytest.mark.needs("netns")
def test_a_machine_without_ipv6_is_served_over_ipv4() -> None:
    """A fresh network namespace has no address at all, so of both wildcards only that of IPv4 is worth having."""
    code = "from meshdns.transport.sockets import bind; print(bind(['0.0.0.0:5353', '[::]:5353']).addresses)"
    flags = "-n" if os.geteuid() == 0 else "-Urn"
    command = ["unshare", flags, sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "('0.0.0.0:5353',)\n"
    assert "[::]:5353 is skipped: this machine has no IPv6" in done.stderr


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
