"""Sockets that this process was started with, and the addresses of ``listen`` that they are for.

Two give us sockets: a service manager (``LISTEN_FDS``, sd_listen_fds(3)), and the image of this process before an
upgrade. What fits is used, what is missing is bound, and a service manager's socket that fits nowhere is an error:
queries would wait in it for ever.
"""

import contextlib
import logging
import os
import socket
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass

from meshdns.transport.sockets import (
    BindError,
    Bound,
    Endpoint,
    adapt,
    bind,
    bind_column,
    bind_one,
    spelled,
    transport,
)

log = logging.getLogger(__name__)

FIRST = 3
"""The first descriptor that a service manager passes."""

_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")

_KINDS = (socket.SOCK_DGRAM, socket.SOCK_STREAM)


@dataclass(frozen=True, slots=True)
class Given:
    """One socket that we were given.

    listen: the address of ``listen`` that it was bound for; empty: to be found by its own. lent: its giver keeps it
    too. name: what the giver calls it.
    """

    socket: socket.socket
    listen: str = ""
    lent: bool = False
    name: str = ""

    @property
    def address(self) -> str:
        """Where it is bound."""
        return spelled(*self.socket.getsockname()[:2])

    def __str__(self) -> str:
        named = f", {self.name!r}" if self.name else ""
        return f"{self.address} ({transport(self.socket.type)}{named})"

    def is_for(self, text: str) -> bool:
        """Tell whether it is for the address *text* of ``listen``."""
        return text == (self.listen or self.address)


def from_service_manager(environ: MutableMapping[str, str]) -> tuple[Given, ...]:
    """Take the sockets that a service manager passed, and its variables out of *environ*.

    Raises BindError for anything passed that is no UDP socket and no listening TCP socket.
    """
    pid, count, names, _ = (environ.pop(key, "") for key in _VARIABLES)
    if not count:
        return ()
    if pid != str(os.getpid()):
        log.warning("LISTEN_FDS=%s is meant for process %s, this is %d: no socket is taken", count, pid, os.getpid())
        return ()
    if not count.isascii() or not count.isdigit():
        raise BindError(f"LISTEN_FDS={count!r} is not a number of sockets")
    called = names.split(":") if names else []
    return tuple(_passed(FIRST + place, called[place] if place < len(called) else "") for place in range(int(count)))


def _passed(descriptor: int, name: str) -> Given:
    what = f"descriptor {descriptor}{f' ({name})' if name else ''}, passed by LISTEN_FDS,"
    try:
        os.set_inheritable(descriptor, False)
        made = socket.socket(fileno=descriptor)
    except OSError as fault:
        raise BindError(f"{what} is no socket: {fault.strerror}") from None
    if made.family not in (socket.AF_INET, socket.AF_INET6) or made.type not in _KINDS:
        raise BindError(f"{what} is neither UDP nor TCP: {made.family.name}, {made.type.name}")
    given = Given(made, lent=True, name=name)
    if made.type == socket.SOCK_STREAM and not made.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise BindError(f"{what} is a connection of TCP, not a listening socket; the socket unit needs Accept=no")
    if made.getsockname()[0] == "::" and not made.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        raise BindError(f"{given} is passed for IPv4 too; the socket unit needs BindIPv6Only=ipv6-only")
    with contextlib.suppress(OSError):
        made.getpeername()
        raise BindError(f"{given} is passed connected; the socket must be free for all clients")
    return given


def take_up(
    listen: Sequence[str], responders: int, given: Sequence[Given], *, lenient: bool = False
) -> tuple[Bound, tuple[Given, ...]]:
    """Listen as ``sockets.bind`` does, with what was *given* where it fits; give what was not used as well.

    lenient: do without a further address that cannot be had. Raises BindError, as ``sockets.bind`` does.
    """
    stock = _Stock(given, lenient=lenient)
    bound = bind(listen, responders, stock.column)
    return bound, tuple(stock.left)


def refuse_unused(unused: Sequence[Given], listen: Sequence[str], responders: int) -> None:
    """Raise BindError when a service manager passed what nobody reads."""
    for each in unused:
        if any(each.is_for(text) for text in listen):
            raise BindError(f"{each} was passed more often than there are responders ({responders})")
        raise BindError(f"{each} was passed by LISTEN_FDS and is not in 'listen' ({', '.join(listen)})")


class _Stock:
    """What was given and not used yet, in the order of the responders."""

    def __init__(self, given: Sequence[Given], *, lenient: bool) -> None:
        self.left = list(given)
        self._lenient = lenient

    def column(self, text: str, responders: int) -> list[Endpoint]:
        """Give the endpoints of the address *text*; what is missing is bound."""
        found = {kind: self._take(text, kind, responders) for kind in _KINDS}
        both = [each for kind in _KINDS for each in found[kind]]
        if not both:
            try:
                return bind_column(text, responders)
            except BindError as fault:
                if not self._lenient:
                    raise
                log.error("%s; the other addresses are served", fault)
                return []
        host, port = both[0].socket.getsockname()[:2]
        for kind, some in found.items():
            if not some:
                log.info("%s (%s) was not passed: it is bound here", spelled(host, port), transport(kind))
        udps, tcps = (list(_filled(found[kind], host, port, kind, responders)) for kind in _KINDS)
        return [
            Endpoint(spelled(host, port), udp.socket, tcp.socket, text, udp.lent, tcp.lent)
            for udp, tcp in zip(udps, tcps, strict=True)
        ]

    def _take(self, text: str, kind: socket.SocketKind, most: int) -> list[Given]:
        found = [each for each in self.left if each.socket.type == kind and each.is_for(text)][:most]
        self.left = [each for each in self.left if each not in found]
        for each in found:
            try:
                adapt(each.socket)
            except OSError as fault:
                log.warning("%s cannot be set up as our own are: %s", each, fault.strerror)
        return found


def _filled(found: Sequence[Given], host: str, port: int, kind: socket.SocketKind, responders: int) -> Iterator[Given]:
    """Give one socket for each responder: those *found*, and further ones of the same port.

    Another user's port cannot be had a second time (a service manager binds as root); then the sockets are shared.
    """
    have = list(found) or [Given(bind_one(host, port, kind, shared=False))]
    yield from have
    if len(have) == responders:
        return
    shared = False
    for each in have:
        each.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    for row in range(len(have), responders):
        if not shared:
            try:
                yield Given(bind_one(host, port, kind, shared=True))
                continue
            except BindError as fault:
                log.info("%s; the responders share what was passed", fault)
                shared = True
        lender = have[row % len(have)]
        yield Given(lender.socket.dup(), lent=lender.lent)


def same(one: socket.socket, other: socket.socket) -> bool:
    """Tell whether two descriptors are one socket."""
    return os.fstat(one.fileno()).st_ino == os.fstat(other.fileno()).st_ino


def unshared(unused: Sequence[Given], bound: Bound) -> tuple[Given, ...]:
    """Give those of *unused* that no endpoint of *bound* reads either, and that nobody lent."""
    return tuple(
        each for each in unused if not each.lent and not any(same(each.socket, one) for one in bound.sockets())
    )
