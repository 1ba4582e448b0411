"""What nearly every query looks like, recognised by its first and last octets looked up in tables.

A usual query is a header with one question, a name, a type, class IN, and at most an OPT without options. With the
octets before the name known and those behind it known, what lies between is a key of the store, or nothing that is
stored: no octet of the name need be looked at to find an answer.
"""

from collections.abc import Mapping

from meshdns.wire.query import MAX_NAME, Edns
from meshdns.wire.reply import (
    AA,
    AD,
    CD,
    NOERROR,
    NXDOMAIN,
    QR,
    RD,
    STREAM_MAXIMUM,
    UDP_MAXIMUM,
    UDP_MINIMUM,
    opt_record,
)
from meshdns.wire.rrset import AXFR, IXFR, QUESTION_OFFSET

Header = tuple[int, int, int | None, bytes, bytes, bytes, bytes]
"""What a usual query's header says, and what its replies' begin with behind the id; a plain tuple, because it is taken
apart for every query. Offsets from the query's end: where its ending, its class, and what follows its question begin.
Then of a positive reply flags and QDCOUNT; NSCOUNT and ARCOUNT; of NODATA and of NXDOMAIN, which have an SOA and no
answer, flags and all counts."""

Ending = tuple[bytes, int]
"""The OPT of the reply, or nothing; how many octets the client can take."""

ENDINGS = 1_024
"""Endings remembered: those with an OPT differ by the size in it. When full, forgotten."""

_NO_TYPES = (0, IXFR, AXFR)
"""No type (RFC 6895 §3.1), and types that no stored data answers."""

_IN = b"\0\1"
_OPT_LENGTH = 11


def usual_headers(available: int) -> Mapping[bytes, Header]:
    """Give the ten header octets after the id of usual queries → what they say.

    Usual: QUERY, one question, any RD, AD and CD, no other flag, nothing but perhaps one additional record. available:
    RA of the replies, or 0.
    """
    usual: dict[bytes, Header] = {}
    for rd in (0, RD):
        for ad in (0, AD):
            for cd in (0, CD):
                for additional in (b"\0\0", b"\0\1"):
                    flags = QR | AA | rd | cd | available
                    behind = _OPT_LENGTH if additional != b"\0\0" else 0
                    usual[(rd | ad | cd).to_bytes(2, "big") + b"\0\1\0\0\0\0" + additional] = (
                        -behind - 5,
                        -behind - 2,
                        -behind or None,
                        flags.to_bytes(2, "big") + b"\0\1",
                        b"\0\0" + additional,
                        flags.to_bytes(2, "big") + b"\0\1\0\0\0\1" + additional,
                        (flags | NXDOMAIN).to_bytes(2, "big") + b"\0\1\0\0\0\1" + additional,
                    )
    return usual


class Endings(dict[bytes, Ending | None]):
    """Last octet of a name, type, class, and what follows → what that means; None: nothing usual.

    stream: these queries come over TCP.
    """

    def __init__(self, *, stream: bool) -> None:
        super().__init__()
        self._stream = stream

    def __missing__(self, ending: bytes) -> Ending | None:
        meaning = _read_ending(ending, stream=self._stream)
        if meaning is not None:
            if len(self) >= ENDINGS:
                self.clear()
            self[ending] = meaning
        return meaning


def _read_ending(ending: bytes, *, stream: bool) -> Ending | None:
    """Give what *ending* means, or None for what is not usual.

    What is accepted begins with the end of a name and a type below 256. That sets the keys of RRsets apart from all
    others in the store: those end with a label and the root, or are no names at all.
    """
    if ending[:2] != b"\0\0" or ending[2] in _NO_TYPES or ending[3:5] != _IN:
        return None
    opt = ending[5:]
    tail, limit = b"", UDP_MINIMUM
    if opt:
        if opt[:3] != b"\0\0\x29" or opt[5:] not in _BARE_OPTS:
            return None
        tail, limit = _BARE_OPTS[opt[5:]], min(max(opt[3] << 8 | opt[4], UDP_MINIMUM), UDP_MAXIMUM)
    return tail, STREAM_MAXIMUM if stream else limit


def _bare_opts() -> dict[bytes, bytes]:
    """Give what follows the size in an OPT without options → the OPT of the reply."""
    return {
        bytes((0, 0, 0x80 if dnssec_ok else 0, 0, 0, 0)): opt_record(Edns(0, 0, dnssec_ok, ()), NOERROR)
        for dnssec_ok in (False, True)
    }


_BARE_OPTS = _bare_opts()


def is_name(query: bytes, end: int) -> bool:
    """Tell whether the octets of *query* from the question's start to *end* are one name of at most 255 octets."""
    at = QUESTION_OFFSET
    if not at < end <= at + MAX_NAME:
        return False
    while (length := query[at]) and length <= 63:
        at += 1 + length
        if at >= end:
            return False
    return at == end - 1 and not length
