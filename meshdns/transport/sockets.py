"""The listening sockets: UDP and TCP on each address, bound before any process is forked.

SO_REUSEPORT is set only for several responders, and only after a bind without it has succeeded: otherwise a second
instance would silently share the port.
"""

import errno
import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from meshdns.errors import MeshdnsError
from meshdns.transport.holder import holder_of

log = logging.getLogger(__name__)

RECEIVE_BUFFER = 1 << 20
"""Octets of SO_RCVBUF: what arrives while a responder is reborn, or busy, waits there."""

STREAM_BUFFER = 64 << 10
"""Octets of SO_SNDBUF and SO_RCVBUF of each TCP connection. Left to itself the kernel keeps megabytes for every client
that does not read, and in a container they count as this process' memory."""

BACKLOG = 512
"""TCP connections that may wait to be accepted."""

PORT_TRIES = 50
"""Free UDP ports tried until one is free for TCP too."""

IP_PKTINFO = 8
"""Linux; the socket module of Python 3.11 does not name it."""

_SO_RCVBUFFORCE = 33
_KINDS = (socket.SOCK_DGRAM, socket.SOCK_STREAM)


class BindError(MeshdnsError):
    """An address cannot be listened on; the message names it, why, and who holds it or what would help."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of one responder, with its bound sockets; the TCP one listens, nobody accepts yet.

    listen: the address as it was asked for, perhaps with port 0. udp_lent, tcp_lent: who started us holds the socket
    too, and will want it back as it was.
    """

    address: str
    udp: socket.socket
    tcp: socket.socket
    listen: str = ""
    udp_lent: bool = False
    tcp_lent: bool = False

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return ip_address(self.udp.getsockname()[0]).is_loopback

    @property
    def is_wildcard(self) -> bool:
        """Whether it is bound to every address of its family."""
        return ip_address(self.udp.getsockname()[0]).is_unspecified


@dataclass(frozen=True, slots=True)
class Bound:
    """Every listening socket. rows: one a responder, each with an endpoint for each address."""

    rows: tuple[tuple[Endpoint, ...], ...]

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses listened on, with their true ports: ``127.0.0.1:15053``, ``[::1]:15053``."""
        return tuple(endpoint.address for endpoint in self.rows[0])

    def sockets(self) -> Iterator[socket.socket]:
        """Give every socket."""
        for row in self.rows:
            for endpoint in row:
                yield endpoint.udp
                yield endpoint.tcp

    def close(self) -> None:
        """Close this process' copy of every socket."""
        for each in self.sockets():
            each.close()


def bind(listen: Sequence[str], responders: int = 1, column: "Column | None" = None) -> Bound:
    """Listen on each address of *listen* for *responders* processes.

    listen: ``127.0.0.1:53`` or ``[::1]:53``; port 0 takes one free port for UDP and TCP and all responders.
    column: what gives the endpoints of one address; it binds them all unless given. An address family that the
    machine lacks is skipped with a warning.

    Raises BindError for an address that cannot be had, or when none is left.
    """
    columns: list[list[Endpoint]] = []
    try:
        for index, text in enumerate(listen):
            host, port = parts(text)
            if others := [other for other in listen[:index] if _collide(parts(other), (host, port))]:
                raise BindError(f"cannot listen on {text}: {others[0]}, listed before it, has the same port")
            if ":" in host and not _has_ipv6():
                log.warning("listen address %s is skipped: this machine has no IPv6", text)
                continue
            if made := (column or bind_column)(text, responders):
                columns.append(made)
        if not columns:
            raise BindError(f"nothing to listen on: none of {', '.join(listen)} can be had on this machine")
    except BaseException:
        for each in columns:
            for endpoint in each:
                endpoint.udp.close()
                endpoint.tcp.close()
        raise
    return Bound(tuple(zip(*columns, strict=True)))


Column = Callable[[str, int], list[Endpoint]]
"""(address of ``listen``, number of responders) → an endpoint for each, or none to go without; raises BindError."""


def parts(text: str) -> tuple[str, int]:
    """Give host and port of an address of ``listen``."""
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def _collide(one: tuple[str, int], other: tuple[str, int]) -> bool:
    """Tell whether a socket can have one of two addresses only without the other: both the same, or one holds all."""
    if not one[1] or one[1] != other[1]:
        return False
    first, second = ip_address(one[0]), ip_address(other[0])
    return first.version == second.version and (first == second or first.is_unspecified or second.is_unspecified)


