"""Queries over TCP and TLS: connections are kept for a while and carry many queries at once (RFC 7766, RFC 7858)."""

import asyncio
import logging
import secrets
import ssl
from collections.abc import Callable
from pathlib import Path

from meshdns.errors import UpstreamError
from meshdns.upstream.settings import Server
from meshdns.wire.framing import PREFIX, Deframer, frame

log = logging.getLogger(__name__)

IDLE = 10.0
"""Seconds that a connection without a query is kept."""

SHARE = 128
"""Queries that wait on one connection; beyond it another is opened."""

CONNECTIONS = 4
"""Connections to one server; all full, a query is refused."""

SILENCE = 1.0
"""Seconds after which a connection that says nothing to a query is not given another."""

CONNECT_TIME = 3.5
"""Seconds for a connection, TLS included, to be made."""

_TURN = 64
_HEADER = 12


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Give what TLS servers are checked by; raises UpstreamError, naming the file, when it cannot be used."""
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except OSError as fault:
        raise UpstreamError(f"{ca_file}: {fault.strerror or fault}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["dot"])
    return context


class Streams:
    """The connections to one server. context: for TLS, None for plain TCP."""

    def __init__(self, server: Server, context: ssl.SSLContext | None) -> None:
        self._server = server
        self._context = context
        self._connections: set[_Connection] = set()
        self._opening: asyncio.Task[_Connection] | None = None

    async def ask(self, query: bytes, accept: Callable[[bytes], bool]) -> None:
        """Send *query* and hand to *accept* what carries its id (a fresh one on the connection), until that accepts.

        Waits without end for the answer: the caller has the patience. Raises UpstreamError when the server cannot be
        reached or closes the connection; one that was kept, and may have been closed meanwhile, is replaced once.
        """
        connection, fresh = await self._connection()
        try:
            await connection.ask(query, accept)
        except ConnectionError:
            if fresh:
                raise UpstreamError(f"{self._server}: closed the connection") from None
            try:
                await (await self._open()).ask(query, accept)
            except ConnectionError:
                raise UpstreamError(f"{self._server}: closed the connection") from None

    def close(self) -> None:
        """Close every connection."""
        if self._opening is not None:
            self._opening.cancel()
        for connection in list(self._connections):
            connection.cut()

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    def took(self, connection: "_Connection") -> None:
        """Take note that *connection* has begun."""
        self._connections.add(connection)

    def forget(self, connection: "_Connection") -> None:
        """Take note that *connection* has ended."""
        self._connections.discard(connection)

    async def _connection(self) -> tuple["_Connection", bool]:
        usable = [each for each in self._connections if each.is_usable]
        best = min(usable, key=lambda each: each.waiting, default=None)
        if best is not None and best.waiting < SHARE:
            return best, False
        if len(usable) >= CONNECTIONS:
            raise UpstreamError(f"{self._server}: {CONNECTIONS} connections are full of queries")
        return await self._open(), True

    async def _open(self) -> "_Connection":
        """Open a connection; all that want one at this moment share it."""
        if self._opening is None or self._opening.done():
            self._opening = asyncio.get_running_loop().create_task(self._connect(), name=f"connect {self._server}")
            self._opening.add_done_callback(_retrieve)
        return await asyncio.shield(self._opening)

    async def _connect(self) -> "_Connection":
        server = self._server
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIME):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self),
                    server.host,
                    server.port,
                    ssl=self._context,
                    server_hostname=(server.name or server.host.partition("%")[0]) if self._context else None,
                )
        except TimeoutError:
            raise UpstreamError(f"{server}: no connection within {CONNECT_TIME} s") from None
        except ssl.SSLCertVerificationError as fault:
            raise UpstreamError(f"{server}: its certificate: {fault.verify_message}") from None
        except OSError as fault:  # ssl.SSLError is one
            raise UpstreamError(f"{server}: {fault.strerror or fault}") from None
        return connection


def _retrieve(task: "asyncio.Task[_Connection]") -> None:
    """Look at the outcome, which nobody may be waiting for any more."""
    if not task.cancelled():
        task.exception()


class _Connection(asyncio.Protocol):
    """One connection; answers come in any order."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._deframer = Deframer()
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiting: dict[bytes, tuple[Callable[[bytes], bool], asyncio.Future[None]]] = {}
        self._idle: asyncio.TimerHandle | None = None
        self._doubted = False
        """It said nothing while a query waited in vain, and would perhaps let others wait too."""
        self._heard = 0.0

    @property
    def waiting(self) -> int:
        """How many queries wait for their answer."""
        return len(self._waiting)

    @property
    def is_usable(self) -> bool:
        """Whether it takes further queries."""
        return self._transport is not None and not self._transport.is_closing() and not self._doubted

    async def ask(self, query: bytes, accept: Callable[[bytes], bool]) -> None:
        """Send *query* under a free id; raises ConnectionError when the connection ends before the answer."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError
        id = secrets.token_bytes(2)
        while id in self._waiting:
            id = secrets.token_bytes(2)
        answered = self._loop.create_future()

        def accepts(reply: bytes) -> bool:
            return accept(query[:2] + reply[2:])

        self._waiting[id] = accepts, answered
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        self._transport.write(frame(id + query[2:]))
        sent = self._loop.time()
        try:
            await answered
        except asyncio.CancelledError:
            self._doubted = self._doubted or (self._heard < sent and self._loop.time() - sent > SILENCE)
            raise
        finally:
            if self._waiting.get(id, (None, None))[1] is answered:
                del self._waiting[id]
            if not self._waiting:
                self._rest()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._streams.took(self)
        self._rest()

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        self._deframer.feed(data)
        while messages := self._deframer.take(_TURN):
            for message in messages:
                self._hear(message)
        if self._deframer.buffered > PREFIX + 0xFFFF:
            self.cut()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._streams.forget(self)
        if self._idle is not None:
            self._idle.cancel()
        waiting, self._waiting = self._waiting, {}
        for _, answered in waiting.values():
            if not answered.done():
                answered.set_exception(ConnectionResetError())

    def cut(self) -> None:
        """End at once."""
        if self._transport is not None:
            self._transport.abort()

    def _hear(self, message: bytes) -> None:
        found = self._waiting.get(message[:2]) if len(message) >= _HEADER else None
        if found is None:
            return
        accepts, answered = found
        if not answered.done() and accepts(message):
            self._doubted = False
            if not answered.done():  # who heard the answer may have ended the wait for it
                answered.set_result(None)

    def _rest(self) -> None:
        """Close now what is not to be used again, else later what is not used again."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._doubted:
            self._transport.close()
        else:
            self._idle = self._loop.call_later(IDLE, self._transport.close)
