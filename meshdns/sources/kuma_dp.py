"""kuma-dp's own table: the ``/dns`` document on its unix socket, asked for each second as kuma-dp itself does.

In a pod with an injected sidecar meshdns cannot be a second client of the control plane for the same Dataplane, but
Envoy serves what the control plane pushed (dynamic configuration, Kuma 2.11 and later with feature-embedded-dns).
"""

import asyncio
import hashlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from meshdns.errors import ResourceError
from meshdns.inventory.dns_document import Document, parse_document
from meshdns.inventory.event import Connected, Disconnected, Noticed, Pushed, SourceEvent, Unchanged
from meshdns.inventory.record import Table
from meshdns.sources.settings import KumaDpSettings

PATH = "/dns"
MAX_BODY = 64 << 20
"""Octets of a document; 100,000 names have 6.5 MiB."""

INTERVAL = 1.0
"""Seconds between two questions: kuma-dp's own rhythm."""

TIMEOUT = 5.0
"""Seconds for one whole exchange, as kuma-dp's own."""

CONFIRM_EVERY = 10.0
"""Seconds between two ``Unchanged``: the table's age stays small and the status file quiet."""

_CHUNK = 1 << 16
_MAX_ETAG = 256

_REMEDY_SOCKET = (
    "is a kuma-dp of 2.11 or later running in this pod, with its work directory mounted here? The last table stays"
)
_REMEDY_DENIED = "let the user that runs meshdns write to the socket (same user or group as kuma-dp)"
_REMEDY_ANSWER = "look at kuma-dp and its Envoy; the last table stays"
_REMEDY_NO_TABLE = "is feature-embedded-dns off, or kuma-dp older than 2.11? The last table stays"


@dataclass(frozen=True, slots=True)
class Silent:
    """No whole answer came."""

    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class NotModified:
    """304: the document is the one whose ETag we sent."""


@dataclass(frozen=True, slots=True)
class Unusable:
    """An answer came, and there is no table in it."""

    problem: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Answer:
    """200 with a document; None when it is the same as before (``digest``)."""

    etag: str
    digest: str
    document: Document | None


Reply = Silent | NotModified | Unusable | Answer


class Exchange:
    """One GET over a unix socket: ``run`` blocks and belongs into a thread, ``abort`` ends it from another."""

    def __init__(self, settings: KumaDpSettings, etag: str, digest: str, *, timeout: float = TIMEOUT) -> None:
        self._settings = settings
        self._etag = etag
        self._digest = digest
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._aborted = False

    def abort(self) -> None:
        """Make a ``run`` that still waits fail now."""
        self._aborted = True
        try:
            if self._socket is not None:
                self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # not connected, or over

    def run(self) -> Reply:
        """Ask, and read the whole answer."""
        path = self._settings.socket
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as self._socket:
                self._socket.settimeout(self._timeout)
                self._socket.connect(str(path))
                if self._aborted:  # before there was anything to shut down
                    return Silent(f"{path}: given up", "")
                return self._hear(self._socket)
        except OSError as error:
            return _not_there(path, error)

    def _hear(self, connected: socket.socket) -> Reply:
        path = self._settings.socket
        try:
            return self._ask(connected)
        except TimeoutError:
            return Silent(f"{path}: no whole answer within {self._timeout:g} s", _REMEDY_ANSWER)
        except (HTTPException, OSError, ValueError) as error:
            return Silent(f"{path}: the answer was cut or is not HTTP ({_said(error)})", _REMEDY_ANSWER)

    def _ask(self, connected: socket.socket) -> Reply:
        connection = HTTPConnection("localhost")
        connection.sock = connected
        headers = {"Accept": "application/json", "Connection": "close"}
        if self._etag:
            headers["If-None-Match"] = self._etag
        connection.request("GET", PATH, headers=headers)
        with connection.getresponse() as response:
            if response.status == 304 and self._etag:
                return NotModified()
            if response.status == 404:
                return Unusable(f"this kuma-dp serves no {PATH}", _REMEDY_NO_TABLE)
            if response.status != 200:
                return Unusable(f"{PATH} answered {response.status} {response.reason}".rstrip(), _REMEDY_ANSWER)
            etag = response.getheader("ETag", "")
            body = bytearray()
            while chunk := response.read(_CHUNK):
                body += chunk
                if len(body) > MAX_BODY:
                    return Unusable(f"the {PATH} document is larger than {MAX_BODY >> 20} MiB", _REMEDY_ANSWER)
            if response.length:  # a body shorter than its Content-Length is no error to http.client
                raise HTTPException(f"{response.length} octets are missing")
        return self._read(bytes(body), etag)

    def _read(self, body: bytes, etag: str) -> Reply:
        usable = 0 < len(etag) <= _MAX_ETAG and etag.isascii() and etag.isprintable()
        digest = hashlib.sha256(body).hexdigest()
        if digest == self._digest:
            return Answer(etag if usable else "", digest, None)
        version = etag if usable else digest
        try:
            document = parse_document(body, source=self._settings.name, resource=PATH, version=version)
        except ResourceError as error:
            return Unusable(str(error), _REMEDY_ANSWER)
        return Answer(etag if usable else "", digest, document)


