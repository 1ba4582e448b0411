"""One query over UDP: from a port of its own, to one server, until an answer is accepted.

The socket is fresh for each query, bound to a random port and connected, so that an answer is let in only from the
address and port that were asked, to the port that asked (RFC 5452 §9.2); nobody else's datagrams are even seen.
asyncio-dgram sends and receives; the transport beneath it is ours, because asyncio's own costs as much for each
socket as everything else that a question takes.
"""

import asyncio
import secrets
import select
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from asyncio_dgram.aio import DatagramClient

from meshdns.errors import UpstreamError
from meshdns.upstream.settings import Server

ARRIVALS = 64
"""Datagrams of one query that wait to be looked at; a server that sends more is not listened to so closely."""

PORT_TRIES = 8
"""Random ports tried before the kernel chooses one."""

LARGEST = 65_535
"""Octets of the largest datagram."""

LOOK = 32
"""Sockets read before others in the process have their turn."""

_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def _local_ports() -> range:
    """Give the ports that the machine keeps for clients: nothing else is told to listen there."""
    try:
        low, high = map(int, _PORT_RANGE.read_text().split())
    except (OSError, ValueError):
        low, high = 32_768, 60_999
    return range(low, high + 1)


class Datagrams:
    """Queries over UDP. ``open`` is how many sockets wait; *most* at once, others are refused."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._ports = _local_ports()
        self._watch = _Watch()
        self.open = 0

    async def ask(self, server: Server, query: bytes, accept: Callable[[bytes], bool]) -> None:
        """Send *query* to *server* and hand to *accept* what comes from it, until that accepts.

        Waits without end: the caller has the patience. Raises UpstreamError when the server cannot be reached.
        """
        if self.open >= self._most:
            raise UpstreamError(f"{server}: {self.open} queries wait for answers already")
        self.open += 1
        try:
            sock: Any = _Socket(self._connected(server), self._watch)
            stream = DatagramClient(sock, sock, _NO_FAULTS, _WRITABLE)
            try:
                await stream.send(query)
                while not accept((await stream.recv())[0]):
                    pass
            finally:
                stream.close()
        except OSError as fault:
            raise UpstreamError(f"{server}: {fault.strerror or fault}") from None
        finally:
            self.open -= 1

    def close(self) -> None:
        """Look at no socket any more."""
        self._watch.close()

    def _connected(self, server: Server) -> socket.socket:
        v6 = ":" in server.host
        sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            for _ in range(PORT_TRIES):
                drawn = int.from_bytes(secrets.token_bytes(4), "big")
                try:
                    sock.bind(("::" if v6 else "0.0.0.0", self._ports[drawn % len(self._ports)]))
                    break
                except OSError:  # somebody else's; without a bind the kernel chooses, also at random
                    continue
            sock.connect((server.host, server.port))
        except BaseException:
            sock.close()
            raise
        return sock


class _Socket:
    """A connected socket as asyncio-dgram wants to see it: its transport, and the queue of what came."""

    __slots__ = ("_came", "_getter", "_socket", "_watch")

    def __init__(self, sock: socket.socket, watch: "_Watch") -> None:
        self._socket = sock
        self._watch = watch
        self._came: list[bytes | OSError] = []
        self._getter: asyncio.Future[None] | None = None
        watch.add(sock.fileno(), self)

    def is_closing(self) -> bool:
        """Tell whether it is closed."""
        return self._socket.fileno() < 0

    def sendto(self, data: bytes, addr: None) -> None:
        """Send *data* to the server; *addr* is for sockets that are not connected."""
        try:
            self._socket.send(data)
        except BlockingIOError:  # the machine's buffers are full: as good as lost on the way
            pass

    async def get(self) -> tuple[bytes, None]:
        """Give the next datagram. Raises OSError for an ICMP error: a closed port, a host or network out of reach."""
        while not self._came:
            self._getter = asyncio.get_running_loop().create_future()
            await self._getter
        came = self._came.pop(0)
        if isinstance(came, OSError):
            raise came
        return came, None

    def read(self) -> None:
        """Take what has come."""
        came: bytes | OSError
        try:
            came = self._socket.recv(LARGEST)
        except BlockingIOError:  # a datagram with a wrong checksum
            return
        except OSError as fault:
            came = fault
        if len(self._came) < ARRIVALS:
            self._came.append(came)
        if self._getter is not None and not self._getter.done():
            self._getter.set_result(None)

    def close(self) -> None:
        """Close it, once or more often."""
        if not self.is_closing():
            self._watch.remove(self._socket.fileno())
            self._socket.close()


class _Watch:
    """The sockets that wait. On Linux all of them are one descriptor to the event loop, which has a call for each."""

    def __init__(self) -> None:
        self._sockets: dict[int, _Socket] = {}
        self._epoll: Any = None

    def add(self, fd: int, sock: _Socket) -> None:
        """Read *sock* when something has come."""
        self._sockets[fd] = sock
        if not hasattr(select, "epoll"):
            asyncio.get_running_loop().add_reader(fd, sock.read)
            return
        if self._epoll is None:
            self._epoll = select.epoll()
            asyncio.get_running_loop().add_reader(self._epoll, self._look)
        self._epoll.register(fd, select.EPOLLIN)

    def remove(self, fd: int) -> None:
        """Forget the socket *fd*, which is closed next."""
        del self._sockets[fd]  # the kernel forgets it with its close
        if not hasattr(select, "epoll"):
            asyncio.get_running_loop().remove_reader(fd)

    def close(self) -> None:
        """Look no more."""
        if self._epoll is not None:
            asyncio.get_running_loop().remove_reader(self._epoll)
            self._epoll.close()
            self._epoll = None

    def _look(self) -> None:
        for fd, _ in self._epoll.poll(0, LOOK):
            self._sockets[fd].read()


class _NoFaults:
    """Where asyncio-dgram looks for errors before each call; ours come in turn with the datagrams."""

    def get_nowait(self) -> NoReturn:
        """Say that there are none."""
        raise asyncio.QueueEmpty


_NO_FAULTS: Any = _NoFaults()
_WRITABLE = asyncio.Event()
_WRITABLE.set()
