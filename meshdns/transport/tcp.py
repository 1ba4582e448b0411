"""TCP: connections of a process, bounded in every way, so that no client can cost another its answer (RFC 7766, 9210).

All connections share one turn: a few messages of each, then everybody else in the process (UDP first of all). What a
client does not read is not written: a connection with a full output is not served on. Connections stand in the order
of their last progress, so the one to be given up at a limit is always the first.
"""

import asyncio
import errno
import logging
import socket
import struct
from collections import Counter, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

from meshdns.transport.settings import TcpLimits
from meshdns.transport.sockets import BACKLOG
from meshdns.wire.framing import Deframer, frame
from meshdns.wire.reply import Reply

log = logging.getLogger(__name__)

Handler = Callable[[bytes, str], Reply]
"""(query, client's host) → reply, or somebody who will have it, or None. It does not wait, and does not raise."""

OUTPUT = 32 << 10
"""Octets written to a client and not yet read by it; beyond it no further query of that client is answered."""

READ = 16 << 10
"""Octets read of one client at once; while whole queries of it wait its socket is not read."""

SHARE = 16
LEAST = 2
"""Messages of one connection in one turn: fewer when many want one, so that a newcomer waits for few of each."""

TURN = 32
"""Messages of all connections in one turn of the event loop."""

ACCEPT_TURN = 8
"""Connections accepted in one turn of the event loop."""

ACCEPT_PAUSE = 0.1
"""Seconds without accepting when the machine is short of something: a socket that stays readable would spin."""

SPARE = 16
"""Descriptors left to the rest of the process once they have been found short."""

SHORTAGE = 60.0
"""Seconds for which fewer connections are kept after descriptors ran out."""

QUIET = 0.1
"""Seconds without a query after which a connection may end while the process drains: nothing is on its way then."""

AWAITED = 64
"""Replies of one connection that are awaited from others; beyond it no further query of that client is looked at."""

JOINED = 16 << 10
"""Octets of replies that are written together."""

GRACE = 1.0
"""Seconds within which a new connection's first query may be on its way."""

SWEEP = 0.5
"""Seconds between looks at who has idled, dawdled or not read for too long."""

_DEAD_BEFORE = (errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EINTR)
"""accept(2): one connection died while it waited; the next is behind it."""

