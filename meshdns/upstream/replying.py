"""What a client is told: an entry, or why there is none, under its own id, case, EDNS and size. Pure."""

from typing import NamedTuple

from meshdns.upstream.cache import Entry
from meshdns.wire.query import Query
from meshdns.wire.reply import (
    AD,
    COPIED,
    QR,
    RA,
    TC,
    Ede,
    opt_record,
    option,
)

OPTION_EDE = 15
EDE_OTHER, EDE_STALE, EDE_STALE_NXDOMAIN, EDE_NO_REACHABLE_AUTHORITY, EDE_NETWORK_ERROR = 0, 3, 19, 22, 23
"""RFC 8914 §4."""


class Ours(NamedTuple):
    """What we say about a name of ours: rcode, and the RRset as the store keeps it (its owner is the question)."""

    rcode: int
    rrset: bytes


def render(
    query: Query,
    entry: Entry,
    body: bytes,
    limit: int,
    *,
    options: bytes = b"",
    ours: Ours | None = None,
    ede: Ede | None = None,
) -> bytes:
    """Give the reply to *query* that *entry* holds.

    body: the entry's records with the TTLs to tell. limit: octets; what is longer leaves with TC and no record.
    options: further EDNS options. ours: what to add at the end of a chain that ends at a name of ours.
    """
    edns = query.edns
    flags = QR | RA | query.flags & COPIED | entry.rcode
    # RFC 6840 §5.8: AD for who says that it understands it.
    if entry.authentic and (query.flags & AD or (edns is not None and edns.dnssec_ok)):
        flags |= AD
    counts = entry.counts
    tail = b""
    if edns is not None:
        if ede is not None:
            options += option(OPTION_EDE, ede.code.to_bytes(2, "big") + ede.text.encode()[:64])
        tail = opt_record(edns, 0, options)
    if ours is not None:
        flags = flags & ~(15 | AD) | ours.rcode
        added = _own(ours.rrset, entry.tail)
        body += added
        answers = int.from_bytes(counts[:2], "big") + int.from_bytes(ours.rrset[:2], "big")
        counts = answers.to_bytes(2, "big") + counts[2:]
    question = query.question
    if 12 + len(question) + len(body) + len(tail) > limit:
        flags |= TC
        body, counts = b"", b"\0\0\0\0"
    return b"".join(
        (query.id, flags.to_bytes(2, "big"), b"\0\1", counts, b"\0\1" if tail else b"\0\0", question, body, tail)
    )


def _own(rrset: bytes, owner: bytes) -> bytes:
    """Give the records of *rrset* (a count, then records owned by a pointer) owned by *owner* instead."""
    parts = []
    at = 2
    while at < len(rrset):
        end = at + 12 + (rrset[at + 10] << 8 | rrset[at + 11])
        parts += [owner, rrset[at + 2 : end]]
        at = end
    return b"".join(parts)
