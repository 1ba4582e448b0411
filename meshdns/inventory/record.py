"""The values that travel up the push street: a record is one name; a table is what one source says."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

IPAddress = IPv4Address | IPv6Address

DEFAULT_TTL = 30
"""Seconds. Kuma's own value since 2.11: an hour left clients with dead VIPs (kuma#13353)."""

MAX_TTL = 2**31 - 1
"""RFC 2181 §8."""

MAX_ADDRESSES = 1_000
"""Addresses of one record. 4,090 A records are what a 64 KiB TCP message holds; nobody sane needs a quarter."""


@dataclass(frozen=True, slots=True)
class Port:
    """A port on which a record's VIP listens.

    number: what a client dials. target: the service (or KRI) the listener sends to. placeholder: true where
    the number stands for whatever the service's real port is (``dnsServer.serviceVipPort``, 80).
    """

    number: int
    target: str
    placeholder: bool = False


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a record came from: the configured source, the resource or file in it, its version."""

    source: str
    resource: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class NameRecord:
    """One name with its addresses.

    name: as pushed, without the final dot (capitals kept). addresses: in the order pushed, no duplicates.
    ttl: seconds. ports: sorted by number, empty where unknown. service: ``kuma.io/service`` or KRI.
    """

    name: str
    addresses: tuple[IPAddress, ...]
    ttl: int = DEFAULT_TTL
    ports: tuple[Port, ...] = ()
    service: str | None = None
    origin: Origin = field(default=Origin(""), compare=False)


Listeners = Mapping[tuple[IPAddress, int], str]
"""(VIP, port) → service, for every outbound listener: some have no name, and some VIPs no listener."""


@dataclass(frozen=True, slots=True)
class Table:
    """What one source says at one moment. ``records`` is keyed by the name in lower case."""

    records: Mapping[str, NameRecord] = field(default_factory=dict)
    listeners: Listeners = field(default_factory=dict)
    lenient: bool = False
    """Whether a pair ``a_b.mesh``/``a.b.mesh`` at one VIP means that dots and underscores are interchangeable."""