_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: nothing of what the client did not read stays in the kernel."""


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
        self._acceptors: list[_Acceptor] = []
        self._connections: dict[_Connection, None] = {}
        self._per_source: Counter[str] = Counter()
        self._ready: deque[_Connection] = deque()
        self._turning = False
        self._draining = False
        self._sweeper: asyncio.Task[None] | None = None
        self._room = limits.connections
        self.space = memoryview(bytearray(READ))
        """Where octets are received, of one connection after the other."""
        self._short_until = 0.0
        self._accepted = self._queries = self._evicted = self._expired = 0

    @property
    def statistics(self) -> TcpStatistics:
        """What happened so far."""
        return TcpStatistics(len(self._connections), self._accepted, self._queries, self._evicted, self._expired)

    async def listen(self, sock: socket.socket, handler: Handler) -> None:
        """Accept on the bound and listening *sock*, and answer by *handler*."""
        self._acceptors.append(_Acceptor(self, sock, handler))
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep(), name="tcp sweeper")

    def stop_listening(self) -> None:
        """Take what waits to be accepted and accept no more; a connection ends after its next answer, or when quiet."""
        self._draining = True
        for acceptor in self._acceptors:
            acceptor.close()
        for connection in self._connections:
            connection.finish()

    async def wait_finished(self, patience: float) -> None:
        """Wait until every connection has ended, at most *patience* seconds; cut what is left then."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        while (self._connections or any(each.taking for each in self._acceptors)) and loop.time() < deadline:
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
        """Take *connection* in; at a limit another is cut: see :func:`_victim`."""
        self._accepted += 1
        if self._per_source[connection.host] >= self.limits.per_source:
            self._evict(_victim([each for each in self._connections if each.host == connection.host]))
        while len(self._connections) >= self._room:
            self._evict(_victim(self._connections))
        self._connections[connection] = None
        self._per_source[connection.host] += 1
        if self._draining:
            connection.finish()

    def run_short(self, fault: OSError) -> None:
        """Keep fewer connections for a while, because there were no descriptors or memory for another."""
        self._room = max(1, min(self._room, len(self._connections)) - SPARE)
        self._short_until = asyncio.get_running_loop().time() + SHORTAGE
        log.warning(
            "no further TCP connection can be accepted (%s): at most %d are kept for %d s", fault, self._room, SHORTAGE
        )
        while len(self._connections) > self._room:
            self._evict(_victim(self._connections))

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
        share = min(SHARE, max(LEAST, TURN // len(self._ready)))
        try:
            while self._ready and served < TURN:
                count = self._ready.popleft().serve(share)
                served += max(1, count)
                self._queries += count
        finally:  # whatever happens to one connection, the others have their turn
            self._turning = bool(self._ready)
            if self._turning:
                asyncio.get_running_loop().call_soon(self._turn)

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP)
            now = loop.time()
            if now >= self._short_until:
                self._room = self.limits.connections
            for connection in list(self._connections):
                if connection.is_overdue(now):
                    self._expired += 1
                    connection.cut()


def _victim(connections: Collection["_Connection"]) -> "_Connection":
    """Give whom to cut of *connections* (least progress first).

    Who does not read; else who asks nothing, but not one that has just come, whose query is on its way; else who was
    served most. A query that waits for its turn waits for us, and is not to be punished for it.
    """
    now = asyncio.get_running_loop().time()
    idle = None
    for each in connections:
        if each.is_full:
            return each
        if idle is None and not each.is_queued and (each.served or now - each.opened >= GRACE):
            idle = each
    return idle or max(connections, key=lambda each: each.served)


class _Acceptor:
    """Accepts on one listening socket, a few connections a turn.

    Not asyncio's own server: short of descriptors that one throws them all away with a traceback each, every second,
    and when it closes, what waits in the backlog is reset with its query unread.
    """

    def __init__(self, server: TcpServer, sock: socket.socket, handler: Handler) -> None:
        self._server = server
        self._socket = sock
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self.taking: set[asyncio.Task[None]] = set()
        """Connections accepted and not yet in the server's care."""
        self._loop.add_reader(sock, self._on_readable)

    def close(self) -> None:
        """Take what waits, then close."""
        if self._socket.fileno() < 0:
            return
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._socket)
        for _ in range(BACKLOG):
            if not self._accept():
                break
        self._socket.close()

    def _on_readable(self) -> None:
        for _ in range(ACCEPT_TURN):
            if not self._accept():
                break

    def _accept(self) -> bool:
        """Accept one connection; tell whether there may be another."""
        try:
            made, peer = self._socket.accept()
        except BlockingIOError:
            return False
        except OSError as fault:
            if fault.errno in _DEAD_BEFORE:
                return True
            if fault.errno in _SHORT:
                self._server.run_short(fault)
            else:
                log.error("accepting on %s: %s", self._socket.getsockname(), fault)
            self._loop.remove_reader(self._socket)
            self._pause = self._loop.call_later(ACCEPT_PAUSE, self._go_on)
            return False
        made.setblocking(False)
        task = self._loop.create_task(self._take(made, peer[0]))
        self.taking.add(task)
        task.add_done_callback(self.taking.discard)
        return True

    def _go_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self._socket, self._on_readable)

    async def _take(self, made: socket.socket, host: str) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: _Connection(self._server, self._handler, host), made)
        except OSError as fault:
            log.debug("a connection of %s ended before it began: %s", host, fault)
            made.close()


