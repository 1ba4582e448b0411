"""One query over UDP: from a port of its own, to one server, until an answer is accepted.

The socket is fresh for each query, bound to a random port and connected, so that an answer is let in only from the
address and port that were asked, to the port that asked (RFC 5452 §9.2); nobody else's datagrams are even seen.
Nothing waits in a task or in a queue: a look at all sockets, and each datagram is judged as it is read. asyncio's
transports and tasks cost as much for a socket that is used once as everything else that a question takes.
"""

import asyncio
import os
import select
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asyncio_dgram.aio import Protocol

from meshdns.errors import UpstreamError
from meshdns.upstream.settings import Server

PORT_TRIES = 8
"""Random ports tried before the kernel chooses one."""

LARGEST = 65_535
"""Octets of the largest datagram."""

LOOK = 64
"""Sockets read before others in the process have their turn: some milliseconds of work. More than begin in a turn, so
that answers never wait for questions."""

_WITHOUT_WAITING = socket.SOCK_DGRAM | getattr(socket, "SOCK_NONBLOCK", 0)
_EPOLL = hasattr(select, "epoll")
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

    @property
    def open(self) -> int:
        """How many sockets wait."""
        return len(self._watch)

    def ask(self, server: Server, query: bytes, heard: Callable[[bytes | UpstreamError], None]) -> "Exchange":
        """Send *query* to *server*; *heard* is given what comes from it, or that it cannot be reached.

        Without end: the caller has the patience. Raises UpstreamError when the query cannot be sent.
        """
        if self.open >= self._most:
            raise UpstreamError(f"{server}: {self.open} queries wait for answers already")
        try:
            exchange = Exchange(self._connected(server), server, heard, self._watch)
            exchange.send(query)
        except OSError as fault:
            raise _out_of_reach(server, fault) from None
        return exchange

    def close(self) -> None:
        """Look at no socket any more."""
        self._watch.close()

    def _connected(self, server: Server) -> socket.socket:
        v6 = ":" in server.host
        sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, _WITHOUT_WAITING)
        try:
            if _WITHOUT_WAITING == socket.SOCK_DGRAM:
                sock.setblocking(False)
            for _ in range(PORT_TRIES):
                drawn = int.from_bytes(os.urandom(4), "big")
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


class Exchange:
    """One query that waits on a socket of its own. asyncio-dgram's protocol hands over what comes, as to its queues."""

    __slots__ = ("_heard", "_protocol", "_server", "_socket", "_watch")

    def __init__(
        self, sock: socket.socket, server: Server, heard: Callable[[bytes | UpstreamError], None], watch: "_Watch"
    ) -> None:
        self._socket = sock
        self._server = server
        self._heard: Callable[[bytes | UpstreamError], None] | None = heard
        self._watch = watch
        queue: Any = self
        self._protocol: Protocol | None = Protocol(queue, queue, _WRITABLE)
        watch.add(sock.fileno(), self)

    def send(self, query: bytes) -> None:
        """Send *query*. Raises OSError when that is known at once to be in vain; then the socket is closed."""
        try:
            self._socket.send(query)
        except BlockingIOError:  # the machine's buffers are full: as good as lost on the way
            pass
        except OSError:
            self.cancel()
            raise

    def read(self) -> None:
        """Take what has come."""
        protocol = self._protocol
        if protocol is None:
            return
        try:
            octets = self._socket.recv(LARGEST)
        except BlockingIOError:  # a datagram with a wrong checksum
            return
        except OSError as fault:  # ICMP: the port is closed, the host or network cannot be reached
            protocol.error_received(fault)
        else:
            protocol.datagram_received(octets, self._server[1:3])

    def put_nowait(self, came: tuple[bytes, tuple[str, int]] | OSError) -> None:
        """Take what the protocol makes of it."""
        if self._heard is not None:
            self._heard(_out_of_reach(self._server, came) if isinstance(came, OSError) else came[0])

    def cancel(self) -> None:
        """End the wait, once or more often."""
        if self._protocol is not None:
            self._heard = self._protocol = None
            self._watch.remove(self._socket.fileno())
            self._socket.close()


class _Watch:
    """The sockets that wait. On Linux all of them are one descriptor to the event loop, which has a call for each."""

    def __init__(self) -> None:
        self._waiting: dict[int, Exchange] = {}
        self._epoll: Any = None

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, fd: int, exchange: Exchange) -> None:
        """Let *exchange* read its socket *fd* when something has come."""
        self._waiting[fd] = exchange
        if not _EPOLL:
            asyncio.get_running_loop().add_reader(fd, exchange.read)
            return
        if self._epoll is None:
            self._epoll = select.epoll()
            asyncio.get_running_loop().add_reader(self._epoll, self._look)
        self._epoll.register(fd, select.EPOLLIN)

    def remove(self, fd: int) -> None:
        """Forget the socket *fd*, which is closed next."""
        del self._waiting[fd]  # the kernel forgets it with its close
        if not _EPOLL:
            asyncio.get_running_loop().remove_reader(fd)

    def close(self) -> None:
        """Look no more."""
        if self._epoll is not None:
            asyncio.get_running_loop().remove_reader(self._epoll)
            self._epoll.close()
            self._epoll = None

    def _look(self) -> None:
        for fd, _ in self._epoll.poll(0, LOOK):
            exchange = self._waiting.get(fd)
            if exchange is not None:  # it was not ended by what came to another
                exchange.read()


def _out_of_reach(server: Server, fault: OSError) -> UpstreamError:
    return UpstreamError(f"{server}: {fault.strerror or fault}")


_WRITABLE = asyncio.Event()
"""What is sent once is not held up."""
