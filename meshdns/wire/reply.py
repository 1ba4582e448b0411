"""Replies: header, question as asked, RRsets as stored, SOA, OPT; truncated where the client cannot take more.

Sections are joined, never parsed again. Nothing here decides what is answered.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from meshdns.wire.query import Edns, Query

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16
RCODE_NAMES = {
    0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 9: "NOTAUTH", 16: "BADVERS",
}  # fmt: skip

QR, AA, TC, RD, RA, AD, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010
COPIED = 0x7800 | RD | CD
"""Opcode, RD and CD come back as they came (RFC 1035 §4.1.1, RFC 4035 §3.2.2)."""

UDP_MINIMUM = 512
"""RFC 1035 §2.3.4; RFC 6891 §6.2.3 treats smaller EDNS sizes as this."""

UDP_MAXIMUM = 1232
"""Octets of a UDP reply whatever the client advertises: no fragments (DNS flag day 2020, RFC 9715)."""

STREAM_MAXIMUM = 65535

EDE_NOT_READY, EDE_PROHIBITED, EDE_NOT_AUTHORITATIVE = 14, 18, 20
"""RFC 8914 §4."""

_OPTION_EDE, OPTION_KEEPALIVE = 15, 11


class Later(Protocol):
    """A reply that is not there yet: somebody else is being asked."""

    def deliver_to(self, send: Callable[[bytes], None], /) -> None:
        """Hand the reply to *send* when it is there: once, and perhaps at once."""


Reply = bytes | Later | None
"""What becomes of a query: its reply now, or later, or none."""


class Ede(NamedTuple):
    """An extended error (RFC 8914): its code, and a text of at most 64 octets."""

    code: int
    text: str


def size_limit(edns: Edns | None, *, stream: bool) -> int:
    """Give the octets that the client can take in one reply."""
    if stream:
        return STREAM_MAXIMUM
    return UDP_MINIMUM if edns is None else min(max(edns.size, UDP_MINIMUM), UDP_MAXIMUM)


def opt_record(edns: Edns, rcode: int, options: bytes = b"") -> bytes:
    """Give the OPT of a reply: version 0, DO as asked (RFC 3225 §3), unknown flags clear (RFC 6891 §6.1.4)."""
    return (
        b"\0\0\x29"
        + UDP_MAXIMUM.to_bytes(2, "big")
        + bytes((rcode >> 4, 0, 0x80 if edns.dnssec_ok else 0, 0))
        + len(options).to_bytes(2, "big")
        + options
    )


def option(code: int, data: bytes) -> bytes:
    """Give one EDNS option (RFC 6891 §6.1.2)."""
    return code.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data


def build_reply(
    query: Query,
    rcode: int,
    *,
    limit: int,
    authoritative: bool = False,
    rrset: bytes = b"",
    soa: bytes = b"",
    ede: Ede | None = None,
    options: bytes = b"",
    recursion: bool = False,
) -> bytes:
    """Give the reply to *query*.

    rrset: a count and records, as the store keeps them. soa: one record for the authority section. limit: octets;
    a longer reply is sent with neither and TC=1 (RFC 2181 §9). ede and options need an OPT in the query.
    recursion: other names are answered too (RA).
    """
    flags = QR | query.flags & COPIED | rcode & 15 | (AA if authoritative else 0) | (RA if recursion else 0)
    tail = b""
    if query.edns is not None:
        if ede is not None:
            options += option(_OPTION_EDE, ede.code.to_bytes(2, "big") + ede.text.encode()[:64])
        tail = opt_record(query.edns, rcode, options)
    head = len(query.question) and 1
    body = rrset[2:] + soa
    answers = rrset[:2] or b"\0\0"
    authorities = 1 if soa else 0
    if 12 + len(query.question) + len(body) + len(tail) > limit:
        flags |= TC
        body, answers, authorities = b"", b"\0\0", 0
    return b"".join(
        (
            query.id,
            flags.to_bytes(2, "big"),
            head.to_bytes(2, "big"),
            answers,
            authorities.to_bytes(2, "big"),
            b"\0\1" if tail else b"\0\0",
            query.question,
            body,
            tail,
        )
    )