def _not_there(path: Path, error: OSError) -> Silent:
    if isinstance(error, PermissionError):
        return Silent(f"{path}: permission denied", _REMEDY_DENIED)
    if isinstance(error, FileNotFoundError):
        return Silent(f"{path}: no such socket", _REMEDY_SOCKET)
    if isinstance(error, ConnectionRefusedError):
        return Silent(f"{path}: nobody listens on it", _REMEDY_SOCKET)
    return Silent(f"{path}: {_said(error)}", _REMEDY_SOCKET)


def _said(error: Exception) -> str:
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return text[:100]


class KumaDpSource:
    """The ``kuma-dp`` source. interval, timeout, confirm_every: seconds."""

    def __init__(
        self,
        settings: KumaDpSettings,
        *,
        interval: float = INTERVAL,
        timeout: float = TIMEOUT,
        confirm_every: float = CONFIRM_EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._interval = interval
        self._timeout = timeout
        self._confirm_every = confirm_every
        self._clock = clock
        self._begin()

    def _begin(self) -> None:
        self._etag = ""
        self._digest = ""
        """sha256 of the document that was taken last."""
        self._heard: bool | None = None
        """Whether the last exchange brought an answer; None before the first."""
        self._told = ""
        """The problem that was told last; it is told once."""
        self._confirmed = float("-inf")

    @property
    def name(self) -> str:
        """The configured name."""
        return self._settings.name

    def __repr__(self) -> str:
        heard = "heard" if self._heard else "not heard"
        return f"<KumaDpSource {self.name} {self._settings.socket} {heard} etag={self._etag[:12]!r}>"

    async def events(self) -> AsyncIterator[SourceEvent]:
        """Say what kuma-dp says, until cancelled; a second call begins anew, with the whole table."""
        self._begin()
        while True:
            for event in self._take(await self._exchange()):
                yield event
            await asyncio.sleep(self._interval)

    async def _exchange(self) -> Reply:
        exchange = Exchange(self._settings, self._etag, self._digest, timeout=self._timeout)
        task = asyncio.ensure_future(asyncio.to_thread(exchange.run))
        try:
            # The socket's own timeout bounds each read; this bounds all of them (an answer in drops).
            done, _ = await asyncio.wait({task}, timeout=self._timeout)
            exchange.abort()
            reply = await task
            if isinstance(reply, Silent) and not done:
                slow = f"{self._settings.socket}: no whole answer within {self._timeout:g} s"
                return Silent(slow, _REMEDY_ANSWER)
            return reply
        finally:
            exchange.abort()  # cancelled: the thread must not hold up the end of the process

    def _take(self, reply: Reply) -> Iterator[SourceEvent]:
        if isinstance(reply, Silent):
            self._etag = ""
            if self._heard is not False or self._told != reply.reason:
                self._heard, self._told = False, reply.reason
                yield Disconnected(reply.reason, reply.remedy)
            return
        if not self._heard:
            self._heard, self._told, self._confirmed = True, "", float("-inf")
            yield Connected(str(self._settings.socket))
        if isinstance(reply, Unusable):
            self._etag = ""
            if self._told != reply.problem:
                self._told = reply.problem
                yield Noticed(reply.problem, reply.remedy)
            return
        if self._told:
            self._told, self._confirmed = "", float("-inf")
        if isinstance(reply, Answer):
            self._etag, self._digest = reply.etag, reply.digest
            if (document := reply.document) is not None:
                self._confirmed = self._clock()
                yield Pushed(
                    Table(document.records, lenient=True),
                    reply.etag or reply.digest,
                    document.skipped,
                    document.notices,
                )
                return
        now = self._clock()
        if now - self._confirmed >= self._confirm_every:
            self._confirmed = now
            yield Unchanged()
