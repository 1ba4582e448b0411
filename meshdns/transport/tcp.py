"""TCP: connections of a process, bounded in every way, so that no client can cost another its answer (RFC 7766, 9210).

All connections share one turn: a few messages of each, then everybody else in the process (UDP first of all). What a
client does not read is not written: a connection with a full output is not served on. Connections stand in the order
of their last progress, so the one to be given up at a limit is always the first.
"""

import asyncio
import contextlib
import logging
import socket
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from meshdns.transport.settings import TcpLimits
from meshdns.transport.sockets import BACKLOG
from meshdns.wire.framing import Deframer, frame

log = logging.getLogger(__name__)

Handler = Callable[[bytes, str], bytes | None]
"""(query, client's host) → reply, or None for none. It does not wait, and does not raise."""

OUTPUT = 64 << 10
"""Octets written to a client and not yet read by it; beyond it no further query of that client is answered."""

INPUT = 64 << 10
"""Octets of queries that wait; beyond it the client's socket is not read."""

SHARE = 8
"""Messages of one connection in one turn."""

TURN = 64
"""Messages of all connections in one turn of the event loop."""

ACCEPT_TURN = 16
"""Connections accepted in one turn of the event loop."""

QUIET = 0.1
"""Seconds without a query after which a connection may end while the process drains: nothing is on its way then."""

JOINED = 16 << 10
"""Octets of replies that are written together."""

SWEEP = 0.5
"""Seconds between looks at who has idled, dawdled or not read for too long."""


@dataclass(frozen=True, slots=True)
class TcpStatistics:
    """What the connections of a process did. evicted: given up for a newer one; expired: by a timeout."""

    open: int = 0
    accepted: int = 0
    queries: int = 0
    evicted: int = 0
    expired: int = 0


