"""How many replies one network gets: a forged source must not turn us on its victim.

Over UDP anybody can write anybody's address into a query. Per network (/24 of IPv4, /56 of IPv6) and second, replies
to one question, denials and errors are counted; beyond the limit a reply is cut to its question with TC set. It is
then no larger than the query, and a true client asks again over TCP, where its address is proven.
"""

import socket

from meshdns.resolver.settings import RateLimitSettings
from meshdns.wire.reply import NXDOMAIN

WINDOW = 1.0
"""Seconds that counts last."""

MAX_COUNTS = 65_536
"""Counts kept; when there are more in one second, all begin anew."""

_HEADER = 12


class RateLimit:
    """Counts replies; pure, the time is an argument (seconds of any monotonic clock)."""

    def __init__(self, settings: RateLimitSettings) -> None:
        self._errors = settings.errors
        self._identical = settings.identical
        self._counts: dict[bytes, int] = {}
        self._began = float("-inf")

    def exceeded(self, host: str, reply: bytes, now: float) -> bool:
        """Tell whether *reply* to the client at *host* is one too many; it counts in any case."""
        if now - self._began >= WINDOW or len(self._counts) >= MAX_COUNTS:
            self._counts.clear()
            self._began = now
        network = _network(host)
        rcode = reply[3] & 15
        if rcode == NXDOMAIN:  # of whatever name: a resolver that asks for many clients gets many
            limit, key = self._identical, network + b"nxdomain"
        elif rcode:
            limit, key = self._errors, network
        else:
            limit, key = self._identical, network + _question(reply).lower()
        count = self._counts.get(key, 0) + 1
        self._counts[key] = count
        return 0 < limit < count


def cut(reply: bytes) -> bytes:
    """Give *reply* with TC set and nothing behind its question: never more octets than the query had."""
    flags = reply[2] | 0x02
    return reply[:2] + bytes((flags, reply[3])) + reply[4:6] + b"\0" * 6 + _question(reply)


def _question(reply: bytes) -> bytes:
    if reply[4:6] != b"\0\1":
        return b""
    at = _HEADER
    while reply[at]:
        at += 1 + reply[at]
    return reply[_HEADER : at + 5]


def _network(host: str) -> bytes:
    if ":" in host:
        return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])[:7]
    return socket.inet_aton(host)[:3]
