"""Clients over TCP that take and give nothing: each is closed in time, while a whole instance forwards."""

import contextlib
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from meshdns.wire.client import make_query
from meshdns.wire.framing import frame
from meshdns.wire.name import to_wire
from tests.scale import LONG, scale
from tests.serving import serving
from tests.upstream.tap import ask, config, tap

COUNT = scale(500)
ORDINARY = "tcp: {idle: 1s, message: 500ms, write: 500ms}"
"""A tenth of the limits that an instance has by itself."""

QUERY = frame(make_query(to_wire("big.mesh"), 1, id=1))

Act = Callable[[socket.socket, int], None]
"""(connection, how often it acted before): what an abuser does now and then."""


def idle(client: socket.socket, times: int) -> None:
    pass


def half(client: socket.socket, times: int) -> None:
    if not times:
        client.send(b"\xff\xff" + bytes(30_000))


def slow(client: socket.socket, times: int) -> None:
    if not times % 10:
        client.send(QUERY[times // 10 % len(QUERY) :][:1])


def greedy(client: socket.socket, times: int) -> None:
    client.send(QUERY * 200)


def sipping(client: socket.socket, times: int) -> None:
    if times % 2:
        client.recv(1)
    else:
        client.send(QUERY * 200)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("act", [idle, half, slow, greedy, sipping])
def test_every_abuser_is_closed_in_time(tmp_path: Path, act: Act) -> None:
    bound = 15.0 if LONG else 7.5  # a tenth, five times over
    with (
        contextlib.ExitStack() as closing,
        tap() as upstream,
        serving(tmp_path, config(f"127.0.0.1:{upstream.port}", extra="" if LONG else ORDINARY)) as instance,
    ):
        began = time.monotonic()
        clients = [
            closing.enter_context(socket.create_connection(("127.0.0.1", instance.port), timeout=5))
            for _ in range(COUNT)
        ]
        poll = select.poll()
        for client in clients:
            client.setblocking(False)
            poll.register(client, select.POLLRDHUP)
        left = {client.fileno(): client for client in clients}
        times = 0
        while left and time.monotonic() - began < bound:
            for client in left.values():
                with contextlib.suppress(OSError):  # full, or closed: the poll below tells which
                    act(client, times)
            times += 1
            for descriptor, _ in poll.poll(100 if LONG else 50):
                poll.unregister(descriptor)
                left.pop(descriptor).close()
        assert not left, f"{len(left)} of {COUNT} were still open after {bound} s"
        assert ask(instance.port, "known.example")[0] is not None
        assert "Traceback" not in instance.logged()
