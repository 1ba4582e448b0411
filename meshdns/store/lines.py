"""The values of ``addresses`` and ``twins``: names, a line each, sorted.

What the PTR RRset of an address says already has no entry in ``addresses``: that is one name to be pointed at, which
nearly every VIP has.
"""

from collections.abc import Iterable, Sequence

from meshdns.inventory.name import is_mapped
from meshdns.inventory.record import IPAddress, NameRecord
from meshdns.wire.name import labels
from meshdns.wire.rrset import PTR, rrset

UNPOINTED = "~"
"""Before a name in ``addresses``: it resolves to the address, but its other spelling stands in the PTR entry.

No name that can be served contains it.
"""

_NEVER_POINTED_AT = UNPOINTED + "*"
"""How lines begin of names that no PTR record points at."""

_TARGET = len(rrset(PTR, 0, [b""]))
"""Octet of an RRset at which the RDATA of its first record begins."""


def lines(value: bytes | None) -> list[str]:
    """Give the lines of a value, None when there is no entry."""
    return value.decode().split("\n") if value else []


def joined(names: Iterable[str]) -> bytes:
    """Give the value for these lines."""
    return "\n".join(sorted(names)).encode()


def must_be_listed(address: IPAddress, known: Sequence[str]) -> bool:
    """Tell whether the *known* lines of *address* need an entry: whether its PTR RRset would not say the same."""
    return len(known) != 1 or known[0][0] in _NEVER_POINTED_AT or is_mapped(address)


def lines_at(listed: bytes | None, pointers: bytes | None) -> list[str]:
    """Give the lines of an address. listed: its entry in ``addresses``. pointers: its PTR RRset."""
    if listed is not None or pointers is None:
        return lines(listed)
    return [pointed_at(pointers[_TARGET:])]


def pointed_at(target: bytes) -> str:
    """Give the name that a PTR record points at, in lower-case wire form, as a line has it."""
    return b".".join(labels(target)).decode("ascii")


def addressed(record: NameRecord) -> list[IPAddress]:
    """Give the addresses at which *record* stands in ``addresses``.

    An IPv4-mapped one beside its own IPv4 address (Kuma gives every VIP twice) would only say the same again.
    """
    own = record.addresses
    return [each for each in own if each.version == 4 or (inner := each.ipv4_mapped) is None or inner not in own]