def bind_column(text: str, responders: int) -> list[Endpoint]:
    """Bind the address *text* for each of *responders* processes."""
    column = [_bind_pair(text, *parts(text), shared=False)]
    if responders == 1:
        return column
    first = column[0]
    try:
        # Only now, and never closed in between: at no moment could another instance have had the port as well.
        for each in (first.udp, first.tcp):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        while len(column) < responders:
            column.append(_bind_pair(text, parts(text)[0], first.udp.getsockname()[1], shared=True))
    except BindError:
        for endpoint in column:
            endpoint.udp.close()
            endpoint.tcp.close()
        raise
    return column


def _bind_pair(text: str, host: str, port: int, *, shared: bool) -> Endpoint:
    """Bind UDP and TCP to one port; with port 0, to one that both can have."""
    for attempt in range(PORT_TRIES):
        udp = bind_one(host, port, socket.SOCK_DGRAM, shared=shared)
        chosen = udp.getsockname()[1]
        try:
            tcp = bind_one(host, chosen, socket.SOCK_STREAM, shared=shared)
        except BindError:
            udp.close()
            if port or attempt == PORT_TRIES - 1:
                raise
            continue
        return Endpoint(spelled(host, chosen), udp, tcp, text)
    raise AssertionError("unreachable")


def bind_one(host: str, port: int, kind: socket.SocketKind, *, shared: bool) -> socket.socket:
    """Bind one socket. shared: with others that are *shared* too. Raises BindError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, kind)
    try:
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if kind == socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of a former run may linger
        _prepare(made, host)
        made.bind((host, port))
        _open(made)
    except OSError as fault:
        made.close()
        raise BindError(_told(host, port, kind, fault)) from None
    return made


def _prepare(made: socket.socket, host: str) -> None:
    """Set what must be set before the first client comes."""
    made.setblocking(False)
    if made.type == socket.SOCK_STREAM:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):  # accepted connections inherit them
            made.setsockopt(socket.SOL_SOCKET, option, STREAM_BUFFER)
    elif ip_address(host).is_unspecified:
        if made.family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            made.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)


def adapt(given: socket.socket) -> None:
    """Set on a socket that another has bound what we set on our own, as far as it can still be set."""
    _prepare(given, given.getsockname()[0])
    _open(given)


def _open(bound: socket.socket) -> None:
    """Let clients into the *bound* socket."""
    if bound.type == socket.SOCK_STREAM:
        bound.listen(BACKLOG)
    else:
        _widen(bound)


def _widen(udp: socket.socket) -> None:
    try:
        udp.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER)
    except OSError:  # needs CAP_NET_ADMIN
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    granted = udp.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2  # the kernel tells twice what it gave
    if granted < RECEIVE_BUFFER:
        log.warning(
            "the UDP receive buffer is %d KiB instead of %d: bursts may be lost; sysctl -w net.core.rmem_max=%d",
            granted >> 10,
            RECEIVE_BUFFER >> 10,
            RECEIVE_BUFFER,
        )


def spelled(host: str, port: int) -> str:
    """Give an address as it is written: ``127.0.0.1:53``, ``[::1]:53``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def transport(kind: socket.SocketKind) -> str:
    """Give the protocol of sockets of *kind*."""
    return "TCP" if kind == socket.SOCK_STREAM else "UDP"


def _told(host: str, port: int, kind: socket.SocketKind, fault: OSError) -> str:
    what = f"cannot listen on {spelled(host, port)} ({transport(kind)}): "
    if fault.errno == errno.EADDRINUSE:
        holder = holder_of(host, port, kind)
        return f"{what}address in use" + (f" by {holder}" if holder else "")
    if fault.errno == errno.EACCES and port < 1024:
        return (
            f"{what}ports below 1024 need CAP_NET_BIND_SERVICE "
            f"(or: sysctl -w net.ipv4.ip_unprivileged_port_start={port})"
        )
    if fault.errno == errno.EADDRNOTAVAIL:
        return f"{what}this machine has no such address"
    return f"{what}{fault.strerror}"


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
