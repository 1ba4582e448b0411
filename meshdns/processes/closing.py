"""The end of a service without a lost query: first nothing new arrives, then what has arrived is answered.

A socket that is closed loses what waits in it, and one that is emptied first gets more meanwhile. So the sockets are
sealed: for all processes that share them at once, and without touching what is inside.
"""

import array
import logging
import socket
import struct
from collections.abc import Iterable

from meshdns.transport.sockets import Bound

log = logging.getLogger(__name__)

SETTLE = 0.1
"""Seconds from sealing to closing: for handshakes on their way, and for first queries of connections just made."""

_SOMEWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}

_SO_ATTACH_FILTER = 26
"""Linux; the socket module does not name it."""

_NO_SYN = (
    (0x30, 0, 0, 13),  # load the octet of the TCP header that holds its flags (RFC 9293 §3.1)
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 1, 0, 0x02),  # SYN alone: drop
    (0x06, 0, 0, 0xFFFFFFFF),  # anything else: take it whole
    (0x06, 0, 0, 0),
)
"""A classic BPF program (bpf(4)): code, jump if true, jump if false, operand."""


def seal(bound: Bound) -> None:
    """Let no further client into the sockets of *bound*; who is inside stays readable and answerable.

    What was lent to us is left as it is: its owner starts the next instance with it, and queries wait there for that.
    """
    for row in bound.rows:
        for endpoint in row:
            seal_sockets(
                each
                for each, lent in ((endpoint.udp, endpoint.udp_lent), (endpoint.tcp, endpoint.tcp_lent))
                if not lent
            )


def seal_sockets(sockets: Iterable[socket.socket]) -> None:
    """Do for each of *sockets* what :func:`seal` does."""
    for each in sockets:
        try:
            if each.type == socket.SOCK_DGRAM:
                _seal_datagrams(each)
            else:
                _seal_connections(each)
        except OSError as fault:  # then a query of the last microseconds may be lost
            log.debug("%s cannot be sealed: %s", each.getsockname(), fault)


def _seal_datagrams(udp: socket.socket) -> None:
    """Connect *udp* to itself: it then takes nothing from others, who are refused at once by ICMP as after the end."""
    host, *rest = udp.getsockname()
    udp.connect((_SOMEWHERE.get(host, host), *rest))


def _seal_connections(listening: socket.socket) -> None:
    """Drop new handshakes; their clients try again (RFC 6298 §2: after a second) and are refused then."""
    program = array.array("B", b"".join(struct.pack("=HBBI", *step) for step in _NO_SYN))
    address, _ = program.buffer_info()
    listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_NO_SYN), address))
