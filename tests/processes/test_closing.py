"""Sealed sockets let nobody in and keep who is inside."""

import socket
import threading

import pytest

from meshdns.processes.closing import _seal_connections, seal
from meshdns.transport.sockets import bind

LISTEN = ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"]


def reach(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return {"0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]")), int(port)


@pytest.mark.parametrize("listen", LISTEN)
@pytest.mark.parametrize("responders", [1, 2])
def test_datagrams_inside_are_answered_and_new_ones_refused_at_once(listen: str, responders: int) -> None:
    bound = bind([listen], responders)
    where = reach(bound.addresses[0])
    family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as early, socket.socket(family, socket.SOCK_DGRAM) as late:
        for client in (early, late):
            client.connect(where)
            client.settimeout(5)
        early.send(b"early")
        seal(bound)
        late.send(b"late")
        with pytest.raises(ConnectionRefusedError):
            late.recv(100)
        inside = []
        for row in bound.rows:
            try:
                query, sender = row[0].udp.recvfrom(100)
            except BlockingIOError:
                continue
            inside.append(query)
            row[0].udp.sendto(b"answer", sender)
        assert inside == [b"early"]
        assert early.recv(100) == b"answer"
    bound.close()


def filters_may_be_attached() -> bool:
    """Tell whether this process may attach a filter to a socket of its own: some kernels let only root do it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        try:
            _seal_connections(probe)
        except PermissionError:
            return False
    return True


@pytest.mark.skipif(not filters_may_be_attached(), reason="this kernel lets only root attach socket filters")
@pytest.mark.parametrize("listen", LISTEN)
def test_connections_inside_are_served_and_new_ones_refused_when_it_closes(listen: str) -> None:
    bound = bind([listen])
    where = reach(bound.addresses[0])
    with socket.create_connection(where, timeout=5) as early:
        seal(bound)
        refused: list[OSError] = []

        def come_late() -> None:
            try:
                socket.create_connection(where, timeout=20).close()
            except OSError as fault:
                refused.append(fault)

        late = threading.Thread(target=come_late)
        late.start()
        early.sendall(b"x" * 100_000)
        accepted, _ = bound.rows[0][0].tcp.accept()
        with accepted:
            accepted.settimeout(5)
            count = 0
            while count < 100_000:
                count += len(accepted.recv(65536))
            accepted.sendall(b"answer")
            assert early.recv(100) == b"answer"
            with pytest.raises(BlockingIOError):
                bound.rows[0][0].tcp.accept()
        bound.close()
        late.join()
    assert [type(fault) for fault in refused] == [ConnectionRefusedError]
