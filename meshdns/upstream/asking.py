"""Our own queries, and which datagram or message answers one of them. Pure.

Hop by hop (RFC 6891 §6.1.1): of a client's query only the question, DO and CD travel on; id, OPT and the case of the
letters are ours. An answer must match in every respect (RFC 5452 §9.1); what does not is as if it had not come.
"""

from enum import Enum, auto
from typing import NamedTuple

from meshdns.wire.query import HEADER, DefectError
from meshdns.wire.reply import AD, CD, FORMERR, NOTIMP, RD, TC, UDP_MAXIMUM
from meshdns.wire.response import Response, parse_response

_LETTERS = bytes(0x20 if chr(octet).isascii() and chr(octet).isalpha() else 0 for octet in range(256))


class Form(NamedTuple):
    """How a server is asked. edns: with an OPT. mixed_case: letters in random case (draft-vixie-dnsext-dns0x20)."""

    edns: bool = True
    mixed_case: bool = True


def mix_case(name: bytes, entropy: bytes) -> bytes:
    """Give *name* (wire form) with each letter's case as a bit of *entropy*, which has as many octets, says."""
    # Length octets are at most 63 and no letters, so they stay.
    mask = int.from_bytes(name.translate(_LETTERS), "big") & int.from_bytes(entropy, "big")
    return (int.from_bytes(name, "big") ^ mask).to_bytes(len(name), "big")


def build_query(question: bytes, *, id: bytes, dnssec: bool, unchecked: bool, edns: bool) -> bytes:
    """Give a query for *question* (name, type, class octet for octet).

    dnssec, unchecked: DO and CD. AD says that we understand it in the answer (RFC 6840 §5.7).
    """
    flags = RD | AD | (CD if unchecked else 0)
    opt = b""
    if edns:
        opt = b"\0\0\x29" + UDP_MAXIMUM.to_bytes(2, "big") + (b"\0\0\x80\0" if dnssec else b"\0\0\0\0") + b"\0\0"
    counts = b"\0\1\0\0\0\0\0\1" if edns else b"\0\1\0\0\0\0\0\0"
    return id + flags.to_bytes(2, "big") + counts + question + opt


class Heard(Enum):
    """What is no answer."""

    NOTHING = auto()
    """Not to us, or malformed: the wait goes on as if it had not come."""
    OTHER_CASE = auto()
    """Our question with its letters in another case: the server does not give case back."""
    BARE_ERROR = auto()
    """A header that refuses, with our id and no question: perhaps a server that cannot read an OPT."""


def hear(query: bytes, question: bytes, reply: bytes) -> Response | Heard:
    """Give what *reply* says to *query*, whose question is *question*.

    Of a truncated answer (TC) nothing but its header is read: none of its records may be used (RFC 2181 §9).
    """
    if len(reply) < HEADER or reply[:2] != query[:2] or reply[2] & 0xF8 != 0x80:
        return Heard.NOTHING
    if reply[4:6] == b"\0\0":
        bare = len(reply) == HEADER and reply[3] & 15 in (FORMERR, NOTIMP)
        return Heard.BARE_ERROR if bare else Heard.NOTHING
    end = HEADER + len(question)
    theirs = reply[HEADER:end]
    if reply[4:6] != b"\0\1":
        return Heard.NOTHING
    if theirs != question:
        same = theirs[-4:] == question[-4:] and theirs[:-4].lower() == question[:-4].lower()
        return Heard.OTHER_CASE if same else Heard.NOTHING
    flags = reply[2] << 8 | reply[3]
    if flags & TC:
        return Response(flags, flags & 15, [], [], False)
    try:
        return parse_response(reply, question)
    except DefectError:
        return Heard.NOTHING
