"""Names as text: checking what was pushed, zones, the two spellings, reverse names.

Text here is the presentation form without escapes: labels of letters, digits, ``-`` and ``_``, joined by dots,
no final dot; ``*`` only as the whole leftmost label. That is what can reach DNS from a mesh; anything else that a
control plane pushes (kuma-cp takes ``a..b`` and 64-octet labels) is impossible to ask for usefully and is refused.
"""

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from meshdns.errors import ResourceError
from meshdns.inventory.record import IPAddress

MAX_NAME = 253
"""Octets of a name in text without the final dot: 255 on the wire (RFC 1035 §2.3.4)."""

MAX_LABEL = 63
"""RFC 1035 §2.3.4."""

_LABEL = re.compile(r"[A-Za-z0-9_-]+\Z")


def check_name(name: str) -> str:
    """Give *name* without its final dot, as pushed otherwise.

    Raises ResourceError saying why the name cannot be served.
    """
    text = name[:-1] if name.endswith(".") else name
    if not text:
        raise ResourceError(f"{name!r}: empty name")
    if len(text) > MAX_NAME:
        raise ResourceError(f"{name[:40]!r}…: {len(text)} octets, the limit is {MAX_NAME}")
    labels = text.split(".")
    for position, label in enumerate(labels):
        if not label:
            raise ResourceError(f"{name!r}: empty label")
        if len(label) > MAX_LABEL:
            raise ResourceError(f"{name!r}: label of {len(label)} octets, the limit is {MAX_LABEL}")
        if label == "*":
            if position or len(labels) == 1:
                raise ResourceError(f"{name!r}: '*' may only be the leftmost label of a longer name")
        elif not _LABEL.match(label):
            raise ResourceError(f"{name!r}: only letters, digits, '-' and '_' can be served")
    return text


def zone_of(name: str, zones: Iterable[str]) -> str | None:
    """Give the longest of *zones* that *name* (lower case) is in or under, on a label boundary; None if none."""
    best: str | None = None
    for zone in zones:
        if (name == zone or name.endswith("." + zone)) and (best is None or len(zone) > len(best)):
            best = zone
    return best


def dotted(name: str, zone: str) -> str:
    """Give *name* with every underscore left of *zone* replaced by a dot (Kuma's second spelling)."""
    if name == zone:
        return name
    return name[: -len(zone) - 1].replace("_", ".") + "." + zone


def is_mapped(address: IPAddress) -> bool:
    """Tell whether *address* is an IPv4-mapped IPv6 address (``::ffff:a.b.c.d``), as Kuma adds beside each VIP."""
    return isinstance(address, IPv6Address) and address.ipv4_mapped is not None


def reverse_zones(network: IPv4Network | IPv6Network) -> tuple[str, ...]:
    """Give the reverse zones that together cover *network*, cut at octets (IPv4) or nibbles (IPv6)."""
    step, suffix = (8, "in-addr.arpa") if isinstance(network, IPv4Network) else (4, "ip6.arpa")
    length = max(step, -(-network.prefixlen // step) * step)
    zones = []
    for subnet in network.subnets(new_prefix=length):
        whole = subnet.network_address.reverse_pointer.removesuffix("." + suffix).split(".")
        zones.append(".".join(whole[-(length // step) :]) + "." + suffix)
    return tuple(zones)


def check_address(text: str) -> IPAddress:
    """Give *text* as an address that a client can be sent to.

    Raises ResourceError for what is no IP address, and for unspecified, multicast and broadcast ones.
    """
    try:
        address: IPAddress = IPv4Address(text) if "." in text and ":" not in text else IPv6Address(text)
    except ValueError:
        raise ResourceError(f"{text[:60]!r} is not an IP address") from None
    if address.is_unspecified or address.is_multicast or text == "255.255.255.255":
        raise ResourceError(f"{text} cannot be the address of a service")
    if isinstance(address, IPv6Address) and address.scope_id:
        raise ResourceError(f"{text}: an address with a scope cannot be served")
    return address
