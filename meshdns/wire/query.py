"""The guard: what of a datagram or a TCP message is a query, found in bounded time before any library sees it.

One pass from left to right, no recursion, no compression pointer followed in the question (a query has nothing to
point back to). The first defect ends the reading; what was readable before it is kept, so that the FORMERR can carry
the question and the OPT it answers (RFC 6891 §7). A datagram that is no query at all gets no answer.
"""

from typing import NamedTuple

from meshdns.wire.rrset import OPT, QUESTION_OFFSET

HEADER = 12
MAX_NAME = 255
"""Octets of a name on the wire with its root (RFC 1035 §2.3.4)."""

MAX_ADDITIONAL = 8
"""Records of the additional section that are looked at: a real query has an OPT and perhaps a TSIG or SIG(0)."""

MAX_POINTERS = 16
"""Pointers followed in the owner of an additional record, each of them backwards."""


class Edns(NamedTuple):
    """The OPT record of a query (RFC 6891 §6.1). size: octets, as advertised; options: (code, data) in order."""

    size: int
    version: int
    dnssec_ok: bool
    options: tuple[tuple[int, bytes], ...]


class Query(NamedTuple):
    """What could be read of a query.

    id: the two octets. flags: the second two as a number. name: the question's name in lower-case wire form,
    question: name, type and class octet for octet as received; both empty when the question could not be read.
    fault: why the message is malformed, None when it is not.
    """

    id: bytes
    flags: int
    name: bytes
    question: bytes
    qtype: int
    qclass: int
    edns: Edns | None
    fault: str | None

    @property
    def opcode(self) -> int:
        """The kind of query (RFC 1035 §4.1.1); 0 is QUERY."""
        return self.flags >> 11 & 15


class DefectError(Exception):
    """The message ends or lies at this point; the OPT that was read before it, if any."""

    def __init__(self, what: str, opt: Edns | None = None) -> None:
        self.what = what
        self.opt = opt
        super().__init__(what)


def parse_query(message: bytes) -> Query | None:
    """Give what *message* asks, or None for what gets no answer: too short for a header, or a response (QR=1).

    Answering a response would let two servers talk to each other for ever (CVE-2024-2169).
    """
    if len(message) < HEADER or message[2] & 0x80:
        return None
    flags = message[2] << 8 | message[3]
    counts = [int.from_bytes(message[at : at + 2], "big") for at in (4, 6, 8, 10)]
    name = question = b""
    qtype = qclass = 0
    edns: Edns | None = None
    fault: str | None = None
    try:
        if counts[0] != 1:
            raise DefectError(f"{counts[0]} questions")  # RFC 9619 §4
        end = _question_end(message)
        question = message[QUESTION_OFFSET:end]
        # Length octets are ≤ 63, below every letter, so folding cannot touch them; the type behind the name it could.
        name = question[:-4].lower()
        qtype, qclass = int.from_bytes(question[-4:-2], "big"), int.from_bytes(question[-2:], "big")
        if counts[1] or counts[2]:
            raise DefectError("records in the answer or authority section")
        edns = _additional(message, end, counts[3])
    except DefectError as defect:
        fault, edns = defect.what, defect.opt
    return Query(message[:2], flags, name, question, qtype, qclass, edns, fault)


def _question_end(message: bytes) -> int:
    at, size = QUESTION_OFFSET, len(message)
    while True:
        if at >= size:
            raise DefectError("question cut short")
        length = message[at]
        if length > 63:
            raise DefectError("pointer or unknown label type in the question")
        at += 1 + length
        if at - QUESTION_OFFSET > MAX_NAME:
            raise DefectError("name longer than 255 octets")
        if not length:
            break
    if at + 4 > size:
        raise DefectError("question cut short")
    return at + 4


def _additional(message: bytes, at: int, count: int) -> Edns | None:
    """Walk the additional section to the message's end; give its OPT when it has one."""
    if count > MAX_ADDITIONAL:
        raise DefectError(f"{count} additional records")
    found: Edns | None = None
    for _ in range(count):
        start = at
        at = name_end(message, at)
        if at + 10 > len(message):
            raise DefectError("additional record cut short", found)
        rtype = message[at] << 8 | message[at + 1]
        fixed, data = at + 2, at + 10
        at = data + (message[at + 8] << 8 | message[at + 9])
        if at > len(message):
            raise DefectError("additional record cut short", found)
        if rtype != OPT:
            continue
        if found is not None:
            raise DefectError("two OPT records", found)  # RFC 6891 §6.1.1
        found = Edns(
            size=message[fixed] << 8 | message[fixed + 1],
            version=message[fixed + 3],
            dnssec_ok=bool(message[fixed + 4] & 0x80),
            options=(),
        )
        if message[start]:
            raise DefectError("OPT owner is not the root", found)
        found = found._replace(options=_options(message[data:at], found))
    if at != len(message):
        raise DefectError("octets after the last record", found)
    return found


def _options(rdata: bytes, opt: Edns) -> tuple[tuple[int, bytes], ...]:
    options = []
    at, size = 0, len(rdata)
    while at < size:
        end = at + 4 + (rdata[at + 2] << 8 | rdata[at + 3]) if at + 4 <= size else size + 1
        if end > size:
            raise DefectError("EDNS option runs past its record", opt)
        options.append((rdata[at] << 8 | rdata[at + 1], rdata[at + 4 : end]))
        at = end
    return tuple(options)


def name_end(message: bytes, at: int) -> int:
    """Give where the name at *at* ends.

    Raises DefectError unless its pointers lead backwards, a bounded number of times (RFC 1035 §4.1.4).
    """
    end = 0
    used = 0
    jumps = 0
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
            at = target
            continue
        if length > 63:
            raise DefectError("unknown label type")
        at += 1 + length
        used += 1 + length
        if used > MAX_NAME:
            raise DefectError("name longer than 255 octets")
        if not length:
            return end or at