class TcpServer:
    """Every TCP connection of a process, whatever listener it came by."""

    def __init__(self, limits: TcpLimits) -> None:
        self.limits = limits
        self._servers: list[asyncio.Server] = []
        self._connections: dict[_Connection, None] = {}
        self._per_source: Counter[str] = Counter()
        self._ready: deque[_Connection] = deque()
        self._turning = False
        self._draining = False
        self._sweeper: asyncio.Task[None] | None = None
        self._accepted = self._queries = self._evicted = self._expired = 0

    @property
    def statistics(self) -> TcpStatistics:
        """What happened so far."""
        return TcpStatistics(len(self._connections), self._accepted, self._queries, self._evicted, self._expired)

    async def listen(self, sock: socket.socket, handler: Handler) -> None:
        """Accept on the bound and listening *sock*, and answer by *handler*."""
        loop = asyncio.get_running_loop()
        # asyncio accepts as many in a row as its backlog says; the kernel's own is set again behind it.
        self._servers.append(
            await loop.create_server(lambda: _Connection(self, handler), sock=sock, backlog=ACCEPT_TURN)
        )
        sock.listen(BACKLOG)
        if self._sweeper is None:
            self._sweeper = loop.create_task(self._sweep(), name="tcp sweeper")

    def stop_listening(self) -> None:
        """Close the listening sockets; each connection ends behind its next answer, or when it is quiet."""
        self._draining = True
        for server in self._servers:
            server.close()
        for connection in self._connections:
            connection.finish()

    async def wait_finished(self, patience: float) -> None:
        """Wait until every connection has ended, at most *patience* seconds; cut what is left then."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        while self._connections and loop.time() < deadline:
            for connection in list(self._connections):
                connection.end_if_quiet(loop.time())
            await asyncio.sleep(QUIET / 5)
        for connection in list(self._connections):
            connection.cut()
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
            self._sweeper = None

    def opened(self, connection: "_Connection") -> None:
        """Take *connection* in; at a limit the one that made no progress for longest is cut."""
        self._accepted += 1
        if self._per_source[connection.host] >= self.limits.per_source:
            self._evict(next(each for each in self._connections if each.host == connection.host))
        if len(self._connections) >= self.limits.connections:
            self._evict(next(iter(self._connections)))
        self._connections[connection] = None
        self._per_source[connection.host] += 1
        if self._draining:
            connection.finish()

    def _evict(self, connection: "_Connection") -> None:
        self._evicted += 1
        connection.cut()
        self.closed(connection)

    def closed(self, connection: "_Connection") -> None:
        """Forget *connection*; nothing happens when it is forgotten already."""
        if connection in self._connections:
            del self._connections[connection]
            self._per_source[connection.host] -= 1
            if not self._per_source[connection.host]:
                del self._per_source[connection.host]

    def progressed(self, connection: "_Connection") -> None:
        """Put *connection* last in the order of who is given up."""
        if connection in self._connections:
            del self._connections[connection]
            self._connections[connection] = None

    def wants_turn(self, connection: "_Connection") -> None:
        """Serve *connection* in one of the next turns."""
        self._ready.append(connection)
        if not self._turning:
            self._turning = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        served = 0
        while self._ready and served < TURN:
            count = self._ready.popleft().serve(SHARE)
            served += max(1, count)
            self._queries += count
        self._turning = bool(self._ready)
        if self._turning:
            asyncio.get_running_loop().call_soon(self._turn)

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP)
            now = loop.time()
            for connection in list(self._connections):
                if connection.is_overdue(now):
                    self._expired += 1
                    connection.cut()


class _Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, server: TcpServer, handler: Handler) -> None:
        self._server = server
        self._handler = handler
        self._deframer = Deframer()
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self.host = ""
        self._last_query = self._message_began = self._write_began = 0.0
        self._full = False
        self._queued = False
        self._ending = False
        self._reading = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=OUTPUT, low=OUTPUT // 4)
        peer = transport.get_extra_info("peername")
        if not peer:  # reset before it was accepted
            transport.abort()
            return
        self.host = peer[0]
        self._last_query = self._loop.time()
        self._server.opened(self)

    def data_received(self, data: bytes) -> None:
        if not self._deframer.buffered:
            self._message_began = self._loop.time()
        self._deframer.feed(data)
        self._schedule()
        if self._reading and self._deframer.buffered > INPUT:
            self._reading = False
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Answer what came before the client's FIN (RFC 7766 §6.2.4), then close."""
        self._ending = True
        if not self._deframer.has_message:
            return False
        self._schedule()
        return True

    def pause_writing(self) -> None:
        self._full = True
        self._write_began = self._loop.time()

    def resume_writing(self) -> None:
        self._full = False
        self._server.progressed(self)
        self._schedule()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ending = True
        self._deframer = Deframer()
        self._server.closed(self)

    def serve(self, most: int) -> int:
        """Answer at most *most* messages; give how many."""
        self._queued = False
        count = size = 0
        replies: list[bytes] = []
        while count < most and not self._full and not self._transport.is_closing():
            message = next(iter(self._deframer.take(1)), None)
            if message is None:
                break
            count += 1
            try:
                reply = self._handler(message, self.host)
            except Exception:  # one query must not end the process' TCP; a handler that raises is a fault to be seen
                log.exception("a query of %s over TCP was lost", self.host)
                continue
            if reply is not None:
                replies.append(frame(reply))
                size += len(reply)
                if size >= JOINED:
                    self._transport.write(b"".join(replies))
                    replies, size = [], 0
        if replies:
            self._transport.write(b"".join(replies))
        if count:
            self._last_query = self._message_began = self._loop.time()
            self._server.progressed(self)
        if self._transport.is_closing():
            return count
        if not self._reading and self._deframer.buffered <= INPUT:
            self._reading = True
            self._transport.resume_reading()
        self._schedule()
        if self._ending and not self._deframer.has_message:
            self._transport.close()
        return count

    def _schedule(self) -> None:
        if not self._queued and not self._full and self._deframer.has_message and not self._transport.is_closing():
            self._queued = True
            self._server.wants_turn(self)

    def is_overdue(self, now: float) -> bool:
        """Tell whether the client idled, dawdled or did not read for too long at *now*."""
        limits = self._server.limits
        if self._full:
            return now - self._write_began >= limits.write
        if self._transport.is_closing():  # flushing to a client that must read within the same time
            return now - self._last_query >= limits.write
        if self._deframer.has_message:
            return False
        if self._deframer.buffered:
            return now - self._message_began >= limits.message
        return now - self._last_query >= limits.idle

    def finish(self) -> None:
        """End behind the next answer, or when :meth:`end_if_quiet` finds nothing on its way."""
        self._ending = True

    def end_if_quiet(self, now: float) -> None:
        """Close when nothing was begun and no query came for ``QUIET`` seconds before *now*."""
        if not self._deframer.buffered and not self._full and now - self._last_query >= QUIET:
            self._transport.close()

    def cut(self) -> None:
        """End at once."""
        with contextlib.suppress(OSError):
            self._transport.abort()
