"""Responses of other servers, read in bounded time; their names are expanded, so that a record is right anywhere.

Nothing of a response is believed here: whether it answers a query is for ``upstream.exchange`` and what of it is used
for ``upstream.checking``. Here only: is it well-formed, and what does it say.
"""

import struct
from typing import NamedTuple

from meshdns.wire.query import HEADER, MAX_NAME, MAX_POINTERS, DefectError
from meshdns.wire.rrset import AAAA, AT_QUESTION, CNAME, MX, NS, OPT, PTR, SOA, SRV, A

MAX_RECORDS = 2_048
"""Records of one response; what has more is an attack on whoever reads it."""

MAX_EXPANDED = 128 << 10
"""Octets of all names and data once expanded: compression must not multiply work (CVE-2024-8508)."""

_FIXED = struct.Struct("!HHIH")
_LENGTHS = {A: 4, AAAA: 16}

NAMES_IN_RDATA = {
    NS: (0, 1), 3: (0, 1), 4: (0, 1), CNAME: (0, 1), SOA: (0, 2), 7: (0, 1), 8: (0, 1), 9: (0, 1), PTR: (0, 1),
    14: (0, 2), MX: (2, 1), 17: (0, 2), 18: (2, 1), 21: (2, 1), 24: (18, 1), 26: (2, 2), 30: (0, 1), SRV: (6, 1),
    36: (2, 1), 39: (0, 1),
}  # fmt: skip
"""Type → octets before the first name in its RDATA, and how many names follow; these names may arrive compressed
(RFC 3597 §4; NAPTR is read apart). The RDATA of any other type is opaque (RFC 3597 §3)."""

COMPRESSIBLE = frozenset((NS, 3, 4, CNAME, SOA, 7, 8, 9, PTR, 14, MX))
"""Types whose names may leave compressed (RFC 3597 §4)."""

_NAPTR = 35


class Record(NamedTuple):
    """One resource record. owner and the names in rdata: expanded, in the case in which they came. ttl: seconds."""

    owner: bytes
    rtype: int
    rclass: int
    ttl: int
    rdata: bytes


class Response(NamedTuple):
    """What a response says. rcode: with the OPT's upper bits. has_opt: it has an OPT."""

    flags: int
    rcode: int
    answers: list[Record]
    authority: list[Record]
    has_opt: bool


def parse_response(message: bytes, question: bytes) -> Response:
    """Give what *message* says; *question* is the question octet for octet, with which its body begins.

    Raises DefectError for what is not well-formed.
    """
    if len(message) < HEADER or message[4:6] != b"\0\1" or not message.startswith(question, HEADER):
        raise DefectError("another question")
    return _Reader(message, question[:-4]).read(HEADER + len(question))


class _Reader:
    """One pass over one message; names already expanded are remembered by where they begin.

    question: the name with which its body begins.
    """

    __slots__ = ("_expanded", "_message", "_names", "_question")

    def __init__(self, message: bytes, question: bytes) -> None:
        self._message = message
        self._question = question
        self._names: dict[int, bytes] = {}
        self._expanded = 0

    def read(self, at: int) -> Response:
        message = self._message
        flags, _, answers, authorities, additional = struct.unpack_from("!5H", message, 2)
        if answers + authorities + additional > MAX_RECORDS:
            raise DefectError("too many records")
        answer, at = self._section(at, answers)
        authority, at = self._section(at, authorities)
        extended, has_opt = 0, False
        for _ in range(additional):  # nothing of it is used but the OPT
            at = at + 1 if message[at : at + 1] == b"\0" else self._name(at)[1]
            if at + 10 > len(message):
                raise DefectError("record cut short")
            rtype, _, ttl, length = _FIXED.unpack_from(message, at)
            at += 10 + length
            if at > len(message):
                raise DefectError("record cut short")
            if rtype == OPT:
                if has_opt:
                    raise DefectError("two OPT records")
                extended, has_opt = ttl >> 24, True
        return Response(flags, extended << 4 | flags & 15, answer, authority, has_opt)

    def _section(self, at: int, count: int) -> tuple[list[Record], int]:
        message = self._message
        records = []
        for _ in range(count):
            if message[at : at + 2] == AT_QUESTION:  # as nearly every record has it
                owner, at = self._question, at + 2
            else:
                owner, at = self._name(at)
            if at + 10 > len(message):
                raise DefectError("record cut short")
            rtype, rclass, ttl, length = _FIXED.unpack_from(message, at)
            data = at + 10
            at = data + length
            if at > len(message):
                raise DefectError("record cut short")
            rdata = self._rdata(rtype, data, at)
            self._expanded += len(owner) + len(rdata)
            if self._expanded > MAX_EXPANDED:
                raise DefectError("expands to too much")
            records.append(Record(owner, rtype, rclass, ttl, rdata))
        return records, at

    def _rdata(self, rtype: int, at: int, end: int) -> bytes:
        message = self._message
        if rtype in _LENGTHS:
            if end - at != _LENGTHS[rtype]:
                raise DefectError("address of a wrong length")
            return message[at:end]
        if rtype == _NAPTR:
            skip, names = self._naptr(at, end), 1
        elif rtype in NAMES_IN_RDATA:
            skip, names = NAMES_IN_RDATA[rtype]
        else:
            return message[at:end]
        parts = [message[at : at + skip]]
        at += skip
        for _ in range(names):
            if at >= end:
                raise DefectError("no name where one must be")
            name, at = self._name(at)
            parts.append(name)
        if at > end or (rtype == SOA and end - at != 20):
            raise DefectError("name or data past its record")
        parts.append(message[at:end])
        return b"".join(parts)

    def _naptr(self, at: int, end: int) -> int:
        """Give the octets before the name: order, preference and three character strings (RFC 3403 §4.1)."""
        here = at + 4
        for _ in range(3):
            if here >= end:
                raise DefectError("NAPTR cut short")
            here += 1 + self._message[here]
        return here - at

    def _name(self, at: int) -> tuple[bytes, int]:
        """Give the name at *at* expanded, and where it ends; pointers lead backwards, a bounded number of times."""
        message = self._message
        start, end, jumps, used = at, 0, 0, 0
        parts: list[bytes] = []
        while True:
            if at >= len(message):
                raise DefectError("name cut short")
            length = message[at]
            if length >= 0xC0:
                if at + 1 >= len(message):
                    raise DefectError("pointer cut short")
                target = (length & 0x3F) << 8 | message[at + 1]
                end = end or at + 2
                jumps += 1
                if target >= at or target < HEADER or jumps > MAX_POINTERS:
                    raise DefectError("pointer that leads nowhere")
                known = self._names.get(target)
                if known is not None:
                    parts.append(known)
                    used += len(known)
                    break
                at = target
                continue
            if length > 63:
                raise DefectError("unknown label type")
            parts.append(message[at : at + 1 + length])
            at += 1 + length
            used += 1 + length
            if not length:
                break
            if used > MAX_NAME:
                raise DefectError("name longer than 255 octets")
        if used > MAX_NAME:
            raise DefectError("name longer than 255 octets")
        name = self._names[start] = b"".join(parts)
        return name, end or at
