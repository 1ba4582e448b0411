"""UDP by batches (Linux): what has arrived is received, answered and sent with three calls, 64 datagrams at a time.

The same outside as the listeners of ``udp``, whose tests it passes unchanged. There is no queue of its own: what
overflows is dropped by the kernel, the newest first, at a buffer that is worth a few milliseconds of answering.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from ipaddress import ip_address

from meshdns.transport import mmsg
from meshdns.transport.udp import LEFTOVERS, KernelDrops, UdpStatistics

log = logging.getLogger(__name__)

BatchHandler = Callable[[Sequence[bytes], Callable[[int], str]], Sequence[bytes | None]]
"""(queries, i → host of the client that sent the i-th) → a reply or None for each. It does not wait or raise."""

BATCHES = 2
"""Batches answered before others in the process have their turn."""


class BatchListener:
    """Answers on a bound socket, whatever address it is bound to."""

    def __init__(self, sock: socket.socket, handler: BatchHandler) -> None:
        self._socket = sock
        self._handler = handler
        self._batch = mmsg.Batch(sock.family, control=ip_address(sock.getsockname()[0]).is_unspecified)
        self._v6 = sock.family == socket.AF_INET6
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
        for _ in range(LEFTOVERS // mmsg.SIZE):
            if not self._answer_batch():
                break
        self._kernel.count()
        self._socket.close()

    def _on_readable(self) -> None:
        for _ in range(BATCHES):
            if self._answer_batch() < mmsg.SIZE:
                break

    def _answer_batch(self) -> int:
        """Answer what waits, at most one batch; give how many datagrams it was."""
        fd = self._socket.fileno()
        try:
            queries = self._batch.receive(fd)
        except OSError:  # an ICMP error about an earlier reply; datagrams are behind it
            self._failed += 1
            return mmsg.SIZE
        if not queries:
            return 0
        count = len(queries)
        self._received += count
        try:
            replies = self._handler(queries, self._host)
        except Exception:  # a batch must not end the listener; a handler that raises is a fault to be seen
            log.exception("the listener on %s lost %d queries", self._socket.getsockname(), count)
            return count
        sent = self._batch.send(fd, replies)
        self._answered += sent
        self._failed += count - replies.count(None) - sent
        return count

    def _host(self, i: int) -> str:
        name = self._batch.sender(i)
        if self._v6:
            return socket.inet_ntop(socket.AF_INET6, name[8:24])
        return socket.inet_ntoa(name[4:8])
