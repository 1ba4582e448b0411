"""UDP, portable: a socket bound to one address through asyncio-dgram, one bound to all through packet info.

A queue that overflows loses its oldest: whoever asked longest ago has asked again or given up.
"""

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import Any, cast

from asyncio_dgram.aio import DatagramServer, Protocol, TransportClosed

from meshdns.transport.sockets import IP_PKTINFO
from meshdns.wire.reply import Reply

log = logging.getLogger(__name__)

Handler = Callable[[bytes, str], Reply]
"""(query, client's host) → reply, or somebody who will have it, or None. It does not wait, and does not raise."""

QUEUE = 1_024
"""Datagrams that wait to be answered."""

TURN = 64
"""Datagrams received, and answered, before others in the process have their turn."""

LARGEST = 65_535
"""Octets of the largest datagram."""

_CONTROL = 128
"""Octets for a datagram's control messages."""

_ANY_INTERFACE = b"\0\0\0\0"

_SO_MEMINFO = 55
"""Linux; nine numbers about a socket's memory, the last of them how many datagrams found it full."""

LEFTOVERS = 4_096
"""Datagrams still answered when a listener closes: more than any receive buffer of ours holds."""


@dataclass(frozen=True, slots=True)
class UdpStatistics:
    """What a listener did. dropped: unread, by its queue or by the kernel's; failed: replies that could not be sent."""

    received: int = 0
    answered: int = 0
    dropped: int = 0
    failed: int = 0


