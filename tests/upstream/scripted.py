"""A server of others that does as it is told, on real sockets of loopback, and a client of a forwarder."""

import asyncio
import contextlib
import ssl
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field

import dns.message
import dns.rdatatype

from meshdns.upstream.forwarder import Forwarder
from meshdns.upstream.replying import Ours
from meshdns.upstream.settings import CacheSettings, UpstreamSettings
from meshdns.wire.framing import Deframer, frame
from meshdns.wire.query import parse_query
from meshdns.wire.reply import size_limit

GOOD = "192.0.2.1"


@dataclass(frozen=True)
class Heard:
    """One query as it came. number: of its question so far, from 1."""

    message: dns.message.Message
    octets: bytes
    stream: bool
    number: int

    @property
    def name(self) -> str:
        return self.message.question[0].name.to_text().lower().removesuffix(".")

    @property
    def kind(self) -> str:
        return self.name.split(".", maxsplit=1)[0]

    @property
    def rdtype(self) -> str:
        return dns.rdatatype.to_text(self.message.question[0].rdtype)

    def answer(self, *records: str, rcode: int = 0, flags: int = 0, authority: Iterable[str] = ()) -> bytes:
        """Give a response whose records are ``ttl type data`` of the very name, or lines with an owner before."""
        reply = dns.message.make_response(self.message, recursion_available=True)
        reply.set_rcode(rcode)  # type: ignore[arg-type]
        reply.flags |= flags
        name = self.message.question[0].name.to_text()
        for section, lines in ((reply.answer, records), (reply.authority, authority)):
            for line in lines:
                words = line.split(None, 3)
                if words[0].isdigit():
                    words = [name, *line.split(None, 2)]
                owner, ttl, rtype, data = words
                section.append(dns.rrset.from_text(owner, int(ttl), "IN", rtype, data))
        return reply.to_wire(max_size=65535)


Script = Callable[[Heard], bytes | Iterable[bytes] | float | None]
"""What to send back: one reply, several, nothing, or the usual one after so many seconds."""


@dataclass
class Upstream:
    """A server; ``log`` is what it heard."""

    script: Script
    port: int = 0
    host: str = "127.0.0.1"
    log: list[Heard] = field(default_factory=list)
    connections: int = 0
    silent: bool = False
    _seen: Counter[tuple[str, str]] = field(default_factory=Counter)

    def heard(self, octets: bytes, stream: bool) -> tuple[float, list[bytes]]:
        message = dns.message.from_wire(octets)
        key = (message.question[0].name.to_text().lower(), str(message.question[0].rdtype))
        self._seen[key] += 1
        heard = Heard(message, octets, stream, self._seen[key])
        self.log.append(heard)
        if self.silent:
            return 0, []
        if heard.name == "" or "loop-test" in heard.name:
            return 0, [heard.answer(rcode=3)]
        said = self.script(heard)
        if said is None:
            return 0, []
        if isinstance(said, float | int):
            return said, [heard.answer(f"60 A {GOOD}")]
        return 0, [said] if isinstance(said, bytes) else list(said)

    def asked(self, kind: str = "") -> list[Heard]:
        """Give what was asked, probes left out; of one kind (first label) if so wished."""
        every = [each for each in self.log if each.name and "loop-test" not in each.name]
        return [each for each in every if not kind or each.kind == kind]


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.DatagramTransport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        wait, replies = self.upstream.heard(data, False)
        for reply in replies:
            asyncio.get_running_loop().call_later(wait, self.transport.sendto, reply, addr)


class _Stream(asyncio.Protocol):
    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.deframer = Deframer()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.upstream.connections += 1

    def data_received(self, data: bytes) -> None:
        self.deframer.feed(data)
        for message in self.deframer.take(1 << 20):
            wait, replies = self.upstream.heard(message, True)
            for reply in replies:
                asyncio.get_running_loop().call_later(wait, self._send, reply)

    def _send(self, reply: bytes) -> None:
        if reply == b"close":
            self.transport.close()
        elif not self.transport.is_closing():
            self.transport.write(frame(reply))


