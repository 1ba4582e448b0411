"""One client's TCP connection: octets in, messages answered a few at a time, no more kept than it reads."""

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Sequence
from selectors import EVENT_READ, EVENT_WRITE
from typing import Protocol

from meshdns.transport.settings import TcpLimits
from meshdns.wire.framing import Deframer, frame
from meshdns.wire.reply import Reply

log = logging.getLogger(__name__)

Handler = Callable[[Sequence[bytes], str], Sequence[Reply]]
"""(queries, client's host) → for each a reply, or somebody who will have it, or None. It does not wait or raise."""

OUTPUT = 16 << 10
"""Octets written to a client and not yet read by it; beyond it no further query of that client is answered."""

READ = 8 << 10
"""Octets read of one client at once; while whole queries of it wait its socket is not read."""

AWAITED = 64
"""Replies of one connection that are awaited from others; beyond it no further query of that client is looked at."""

LARGE = 4 << 10
"""Octets. A client that was sent so much in one reply is served one query at a time, so as not to overshoot OUTPUT."""

QUIET = 0.1
"""Seconds without a query after which a connection may end while the process drains: nothing is on its way then."""

FIRST = 1.0
"""Seconds for the first query of a connection: who has just connected is about to ask, however slow it is."""

FAREWELL = 0.3
"""Seconds for which a connection that we end is still read: a socket closed with octets unread is reset, and what was
answered before may then never reach the client."""

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: nothing of what the client did not read stays in the kernel."""


class Server(Protocol):
    """What a connection needs of who holds it. space: where octets are received, of one after the other."""

    limits: TcpLimits
    space: memoryview

    def closed(self, connection: "Connection", /) -> None:
        """Forget it: its socket is closed."""

    def progressed(self, connection: "Connection", /) -> None:
        """Put it last among those to be given up at a limit."""

    def wants_turn(self, connection: "Connection", /) -> None:
        """Call its ``serve`` soon."""

    def watch(self, connection: "Connection", sock: socket.socket, before: int, events: int, /) -> None:
        """Call its ``attend`` at *events* of *sock*, no longer at those of *before*."""


class Connection:
    """One client's connection. host: the client's address; sock: accepted from it.

    is_full: it does not read what it asked for. is_queued: it waits for its turn. served: messages so far.
    opened: when it was accepted (loop time).
    """

    __slots__ = (
        "_awaited",
        "_closed",
        "_deframer",
        "_ending",
        "_events",
        "_farewell",
        "_finishing",
        "_handler",
        "_large",
        "_last_query",
        "_loop",
        "_message_began",
        "_output",
        "_reads",
        "_server",
        "_shut",
        "_socket",
        "_write_began",
        "host",
        "is_full",
        "is_queued",
        "opened",
        "served",
    )

    def __init__(self, server: Server, sock: socket.socket, host: str, handler: Handler) -> None:
        self._server = server
        self._socket = sock
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self._deframer = Deframer()
        self._output = bytearray()
        self.host = host
        self.is_full = self.is_queued = False
        self.served = self._awaited = self._events = 0
        self.opened = self._last_query = self._loop.time()
        self._message_began = self._write_began = 0.0
        self._farewell: float | None = None
        self._reads = True
        self._large = self._shut = self._finishing = self._ending = self._closed = False

    @property
    def buffered(self) -> int:
        """Octets received of it that were not answered yet."""
        return self._deframer.buffered

    def start(self) -> None:
        """Begin to read."""
        self._socket.setblocking(False)
        self._watch()

    def attend(self, events: int) -> None:
        """Read, or write, now that the socket is ready for it."""
        if events & EVENT_WRITE and self._output:
            self._flush()
        if events & EVENT_READ and self._reads and not self._closed:
            self._receive()

    def _watch(self) -> None:
        """Say what is waited for by now."""
        wanted = (EVENT_READ if self._reads else 0) | (EVENT_WRITE if self._output else 0)
        if wanted != self._events and not self._closed:
            self._server.watch(self, self._socket, self._events, wanted)
            self._events = wanted

    def _receive(self) -> None:
        try:
            count = self._socket.recv_into(self._server.space)
        except BlockingIOError:
            return
        except OSError:
            self._drop()
            return
        if not count:
            self._on_shut()
        elif not self._ending:
            if not self._deframer.buffered:
                self._message_began = self._loop.time()
            self._deframer.feed(self._server.space[:count])
            if self.is_queued or self.is_full:  # it sends faster than it is served, or than it reads
                self._reads = False
                self._watch()
            self._schedule()

    def _on_shut(self) -> None:
        """Answer what came before the client's FIN (RFC 7766 §6.2.4), then close."""
        self._shut = True
        self._reads = False
        if self._ending and not self._output:
            self._drop()
        elif self._deframer.has_message or self._awaited:
            self._watch()
            self._schedule()
        else:
            self._close()

    def serve(self, most: int) -> int:
        """Answer at most *most* messages; give how many."""
        self.is_queued = False
        if self.is_full or self._ending:
            return 0
        messages = self._deframer.take(1 if self._large else min(most, AWAITED - self._awaited))
        replies: Sequence[Reply] = ()
        try:
            if messages:
                replies = self._handler(messages, self.host)
        except Exception:  # one client must not end the process' TCP; a handler that raises is a fault to be seen
            log.exception("%d queries of %s over TCP were lost", len(messages), self.host)
        octets = b"".join([self._framed(reply) for reply in replies])
        if octets:
            self._write(octets)
        count = len(messages)
        if count and not self._closed:
            self.served += count
            self._last_query = self._message_began = self._loop.time()
            self._server.progressed(self)
        self._go_on()
        return count

    def _framed(self, reply: Reply) -> bytes:
        """Give what is to be sent now."""
        if isinstance(reply, bytes):
            if len(reply) >= LARGE:
                self._large = True
            try:
                return frame(reply)
            except OverflowError:
                log.error("a reply of %d octets to %s over TCP was lost: it is too long", len(reply), self.host)
        elif reply is not None:
            self._awaited += 1
            reply.deliver_to(self._send_late)
        return b""

    def _send_late(self, reply: bytes) -> None:
        """Send what had to be awaited; later queries may have been answered before (RFC 7766 §7)."""
        self._awaited -= 1
        if self._ending:
            return
        if len(self._output) > 2 * OUTPUT:  # it asks for much, and reads nothing
            self.cut()
            return
        self._write(frame(reply))
        if self._closed:
            return
        self._last_query = self._loop.time()
        self._server.progressed(self)
        if not self.is_queued and not self.is_full:
            self._loop.call_soon(self._go_on)

    def _write(self, octets: bytes) -> None:
        """Send what the kernel takes at once, and keep the rest."""
        if self._closed:
            return
        if not self._output:
            try:
                sent = self._socket.send(octets)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._drop()
                return
            if sent == len(octets):
                return
            octets = octets[sent:]
        self._output += octets
        if not self.is_full and len(self._output) > OUTPUT:
            self.is_full = True
            self._write_began = self._loop.time()
        self._watch()

    def _flush(self) -> None:
        try:
            sent = self._socket.send(self._output)
        except BlockingIOError:
            return
        except OSError:
            self._drop()
            return
        del self._output[:sent]
        if self._output:
            if self.is_full and len(self._output) <= OUTPUT // 4:
                self._resume()
        elif self._ending:
            self._bid_farewell()
        else:
            self._watch()
            if self.is_full:
                self._resume()

    def _resume(self) -> None:
        self.is_full = False
        self._server.progressed(self)
        self._go_on()

    def _go_on(self) -> None:
        """Serve what waits in a later turn, else read, else end."""
        if self._ending:
            return
        if self._deframer.has_message:
            self._reads = False
            self._schedule()
        elif self._awaited:
            self._reads = not self._shut
        elif self._shut or (self._finishing and not self._deframer.buffered):
            self._close()
            return
        else:
            self._reads = True
        self._watch()

    def _schedule(self) -> None:
        if self.is_queued or self.is_full or self._awaited >= AWAITED:
            return
        if self._deframer.has_message and not self._ending:
            self.is_queued = True
            self._server.wants_turn(self)

    def is_overdue(self, now: float) -> bool:
        """Tell whether the client idled, dawdled or did not read for too long at *now*."""
        limits = self._server.limits
        if self._farewell is not None:
            return now - self._farewell >= FAREWELL
        if self.is_full:
            return now - self._write_began >= limits.write
        if self._ending:  # flushing to a client that must read within the same time
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
        """Close when nothing was begun and no query came for ``QUIET`` seconds before *now*.

        A first query may take ``FIRST`` seconds.
        """
        if self._farewell is not None:
            if now - self._farewell >= FAREWELL:
                self.cut()
        elif self._is_quiet(now):
            if self._reads:
                self._receive()  # it may have come while this process was busy with others
            if self._is_quiet(now):
                self._close()

    def _is_quiet(self, now: float) -> bool:
        busy = self._deframer.buffered or self._awaited or self.is_full
        return not busy and now - self._last_query >= (QUIET if self.served else FIRST)

    def _close(self) -> None:
        """End when everything is written."""
        if self._ending:
            return
        self._ending = True
        self._reads = False
        if self._output:
            self._watch()
        else:
            self._bid_farewell()

    def _bid_farewell(self) -> None:
        """Send the FIN; who has not sent one is still read until it does."""
        if self._shut:
            self._drop()
            return
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop()
            return
        self._farewell = self._loop.time()
        self._reads = True
        self._watch()

    def cut(self) -> None:
        """End at once."""
        if self._output:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._drop()

    def _drop(self) -> None:
        """Let go of the socket, and of everything that was kept for it."""
        if self._closed:
            return
        if self._events:
            self._server.watch(self, self._socket, self._events, 0)
            self._events = 0
        self._closed = self._ending = True
        self.is_full = False
        self._socket.close()
        self._deframer = Deframer()
        self._output.clear()
        self._server.closed(self)
