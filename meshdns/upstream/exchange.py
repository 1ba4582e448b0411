"""One query over UDP: from a port of its own, to one server, until an answer is accepted.

The socket is fresh for each query, bound to a random port and connected, so that an answer is let in only from the
address and port that were asked, to the port that asked (RFC 5452 §9.2); nobody else's datagrams are even seen.
"""

import asyncio
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from asyncio_dgram.aio import DatagramClient, Protocol, TransportClosed

from meshdns.errors import UpstreamError
from meshdns.upstream.settings import Server

ARRIVALS = 64
"""Datagrams of one query that wait to be looked at; a server that sends more is not listened to so closely."""

PORT_TRIES = 8
"""Random ports tried before the kernel chooses one."""

_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def _local_ports() -> range:
    """Give the ports that the machine keeps for clients: nothing else is told to listen there."""
    try:
        low, high = map(int, _PORT_RANGE.read_text().split())
    except (OSError, ValueError):
        low, high = 32_768, 60_999
    return range(low, high + 1)


class _Arrivals(asyncio.Queue[Any]):
    """What came, at most ``ARRIVALS`` of it."""

    def put_nowait(self, item: Any) -> None:
        if not self.full():
            super().put_nowait(item)


class _Faults(asyncio.Queue[Any]):
    """Errors join what came: asyncio-dgram would show them only at the next call, and here is none."""

    def __init__(self, arrivals: _Arrivals) -> None:
        super().__init__()
        self._arrivals = arrivals

    def put_nowait(self, item: Any) -> None:
        self._arrivals.put_nowait((item, None))


class Datagrams:
    """Queries over UDP. ``open`` is how many sockets wait; *most* at once, others are refused."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._ports = _local_ports()
        self.open = 0

    async def ask(self, server: Server, query: bytes, accept: Callable[[bytes], bool]) -> None:
        """Send *query* to *server* and hand to *accept* what comes from it, until that accepts.

        Waits without end: the caller has the patience. Raises UpstreamError when the server cannot be reached.
        """
        if self.open >= self._most:
            raise UpstreamError(f"{server}: {self.open} queries wait for answers already")
        self.open += 1
        try:
            await self._ask(server, query, accept)
        except OSError as fault:
            raise UpstreamError(f"{server}: {fault.strerror or fault}") from None
        except TransportClosed:
            raise UpstreamError(f"{server}: the socket was closed") from None
        finally:
            self.open -= 1

    async def _ask(self, server: Server, query: bytes, accept: Callable[[bytes], bool]) -> None:
        arrivals, drained = _Arrivals(ARRIVALS), asyncio.Event()
        faults = _Faults(arrivals)
        sock = self._connected(server)
        try:
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: Protocol(arrivals, faults, drained), sock=sock
            )
        except BaseException:
            sock.close()
            raise
        stream = DatagramClient(cast(Any, transport), arrivals, faults, drained)
        try:
            await stream.send(query)
            while True:
                came = cast("bytes | OSError", (await stream.recv())[0])
                if isinstance(came, OSError):  # ICMP: the port is closed, the host or network cannot be reached
                    raise came
                if accept(came):
                    return
        finally:
            stream.close()

    def _connected(self, server: Server) -> socket.socket:
        family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            for _ in range(PORT_TRIES):
                try:
                    sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", secrets.choice(self._ports)))
                    break
                except OSError:  # somebody else's; without a bind the kernel chooses, also at random
                    continue
            sock.connect((server.host, server.port))
        except BaseException:
            sock.close()
            raise
        return sock
