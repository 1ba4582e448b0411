"""The values of ``addresses`` and ``twins``: names, a line each, sorted."""

from collections.abc import Iterable

from meshdns.inventory.record import IPAddress, NameRecord

UNPOINTED = "~"
"""Before a name in ``addresses``: it resolves to the address, but its other spelling stands in the PTR entry.

No name that can be served contains it.
"""


def lines(value: bytes | None) -> list[str]:
    """Give the lines of a value, None when there is no entry."""
    return value.decode().split("\n") if value else []


def joined(names: Iterable[str]) -> bytes:
    """Give the value for these lines."""
    return "\n".join(sorted(names)).encode()


def names_at(value: bytes | None) -> tuple[str, ...]:
    """Give the names in a value of ``addresses``, sorted."""
    return tuple(sorted(line.removeprefix(UNPOINTED) for line in lines(value)))


def addressed(record: NameRecord) -> list[IPAddress]:
    """Give the addresses at which *record* stands in ``addresses``.

    An IPv4-mapped one beside its own IPv4 address (Kuma gives every VIP twice) would only say the same again.
    """
    own = record.addresses
    return [each for each in own if each.version == 4 or (inner := each.ipv4_mapped) is None or inner not in own]
