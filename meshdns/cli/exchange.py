"""One question to one server: over UDP with retries, over TCP when the reply is truncated."""

import secrets
import socket
import time
from dataclasses import dataclass
from ipaddress import ip_address

from meshdns.errors import ConfigError, Fault, FormatError, MeshdnsError
from meshdns.wire.client import ReplyText, describe, is_reply_to, is_truncated, make_query
from meshdns.wire.framing import Deframer, frame

TRIES = 3
"""Datagrams sent before giving up."""

PATIENCE = 2.0
"""Seconds for the reply to each of them, and for each step of a TCP exchange."""

Server = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A reply and how it came. octets: its length. seconds: from the first datagram to the reply."""

    server: Server
    transport: str
    octets: int
    seconds: float
    reply: ReplyText


def parse_server(text: str, *, port: int = 53) -> Server:
    """Give the address and port of ``127.0.0.1``, ``127.0.0.1:53``, ``::1`` or ``[::1]:53``.

    port: what it is where none is given. Raises ConfigError.
    """
    host = text
    try:
        ip_address(host)
    except ValueError:
        if not host.endswith("]"):
            host, _, number = text.rpartition(":")
            port = int(number) if number.isdecimal() else -1
        host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        if not 0 <= port < 65536:
            raise ValueError
        return str(ip_address(host)), port
    except ValueError:
        problem = f"{text!r} is not an IP address with or without a port, such as 127.0.0.1:15053 or [::1]:15053"
        raise ConfigError("--server", (Fault("", problem),)) from None


def endpoint(server: Server) -> str:
    """Give ``127.0.0.1:53`` or ``[::1]:53``."""
    return f"[{server[0]}]:{server[1]}" if ":" in server[0] else f"{server[0]}:{server[1]}"


def ask(name: bytes, qtype: int, server: Server, *, tcp: bool = False) -> Exchange:
    """Ask *server* for *name* (wire form); raises MeshdnsError when no usable reply comes. tcp: not over UDP first."""
    query = make_query(name, qtype, id=secrets.randbelow(0x10000))
    began = time.monotonic()
    transport = "TCP" if tcp else "UDP"
    try:
        octets = b"" if tcp else _over_udp(query, server)
        if tcp or is_truncated(octets):
            transport = "TCP"
            octets = _over_tcp(query, server)
        reply = describe(octets)
    except (OSError, FormatError) as fault:
        raise MeshdnsError(f"{endpoint(server)} over {transport}: {_reason(fault)}") from None
    return Exchange(server, transport, len(octets), time.monotonic() - began, reply)


def _reason(fault: Exception) -> str:
    if isinstance(fault, ConnectionRefusedError):
        return "nothing listens there"
    if isinstance(fault, TimeoutError):
        return "no reply"
    return (fault.strerror if isinstance(fault, OSError) else None) or str(fault)


def _over_udp(query: bytes, server: Server) -> bytes:
    with socket.socket(_family(server), socket.SOCK_DGRAM) as client:
        client.connect(server)  # so that only this server's replies come in, and its refusal is heard
        for _ in range(TRIES):
            client.send(query)
            deadline = time.monotonic() + PATIENCE
            while (left := deadline - time.monotonic()) > 0:
                client.settimeout(left)
                try:
                    reply = client.recv(65535)
                except TimeoutError:
                    break
                if is_reply_to(query, reply):
                    return reply
    raise TimeoutError


def _over_tcp(query: bytes, server: Server) -> bytes:
    with socket.socket(_family(server), socket.SOCK_STREAM) as client:
        client.settimeout(PATIENCE)
        client.connect(server)
        client.sendall(frame(query))
        deframer = Deframer()
        while octets := client.recv(65535):
            deframer.feed(octets)
            for reply in deframer.take(1):
                if is_reply_to(query, reply):
                    return reply
    raise ConnectionError("the connection was closed without a reply")


def _family(server: Server) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in server[0] else socket.AF_INET
