"""TCP: connections of a process, bounded in every way, so that no client can cost another its answer (RFC 7766, 9210).

All connections share one turn: a few messages of each, then everybody else in the process (UDP first of all). What a
client does not read is not written: a connection with a full output is not served on. Connections stand in the order
of their last progress, so the one to be given up at a limit is always the first.

Connections are not asyncio's: its loop calls every ready socket before it looks at UDP again, and a thousand clients
that send without end are ready at every look. They are watched by a selector of their own, which counts as one
descriptor in the loop, and a few of them are attended to at each turn.
"""

import asyncio
import errno
import logging
import selectors
import socket
from collections import Counter, deque
from collections.abc import Collection
from dataclasses import dataclass

from meshdns.transport.settings import TcpLimits
from meshdns.transport.sockets import BACKLOG
from meshdns.transport.tcp_connection import QUIET, READ, Connection, Handler

log = logging.getLogger(__name__)

SHARE = 8
LEAST = 2
"""Messages of one connection in one turn: fewer when many want one, so that a newcomer waits for few of each."""

TURN = 8
"""Messages of all connections in one turn of the event loop."""

EVENTS = 8
"""Connections read from or written to in one turn of the event loop."""

ACCEPT_TURN = 4
"""Connections accepted in one turn of the event loop."""

ACCEPT_PAUSE = 0.1
"""Seconds without accepting when the machine is short of something: a socket that stays readable would spin."""

SPARE = 16
"""Descriptors left to the rest of the process once they have been found short."""

SHORTAGE = 60.0
"""Seconds for which fewer connections are kept after descriptors ran out."""

GRACE = 1.0
"""Seconds within which a new connection's first query may be on its way."""

SWEEP = 0.5
"""Seconds between looks at who has idled, dawdled or not read for too long."""

_DEAD_BEFORE = (errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EINTR)
"""accept(2): one connection died while it waited; the next is behind it."""

_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


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
        self._connections: dict[Connection, None] = {}
        self._per_source: Counter[str] = Counter()
        self._selector = selectors.DefaultSelector()
        self._events: deque[tuple[Connection, int]] = deque()
        self._ready: deque[Connection] = deque()
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
        if self._sweeper is None:
            loop = asyncio.get_running_loop()
            loop.add_reader(self._selector, self._attend)
            self._sweeper = loop.create_task(self._sweep(), name="tcp sweeper")
        self._acceptors.append(_Acceptor(self, sock, handler))

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
        while self._connections and loop.time() < deadline:
            for connection in list(self._connections):
                connection.end_if_quiet(loop.time())
            await asyncio.sleep(QUIET / 5)
        for connection in list(self._connections):
            connection.cut()
        if self._sweeper is not None:
            loop.remove_reader(self._selector)
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
            self._sweeper = None
        self._selector.close()

    def take_in(self, sock: socket.socket, host: str, handler: Handler) -> None:
        """Serve the accepted *sock* of the client at *host*; at a limit another is cut: see :func:`_victim`."""
        connection = Connection(self, sock, host, handler)
        self._accepted += 1
        if self._per_source[host] >= self.limits.per_source:
            self._evict(_victim([each for each in self._connections if each.host == host]))
        while len(self._connections) >= self._room:
            self._evict(_victim(self._connections))
        self._connections[connection] = None
        self._per_source[host] += 1
        connection.start()
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

    def _evict(self, connection: Connection) -> None:
        self._evicted += 1
        connection.cut()

    def closed(self, connection: Connection) -> None:
        """Forget *connection*."""
        del self._connections[connection]
        self._per_source[connection.host] -= 1
        if not self._per_source[connection.host]:
            del self._per_source[connection.host]

    def progressed(self, connection: Connection) -> None:
        """Put *connection* last in the order of who is given up."""
        del self._connections[connection]
        self._connections[connection] = None

    def watch(self, connection: Connection, sock: socket.socket, before: int, events: int) -> None:
        """Have :meth:`Connection.attend` called at *events* of *sock*, no longer at those of *before*."""
        if not events:
            self._selector.unregister(sock)
        elif before:
            self._selector.modify(sock, events, connection)
        else:
            self._selector.register(sock, events, connection)

    def wants_turn(self, connection: Connection) -> None:
        """Serve *connection* in one of the next turns."""
        self._ready.append(connection)
        if not self._turning:
            self._turning = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _attend(self) -> None:
        """Read from and write to a few of the sockets that are ready; the others are still ready at the next turn."""
        events = self._events
        if not events:
            events.extend((key.data, mask) for key, mask in self._selector.select(0))
        awaits_turn, self._turning = self._turning, True
        try:
            for _ in range(min(EVENTS, len(events))):
                connection, mask = events.popleft()
                connection.attend(mask)
        finally:
            if not awaits_turn:  # what has just come is served at once
                self._turn()

    def _turn(self) -> None:
        served = 0
        share = min(SHARE, max(LEAST, TURN // max(1, len(self._ready))))
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


def _victim(connections: Collection[Connection]) -> Connection:
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
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted connections inherit it
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
        if self._pause is not None:
            self._pause.cancel()
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
        self._server.take_in(made, peer[0], self._handler)
        return True

    def _go_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self._socket, self._on_readable)