@contextlib.asynccontextmanager
async def upstream(
    script: Script | None = None, *, host: str = "127.0.0.1", port: int = 0, context: ssl.SSLContext | None = None
) -> AsyncIterator[Upstream]:
    """Run a server. context: its streams are TLS."""
    loop = asyncio.get_running_loop()
    made = Upstream(script or (lambda heard: heard.answer(f"60 A {GOOD}")), host=host)
    while True:
        server = await loop.create_server(lambda: _Stream(made), host, port, ssl=context)
        made.port = server.sockets[0].getsockname()[1]
        try:
            transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(made), local_addr=(host, made.port))
            break
        except OSError:  # the port is another's for UDP
            server.close()
            if port:
                raise
    try:
        yield made
    finally:
        transport.close()
        server.close()
        await asyncio.sleep(0)


OURS = {b"\3web\4mesh\0": (0, b"\0\1\xc0\x0c\0\1\0\1\0\0\0\x1e\0\4\xf0\0\0\1")}


def ours(name: bytes, qtype: int) -> Ours | None:
    """Say what a mesh says: ``web.mesh`` is 240.0.0.1, other names of the zone do not exist."""
    if name in OURS and qtype == 1:
        return Ours(*OURS[name])
    return Ours(3, b"") if name.endswith(b"\4mesh\0") else None


@contextlib.asynccontextmanager
async def forwarding(
    *servers: Upstream | str, cache: dict[str, object] | None = None, **options: object
) -> AsyncIterator[Forwarder]:
    """Run a forwarder of everything to *servers*, or of ``zones`` (a list of settings)."""
    addresses = [each if isinstance(each, str) else f"{each.host}:{each.port}" for each in servers]
    zones = options.pop("zones", None) or [{"servers": addresses}]
    settings = [UpstreamSettings.model_validate(zone) for zone in zones]  # type: ignore[attr-defined]
    options.setdefault("draw", lambda: 0.5)
    options.setdefault("ours", ours)
    forwarder = Forwarder(settings, CacheSettings.model_validate(cache or {}), **options)  # type: ignore[arg-type]
    await forwarder.start()
    try:
        yield forwarder
    finally:
        forwarder.close()
        await asyncio.sleep(0)


def query(name: str, rdtype: str = "A", **fields: object) -> dns.message.Message:
    """Give a client's query with an OPT, unless told otherwise."""
    fields.setdefault("use_edns", 0)
    fields.setdefault("payload", 1232)
    return dns.message.make_query(name, rdtype, **fields)  # type: ignore[arg-type]


async def ask(
    forwarder: Forwarder,
    asked: str | dns.message.Message,
    rdtype: str = "A",
    *,
    stream: bool = False,
    patience: float = 6,
    **fields: object,
) -> dns.message.Message:
    """Give the reply as a client reads it."""
    message = query(asked, rdtype, **fields) if isinstance(asked, str) else asked
    octets = await reply_to(forwarder, message.to_wire(), stream=stream, patience=patience)
    reply = dns.message.from_wire(octets)
    assert reply.id == message.id
    assert octets[12:].startswith(message.question[0].name.to_wire() or b"")
    return reply


async def reply_to(forwarder: Forwarder, octets: bytes, *, stream: bool = False, patience: float = 6) -> bytes:
    """Give the octets of the reply."""
    parsed = parse_query(octets)
    assert parsed is not None
    said = forwarder.answer(parsed, size_limit(parsed.edns, stream=stream))
    if isinstance(said, bytes):
        return said
    arrived: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    said.deliver_to(arrived.set_result)
    async with asyncio.timeout(patience):
        return await arrived


def addresses(reply: dns.message.Message) -> list[str]:
    """Give the addresses in the answer."""
    return [rdata.to_text() for rrset in reply.answer if rrset.rdtype in (1, 28) for rdata in rrset]


def extended_error(reply: dns.message.Message) -> int | None:
    """Give the code of the extended error, None if there is none."""
    return next((struct.unpack("!H", option.to_wire()[:2])[0] for option in reply.options if option.otype == 15), None)


def rcode(reply: dns.message.Message) -> str:
    """Give the rcode as a word."""
    return dns.rcode.to_text(reply.rcode())
