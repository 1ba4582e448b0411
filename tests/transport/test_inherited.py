"""Sockets of a service manager and of a former image: what fits is used, what is missing bound, what is left named."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meshdns.transport.inherited import Given, from_service_manager, refuse_unused, same, take_up, unshared
from meshdns.transport.sockets import BACKLOG, IP_PKTINFO, STREAM_BUFFER, BindError, bind

UDP, TCP = socket.SOCK_DGRAM, socket.SOCK_STREAM


def made(kind: int, host: str = "127.0.0.1", port: int = 0, *, listens: bool = True) -> socket.socket:
    """A socket as a service manager binds it, with none of our options."""
    each = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
    if ":" in host:
        each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        each.bind((host, port))
    except OSError:
        each.close()
        raise
    if kind == TCP and listens:
        each.listen(1)
    return each


def pair(host: str = "127.0.0.1") -> tuple[socket.socket, socket.socket, str]:
    udp, port = None, 0
    while udp is None:
        tcp = made(TCP, host)
        port = tcp.getsockname()[1]
        try:
            udp = made(UDP, host, port)
        except OSError:
            tcp.close()
    return udp, tcp, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def lent(*sockets: socket.socket) -> list[Given]:
    return [Given(each, lent=True) for each in sockets]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_passed_sockets_are_used_with_our_options(host: str) -> None:
    udp, tcp, address = pair(host)
    bound, unused = take_up([address], 1, lent(tcp, udp))
    ((endpoint,),) = bound.rows
    assert (endpoint.udp, endpoint.tcp, endpoint.address, unused) == (udp, tcp, address, ())
    assert (endpoint.udp_lent, endpoint.tcp_lent) == (True, True)
    assert not udp.getblocking()
    assert not tcp.getblocking()
    assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * STREAM_BUFFER
    level, option = (socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO) if ":" in host else (socket.IPPROTO_IP, IP_PKTINFO)
    assert udp.getsockopt(level, option) == int(endpoint.is_wildcard)
    clients = []
    for _ in range(8):  # more than the service manager's backlog of 1 lets in
        clients.append(socket.create_connection(("::1" if ":" in host else "127.0.0.1", tcp.getsockname()[1]), 5))
    assert BACKLOG > 8
    for each in clients:
        each.close()
    bound.close()


@pytest.mark.parametrize("kind", [UDP, TCP])
def test_a_missing_partner_and_a_missing_address_are_bound(kind: int, caplog: pytest.LogCaptureFixture) -> None:
    udp, tcp, address = pair()
    passed, other = (udp, tcp) if kind == UDP else (tcp, udp)
    other.close()
    with caplog.at_level(logging.INFO):
        bound, _ = take_up([address, "127.0.0.1:0"], 1, lent(passed))
    assert f"{address} ({'TCP' if kind == UDP else 'UDP'}) was not passed: it is bound here" in caplog.text
    first, second = bound.rows[0]
    assert {first.udp.getsockname(), first.tcp.getsockname()} == {passed.getsockname()}
    assert (first.udp_lent, first.tcp_lent) == (kind == UDP, kind == TCP)
    assert (second.udp_lent, second.tcp_lent) == (False, False)
    bound.close()


def test_what_is_not_listened_on_is_an_error() -> None:
    udp, tcp, address = pair()
    bound, unused = take_up(["127.0.0.1:0"], 1, lent(udp))
    with pytest.raises(BindError, match=rf"{address} \(UDP\) was passed by LISTEN_FDS and is not in 'listen' \(127"):
        refuse_unused(unused, ["127.0.0.1:0"], 1)
    bound.close()
    with udp.dup() as again:
        bound, unused = take_up([address], 1, lent(udp, again, tcp))
        with pytest.raises(BindError, match=r"\(UDP\) was passed more often than there are responders \(1\)"):
            refuse_unused(unused, [address], 1)
    bound.close()


def test_several_responders_get_sockets_of_their_own_or_share() -> None:
    udp, tcp, address = pair()
    bound, _ = take_up([address], 3, lent(udp, tcp))
    assert [row[0].udp_lent for row in bound.rows] == [True, False, False]
    assert len({os.fstat(each.fileno()).st_ino for each in bound.sockets()}) == 6
    bound.close()


def test_responders_share_a_socket_of_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> socket.socket:
        raise BindError("in use")

    udp, tcp, address = pair()
    monkeypatch.setattr("meshdns.transport.inherited.bind_one", refuse)
    bound, _ = take_up([address], 2, lent(udp, tcp))
    assert same(bound.rows[1][0].udp, udp)
    assert same(bound.rows[1][0].tcp, tcp)
    assert bound.rows[1][0].tcp_lent
    bound.close()


def test_a_former_image_s_sockets_are_found_by_what_was_asked_for() -> None:
    former = bind(["127.0.0.1:0", "127.0.0.2:0"], 3)
    given = [
        Given(each, endpoint.listen) for row in former.rows for endpoint in row for each in (endpoint.udp, endpoint.tcp)
    ]
    bound, unused = take_up(["127.0.0.2:0", "127.0.0.3:0"], 2, given)
    kept = [each for row in former.rows[:2] for each in (row[1].udp, row[1].tcp)]
    assert [each for row in bound.rows for each in (row[0].udp, row[0].tcp)] == kept
    assert {each.socket for each in unused} == set(former.sockets()) - set(kept)
    assert unshared(unused, bound) == unused
    bound.close()
    former.close()


def test_an_address_lost_meanwhile_costs_only_itself(caplog: pytest.LogCaptureFixture) -> None:
    with made(UDP) as taken:
        gone = f"127.0.0.1:{taken.getsockname()[1]}"
        bound, _ = take_up(["127.0.0.1:0", gone], 2, (), lenient=True)
        assert len(bound.addresses) == 1
        assert f"cannot listen on {gone} (UDP): address in use" in caplog.text
        bound.close()
        with pytest.raises(BindError):
            take_up(["127.0.0.1:0", gone], 2, ())


def test_variables_for_another_process_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b", "HOME": "/"}
    assert from_service_manager(environ) == ()
    assert environ == {"HOME": "/"}
    assert "meant for process 1" in caplog.text
    assert from_service_manager({}) == ()
    with pytest.raises(BindError, match="LISTEN_FDS='two' is not a number"):
        from_service_manager({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "two"})


def passing(sockets: list[int], words: list[str], names: str = "") -> list[str]:
    """A command that executes *words* with *sockets* as a service manager passes them."""
    code = (
        "import os, sys, json; have = [os.dup(fd) for fd in json.loads(sys.argv[1])];"
        "[os.dup2(fd, 3 + at, inheritable=True) for at, fd in enumerate([os.dup2(fd, 100 + at) for at, fd in"
        " enumerate(have)])];"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(have)), LISTEN_FDNAMES=sys.argv[2]);"
        "os.execv(sys.argv[3], sys.argv[3:])"
    )
    return [sys.executable, "-c", code, json.dumps(sockets), names, *words]


TAKE = (
    "import os; from meshdns.transport.inherited import from_service_manager;"
    "print(*from_service_manager(os.environ), [key for key in os.environ if key.startswith('LISTEN')])"
)


@contextmanager
def bad(what: str) -> Iterator[int]:
    if what == "file":
        descriptor = os.open(os.devnull, os.O_RDONLY)
        yield descriptor
        os.close(descriptor)
        return
    if what == "unix":
        each = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    elif what == "silent":
        each = made(TCP, listens=False)
    elif what == "both":
        each = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        each.bind(("::", 0))
    else:
        each = made(UDP)
        each.connect(("127.0.0.1", 9))
    with each:
        yield each.fileno()


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("file", "descriptor 3 (dns), passed by LISTEN_FDS, is no socket"),
        ("unix", "descriptor 3 (dns), passed by LISTEN_FDS, is neither UDP nor TCP: AF_UNIX, SOCK_DGRAM"),
        ("silent", "is a connection of TCP, not a listening socket; the socket unit needs Accept=no"),
        ("both", "(UDP, 'dns') is passed for IPv4 too; the socket unit needs BindIPv6Only=ipv6-only"),
        ("connected", "(UDP, 'dns') is passed connected"),
    ],
)
def test_a_socket_of_the_wrong_kind_is_named(what: str, told: str) -> None:
    with bad(what) as descriptor:
        words = passing([descriptor], [sys.executable, "-c", TAKE], "dns")
        done = subprocess.run(words, pass_fds=[descriptor], capture_output=True, text=True, check=False)
    assert told in done.stderr.splitlines()[-1]


def test_an_instance_serves_on_passed_sockets_and_leaves_them_to_the_next(tmp_path: Path) -> None:
    from tests.processes.load import ask_once
    from tests.processes.stubbed import wait_until

    udp, tcp, address = pair()
    with udp, tcp:
        (tmp_path / "records.yaml").write_text("records:\n  a.mesh: 240.0.0.1\n")
        (tmp_path / "meshdns.yaml").write_text(
            f"listen: ['{address}']\ndrain: 0s\nresponders: 2\n"
            "sources: [{name: extra, type: file, path: records.yaml}]\n"
        )
        words = [sys.executable, "-m", "meshdns", "serve", "--config", str(tmp_path / "meshdns.yaml")]
        log = tmp_path / "log"
        for upgraded in (True, False):  # the second finds the sockets as good as the first
            log.write_text("")
            with (
                log.open("wb") as stderr,
                subprocess.Popen(
                    passing([udp.fileno(), tcp.fileno()], words, "dns:dns"),
                    pass_fds=[udp.fileno(), tcp.fileno()],
                    stderr=stderr,
                    env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
                ) as process,
            ):
                try:
                    wait_until(lambda: b"ready listen=" in log.read_bytes(), "ready")
                    if upgraded:
                        process.send_signal(signal.SIGUSR2)
                        wait_until(lambda: b"upgrade: done" in log.read_bytes(), "upgraded")
                        assert b"LISTEN_" not in Path(f"/proc/{process.pid}/environ").read_bytes()
                    for _ in range(8):  # of either responder
                        assert ask_once(udp.getsockname(), "a.mesh", 20.0)
                    process.send_signal(signal.SIGTERM)
                    assert process.wait(20) == 0
                finally:
                    process.kill()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as early:
            early.sendto(b"waits", udp.getsockname())
            udp.settimeout(5)
            assert udp.recv(100) == b"waits"