class KernelDrops:
    """Counts the datagrams that the kernel dropped before *sock* because its buffer was full."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._last = 0
        self._before = self._read() or 0  # the socket may have served another process until now

    def count(self) -> int:
        """Give how many so far; once the socket is closed, what it was when this was asked last."""
        now = self._read()
        if now is not None:
            self._last = now - self._before & 0xFFFFFFFF
        return self._last

    def _read(self) -> int | None:
        try:
            numbers = self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 36)
        except OSError:
            return None
        return int(struct.unpack("=9I", numbers)[8]) if len(numbers) == 36 else None


class _LatestQueue(asyncio.Queue[Any]):
    """A queue whose oldest entry makes room for a new one."""

    dropped = 0

    def put_nowait(self, item: Any) -> None:
        if self.full():
            self.get_nowait()
            self.dropped += 1
        super().put_nowait(item)


class _ErrorCount(asyncio.Queue[Any]):
    """Counts errors and keeps none: asyncio-dgram raises a kept one instead of the next send."""

    seen = 0

    def put_nowait(self, item: Any) -> None:
        self.seen += 1


class _BatchProtocol(Protocol):
    """Takes all that waits, up to ``TURN``, where asyncio takes one datagram in a turn of its loop."""

    def __init__(self, sock: socket.socket, queue: _LatestQueue, errors: _ErrorCount, drained: asyncio.Event) -> None:
        super().__init__(queue, errors, drained)
        self._socket = sock

    def datagram_received(self, data: bytes, addr: Any) -> None:
        super().datagram_received(data, addr)
        for _ in range(TURN - 1):
            try:
                data, addr = self._socket.recvfrom(LARGEST)
            except BlockingIOError:
                return
            except OSError as fault:  # an ICMP error about an earlier reply; the next datagram is behind it
                self.error_received(fault)
                continue
            super().datagram_received(data, addr)


class AddressListener:
    """Answers on a socket bound to one address."""

    def __init__(self, sock: socket.socket, handler: Handler, *, queue: int = QUEUE) -> None:
        self._socket = sock
        self._name = sock.getsockname()
        self._handler = handler
        self._queue = _LatestQueue(queue)
        self._errors = _ErrorCount()
        self._kernel = KernelDrops(sock)
        self._received = self._answered = 0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to answer."""
        drained = asyncio.Event()
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _BatchProtocol(self._socket, self._queue, self._errors, drained), sock=self._socket
        )
        self._stream = DatagramServer(cast(Any, transport), self._queue, self._errors, drained)
        self._task = asyncio.create_task(self._serve(), name=f"udp {self._socket.getsockname()}")

    @property
    def statistics(self) -> UdpStatistics:
        """What it did so far."""
        dropped = self._queue.dropped + self._kernel.count()
        return UdpStatistics(self._received, self._answered, dropped, self._errors.seen)

    async def close(self) -> None:
        """Answer what has arrived, then close the socket."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        while not self._queue.empty():
            query, client = self._queue.get_nowait()
            self._answer_last(query, client)
        for _ in range(LEFTOVERS):
            try:
                query, client = self._socket.recvfrom(LARGEST)
            except BlockingIOError:
                break
            except OSError:  # an ICMP error about an earlier reply; the next datagram is behind it
                continue
            self._answer_last(query, client)
        self._kernel.count()
        self._stream.close()
        await asyncio.sleep(0)  # the transport closes the socket in the loop's next turn

    def _answer_last(self, query: bytes, client: tuple[Any, ...]) -> None:
        self._received += 1
        try:
            reply = self._handler(query, client[0])
            if isinstance(reply, bytes):
                self._send(client, reply)
        except Exception:
            log.exception("the listener on %s lost a query", self._name)

    def _send(self, client: tuple[Any, ...], reply: bytes) -> None:
        try:
            self._socket.sendto(reply, client)
            self._answered += 1
        except OSError:  # a full buffer, an unreachable client, our end: UDP may lose anything
            self._errors.put_nowait(None)

    async def _serve(self) -> None:
        turn = 0
        while True:
            try:
                query, client = await self._stream.recv()
                self._received += 1
                address = cast(tuple[Any, ...], client)
                reply = self._handler(query, address[0])
                if isinstance(reply, bytes):
                    await self._stream.send(reply, address)
                    self._answered += 1
                elif reply is not None:
                    reply.deliver_to(partial(self._send, address))
            except TransportClosed:  # close() ends this task before the transport
                log.critical("the listener on %s has ended: nothing is answered there", self._name)
                return
            except Exception:  # one query must not end the listener; a handler that raises is a fault to be seen
                log.exception("the listener on %s lost a query", self._name)
            turn += 1
            if turn % TURN == 0:
                await asyncio.sleep(0)


class WildcardListener:
    """Answers on a socket bound to all addresses: each reply leaves from the address that was asked (RFC 2181 §4)."""

    def __init__(self, sock: socket.socket, handler: Handler) -> None:
        self._socket = sock
        self._name = sock.getsockname()
        self._handler = handler
        self._kernel = KernelDrops(sock)
        self._received = self._answered = self._failed = 0
        self._started = False

    async def start(self) -> None:
        """Begin to answer."""
        asyncio.get_running_loop().add_reader(self._socket, self._on_readable)
        self._started = True

    @property
    def statistics(self) -> UdpStatistics:
        """What it did so far; its only queue is the kernel's."""
        return UdpStatistics(self._received, self._answered, self._kernel.count(), self._failed)

    async def close(self) -> None:
        """Answer what has arrived, then close the socket."""
        if not self._started:
            return
        self._started = False
        asyncio.get_running_loop().remove_reader(self._socket)
        for _ in range(LEFTOVERS):
            if not self._answer_one():
                break
        self._kernel.count()
        self._socket.close()

    def _on_readable(self) -> None:
        for _ in range(TURN):
            if not self._answer_one():
                break

    def _answer_one(self) -> bool:
        """Answer one datagram; tell whether there was one."""
        try:
            query, control, _, client = self._socket.recvmsg(LARGEST, _CONTROL)
        except BlockingIOError:
            return False
        except OSError:  # an ICMP error about an earlier reply; the next datagram is behind it
            self._failed += 1
            return True
        self._received += 1
        try:
            reply = self._handler(query, client[0])
        except Exception:  # one query must not end the listener; a handler that raises is a fault to be seen
            log.exception("the listener on %s lost a query", self._name)
            return True
        if isinstance(reply, bytes):
            self._send(source_only(control), client, reply)
        elif reply is not None:
            reply.deliver_to(partial(self._send, source_only(control), client))
        return True

    def _send(self, control: list[tuple[int, int, bytes]], client: Any, reply: bytes) -> None:
        try:
            self._socket.sendmsg((reply,), control, 0, client)
            self._answered += 1
        except OSError:  # a full buffer, an unreachable client, our end: UDP may lose anything
            self._failed += 1


def source_only(control: Sequence[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """Give the packet info of a query as that of its reply: from the address that was asked, by whatever route.

    With the interface left in, the reply would have to leave where the query came in, past the routing table.
    """
    kept = []
    for level, kind, data in control:
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO:  # interface, local address, address in the header
            kept.append((level, kind, _ANY_INTERFACE + data[4:]))
        elif level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:  # address, interface
            kept.append((level, kind, data[:16] + _ANY_INTERFACE))
    return kept


UdpListener = AddressListener | WildcardListener


def listener(sock: socket.socket, handler: Handler) -> UdpListener:
    """Give the listener that the bound *sock* needs."""
    if ip_address(sock.getsockname()[0]).is_unspecified:
        return WildcardListener(sock, handler)
    return AddressListener(sock, handler)
