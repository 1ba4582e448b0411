"""UDP by batches (Linux): what has arrived is received, answered and sent with three calls, 64 datagrams at a time.

A datagram that comes alone is received and sent by itself, which takes a third of the time of a batch of one.
The same outside as the listeners of ``udp``, whose tests it passes unchanged. There is no queue of its own: what
overflows is dropped by the kernel, the newest first, at a buffer that is worth a few milliseconds of answering.
"""

import asyncio
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import ip_address
from typing import Any

from meshdns.transport import mmsg
from meshdns.transport.udp import LEFTOVERS, KernelDrops, UdpStatistics, source_only
from meshdns.wire.reply import Reply

log = logging.getLogger(__name__)

BatchHandler = Callable[[Sequence[bytes], Callable[[int], str]], Sequence[Reply]]
"""(queries, i → host of the client that sent the i-th) → for each a reply, somebody who will have it, or None.
It does not wait or raise."""

_AT_ONCE = frozenset((bytes, type(None)))

BATCHES = 2
"""Batches answered before others in the process have their turn."""

FEW = 2
"""Datagrams. After a batch that held no more, the next datagram is expected to come alone."""

LONE = 4
"""Of so many datagrams answered alone one is followed by a look for another: while the turns of others are long, a
queue that is read once in each looks like datagrams that come apart."""

SOON = 50e-6
"""Seconds. A datagram that comes so soon after others were answered has more behind it: they are taken together."""

GATHER = 2e-3
"""Seconds for which the next datagrams are left to gather while a rival works."""

ENOUGH = 16
"""Datagrams in one turn that are worth their wake."""

OFTEN = 5e-3
"""Seconds. Datagrams that come further apart than this have no others to gather with."""


class BatchListener:
    """Answers on a bound socket, whatever address it is bound to.

    crowded: there are more such processes than cores. Under load it then gives way between batches instead of sleeping
    for each: who sleeps is woken by the next datagram, in the middle of another's batch, and all batches stay small.
    rival: tells whether another process needs this core just now. As long as it does, what is asked often waits up to
    ``GATHER`` to be answered together: a wake for each query costs both more than the answers do.
    """

    def __init__(
        self,
        sock: socket.socket,
        handler: BatchHandler,
        *,
        crowded: bool = False,
        rival: Callable[[], bool] | None = None,
    ) -> None:
        self._socket = sock
        self._handler = handler
        self._crowded = crowded
        self._rival = rival
        wildcard = ip_address(sock.getsockname()[0]).is_unspecified
        self._batch = mmsg.Batch(sock.family, control=wildcard)
        self._may_be_alone = not wildcard  # the address that was asked comes with a batch only
        self._is_alone = False
        self._lone = 0
        self._last = 0.0
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
        last, count = self._last, 1
        if self._is_alone and time.perf_counter() - last > SOON:
            self._answer_one()
            self._lone += 1
            if self._lone % LONE == 0:
                self._is_alone = not self._answer_one()
        else:
            count = self._answer_many()
            self._is_alone = count <= FEW and self._may_be_alone
        self._last = time.perf_counter()
        if self._rival is not None and count < ENOUGH and self._last - last < OFTEN and self._rival():
            time.sleep(GATHER)
            self._is_alone = False

    def _answer_many(self) -> int:
        """Answer what waits, as much as is fair to others; give how many datagrams it was."""
        total = 0
        while total < BATCHES * mmsg.SIZE:
            count = self._answer_batch()
            total += count
            if count < mmsg.SIZE:
                if not self._crowded or count <= FEW:
                    break
                os.sched_yield()
        return total

    def _answer_one(self) -> bool:
        """Answer the datagram that waits; tell whether there was one."""
        try:
            query, client = self._socket.recvfrom(mmsg.LARGEST)
        except BlockingIOError:
            return False
        except OSError:  # as for a batch
            self._failed += 1
            return True
        self._received += 1
        try:
            (reply,) = self._handler((query,), lambda _: client[0])
        except Exception:  # as for a batch
            log.exception("the listener on %s lost a query", self._socket.getsockname())
            return True
        if isinstance(reply, bytes):
            self._send_one(client, reply)
        elif reply is not None:
            reply.deliver_to(partial(self._send_one, client))
        return True

    def _send_one(self, client: tuple[Any, ...], reply: bytes) -> None:
        try:
            self._socket.sendto(reply, client)
            self._answered += 1
        except OSError:  # a full buffer, an unreachable client, our end: UDP may lose anything
            self._failed += 1

    def _answer_batch(self) -> int:
        """Answer one batch of what waits; give how many datagrams it was."""
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
        now = replies if _AT_ONCE.issuperset(map(type, replies)) else self._put_off(replies)
        sent = self._batch.send(fd, now)  # type: ignore[arg-type]
        self._answered += sent
        self._failed += count - now.count(None) - sent
        return count

    def _put_off(self, replies: Sequence[Reply]) -> list[bytes | None]:
        """Give the replies that are there; the others are sent one by one when they are."""
        now: list[bytes | None] = []
        for i, reply in enumerate(replies):
            if reply is None or isinstance(reply, bytes):
                now.append(reply)
            else:
                now.append(None)
                reply.deliver_to(partial(self._send_late, source_only(self._batch.control(i)), self._address(i)))
        return now

    def _send_late(self, control: list[tuple[int, int, bytes]], client: tuple[Any, ...], reply: bytes) -> None:
        try:
            self._socket.sendmsg((reply,), control, 0, client)
            self._answered += 1
        except OSError:  # as in _send_one
            self._failed += 1

    def _address(self, i: int) -> tuple[Any, ...]:
        name = self._batch.sender(i)
        port = int.from_bytes(name[2:4], "big")
        if self._v6:
            return self._host(i), port, int.from_bytes(name[4:8], "big"), int.from_bytes(name[24:28], sys.byteorder)
        return self._host(i), port

    def _host(self, i: int) -> str:
        name = self._batch.sender(i)
        if self._v6:
            return socket.inet_ntop(socket.AF_INET6, name[8:24])
        return socket.inet_ntoa(name[4:8])
