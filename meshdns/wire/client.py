"""The client's side, for people: a query from a name in text, a reply as text.

dnslib turns records into zone-file text. It follows pointers recursively, so a reply is bounded here first: every
owner name and every name in RDATA that dnslib reads is walked with a limit on pointers.
"""

from dataclasses import dataclass

from dnslib import DNSRecord
from dnslib.dns import DNSError

from meshdns.errors import FormatError
from meshdns.wire.query import DefectError, name_end
from meshdns.wire.reply import RCODE_NAMES, RD, TC, UDP_MAXIMUM
from meshdns.wire.rrset import CNAME, IN, MX, NS, OPT, PTR, QUESTION_OFFSET, SOA, SRV

_NAMES_IN_RDATA = {NS: (0, 1), CNAME: (0, 1), PTR: (0, 1), SOA: (0, 2), MX: (2, 1), SRV: (6, 1)}
"""Type → octets before the first name in its RDATA, and how many names follow."""


@dataclass(frozen=True, slots=True)
class ReplyText:
    """A reply for a person: each record as a line of zone-file text.

    extended_error: (code, text) of RFC 8914 where the server gave one. addresses: of A and AAAA records, in order.
    """

    rcode: str
    authoritative: bool
    truncated: bool
    answers: tuple[str, ...]
    authority: tuple[str, ...]
    addresses: tuple[str, ...]
    extended_error: tuple[int, str] | None


def make_query(name: bytes, qtype: int, *, id: int, udp_size: int = UDP_MAXIMUM) -> bytes:
    """Give a query for *name* (wire form) with RD set and an OPT that advertises *udp_size* octets."""
    header = id.to_bytes(2, "big") + RD.to_bytes(2, "big") + b"\0\1\0\0\0\0\0\1"
    return header + name + qtype.to_bytes(2, "big") + b"\0\1" + b"\0\0\x29" + udp_size.to_bytes(2, "big") + b"\0" * 6


def is_reply_to(query: bytes, reply: bytes) -> bool:
    """Tell whether *reply* answers *query*: same id, QR set, same question octet for octet (RFC 5452 §9.1)."""
    question = query[QUESTION_OFFSET:-11]
    return (
        len(reply) >= QUESTION_OFFSET
        and reply[:2] == query[:2]
        and bool(reply[2] & 0x80)
        and (reply[4:6] == b"\0\0" or reply[QUESTION_OFFSET : QUESTION_OFFSET + len(question)] == question)
    )


def is_truncated(reply: bytes) -> bool:
    """Tell whether TC is set: ask again over TCP."""
    return bool(reply[2] << 8 & TC)


def describe(reply: bytes) -> ReplyText:
    """Give *reply* as text.

    Raises FormatError for octets that are not a well-formed DNS message.
    """
    _bound(reply)
    try:
        message = DNSRecord.parse(reply)
    except (DNSError, ValueError, IndexError, UnicodeError) as error:
        raise FormatError(f"malformed reply: {error}") from error
    extended = None
    for record in message.ar:
        if record.rtype == OPT:
            options = {option.code: option.data for option in record.rdata}
            if 15 in options and len(options[15]) >= 2:
                extended = (int.from_bytes(options[15][:2], "big"), options[15][2:].decode("utf-8", "replace"))
    extra = next((record.ttl >> 24 for record in message.ar if record.rtype == OPT), 0)
    rcode = extra << 4 | int(message.header.rcode)
    return ReplyText(
        rcode=RCODE_NAMES.get(rcode, f"RCODE{rcode}"),
        authoritative=bool(message.header.aa),
        truncated=bool(message.header.tc),
        answers=tuple(record.toZone() for record in message.rr),
        authority=tuple(record.toZone() for record in message.auth),
        addresses=tuple(str(record.rdata) for record in message.rr if record.rtype in (1, 28)),
        extended_error=extended,
    )


def _bound(message: bytes) -> None:
    """Raise FormatError unless every name of *message* that will be read is short and ends."""
    try:
        if len(message) < QUESTION_OFFSET:
            raise DefectError("no header")
        at = QUESTION_OFFSET
        for _ in range(int.from_bytes(message[4:6], "big")):
            at = name_end(message, at) + 4
        for _ in range(sum(int.from_bytes(message[i : i + 2], "big") for i in (6, 8, 10))):
            at = name_end(message, at)
            rtype, rclass = int.from_bytes(message[at : at + 2], "big"), int.from_bytes(message[at + 2 : at + 4], "big")
            data = at + 10
            at = data + int.from_bytes(message[at + 8 : at + 10], "big")
            if at > len(message):
                raise DefectError("record cut short")
            if rclass == IN and rtype in _NAMES_IN_RDATA:
                skip, names = _NAMES_IN_RDATA[rtype]
                data += skip
                for _ in range(names):
                    data = name_end(message, data)
    except DefectError as defect:
        raise FormatError(f"malformed reply: {defect.what}") from None