class _Connection(asyncio.BufferedProtocol):
    """One client's connection. host: the client's address."""

    def __init__(self, server: TcpServer, handler: Handler, host: str) -> None:
        self._server = server
        self._handler = handler
        self._deframer = Deframer()
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self.host = host
        self._last_query = self._message_began = self._write_began = 0.0
        self.is_full = False
        self.is_queued = False
        self.served = 0
        self.opened = 0.0
        self._awaited = 0
        self._shut = False
        self._finishing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=OUTPUT, low=OUTPUT // 4)
        self._last_query = self.opened = self._loop.time()
        self._server.opened(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._server.space

    def buffer_updated(self, nbytes: int) -> None:
        if not self._deframer.buffered:
            self._message_began = self._loop.time()
        self._deframer.feed(self._server.space[:nbytes])
        if self.is_queued or self.is_full:  # it sends faster than it is served, or than it reads
            self._transport.pause_reading()
        self._schedule()

    def eof_received(self) -> bool:
        """Answer what came before the client's FIN (RFC 7766 §6.2.4), then close."""
        self._shut = True
        if not self._deframer.has_message and not self._awaited:
            return False
        self._schedule()
        return True

    def pause_writing(self) -> None:
        self.is_full = True
        self._write_began = self._loop.time()

    def resume_writing(self) -> None:
        self.is_full = False
        self._server.progressed(self)
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self._deframer = Deframer()
        self._server.closed(self)

    def serve(self, most: int) -> int:
        """Answer at most *most* messages; give how many."""
        self.is_queued = False
        count = size = 0
        replies: list[bytes] = []
        while count < most and self._awaited < AWAITED and not self.is_full and not self._transport.is_closing():
            message = next(iter(self._deframer.take(1)), None)
            if message is None:
                break
            count += 1
            try:
                reply = self._handler(message, self.host)
                framed = b""
                if isinstance(reply, bytes):
                    framed = frame(reply)
                elif reply is not None:
                    self._awaited += 1
                    reply.deliver_to(self._send_late)
            except Exception:  # one query must not end the process' TCP; a handler that raises is a fault to be seen
                log.exception("a query of %s over TCP was lost", self.host)
                continue
            if framed:
                replies.append(framed)
                size += len(framed)
                if size >= JOINED:
                    self._transport.write(b"".join(replies))
                    replies, size = [], 0
        if replies:
            self._transport.write(b"".join(replies))
        self.served += count
        if count:
            self._last_query = self._message_began = self._loop.time()
            self._server.progressed(self)
        self._go_on()
        return count

    def _send_late(self, reply: bytes) -> None:
        """Send what had to be awaited; later queries may have been answered before (RFC 7766 §7)."""
        self._awaited -= 1
        if self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size() > 2 * OUTPUT:  # it asks for much, and reads nothing
            self.cut()
            return
        self._transport.write(frame(reply))
        self._last_query = self._loop.time()
        self._server.progressed(self)
        if not self.is_queued and not self.is_full:
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Serve what waits in a later turn, else read, else end."""
        if self._transport.is_closing():
            return
        if self._deframer.has_message:
            self._transport.pause_reading()
            self._schedule()
        elif self._awaited:
            if not self._shut:
                self._transport.resume_reading()
        elif self._shut or (self._finishing and not self._deframer.buffered):
            self._transport.close()
        else:
            self._transport.resume_reading()

    def _schedule(self) -> None:
        if self.is_queued or self.is_full or self._awaited >= AWAITED:
            return
        if self._deframer.has_message and not self._transport.is_closing():
            self.is_queued = True
            self._server.wants_turn(self)

    def is_overdue(self, now: float) -> bool:
        """Tell whether the client idled, dawdled or did not read for too long at *now*."""
        limits = self._server.limits
        if self.is_full:
            return now - self._write_began >= limits.write
        if self._transport.is_closing():  # flushing to a client that must read within the same time
            return now - self._last_query >= limits.write
        if self._deframer.has_message or self._awaited:
            return False
        if self._deframer.buffered:
            return now - self._message_began >= limits.message
        return now - self._last_query >= limits.idle

    def finish(self) -> None:
        """End behind the next answer, or when :meth:`end_if_quiet` finds nothing on its way."""
        self._finishing = True

    def end_if_quiet(self, now: float) -> None:
        """Close when nothing was begun and no query came for ``QUIET`` seconds before *now*."""
        if self._deframer.buffered or self._awaited or self.is_full:
            return
        if now - self._last_query >= QUIET:
            self._transport.close()

    def cut(self) -> None:
        """End at once."""
        if self.is_full:
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()
