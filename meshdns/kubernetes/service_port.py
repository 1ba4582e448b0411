"""What a Service's ports are called: the protocol where it is known, and a number.

Names are service names of RFC 6335 §5.1, which is what Ingress and probes take: at most 15 octets, lower case, a
letter somewhere, no two hyphens in a row.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from meshdns.inventory.kri import parse_kri
from meshdns.inventory.record import Port

MAX_PORT_NAME = 15

PROTOCOLS = {80: "http", 8080: "http", 443: "https", 8443: "https"}
"""What a service that listens there speaks; of any other port only TCP is known."""

_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*\Z")
_LEGACY_PORT = re.compile(r"_svc_([0-9]{1,5})\Z")


@dataclass(frozen=True, slots=True)
class ServicePort:
    """A port of a Service."""

    name: str
    number: int


def service_ports(ports: Iterable[Port]) -> tuple[ServicePort, ...]:
    """Name *ports*; the result is sorted by number, its names differ."""
    named: dict[str, int] = {}
    for port in sorted(ports, key=lambda port: port.number):
        name = _section(port) or f"{_protocol(port)}-{port.number}"
        if name in named:
            tail = f"-{port.number}"
            name = name[: MAX_PORT_NAME - len(tail)].rstrip("-") + tail
        named[name] = port.number
    return tuple(ServicePort(name, number) for name, number in named.items())


def http_port(ports: Iterable[ServicePort]) -> ServicePort | None:
    """Give the port that a route is for: the one that speaks HTTP, else 80, else the lowest; None of none."""
    return min(
        ports,
        key=lambda port: (not re.match(r"http(?!s)", port.name), port.number != 80, port.number),
        default=None,
    )


def _section(port: Port) -> str | None:
    """Give the name that the service itself has for *port*, if it has one that a Service can have."""
    kri = parse_kri(port.target)
    if kri is None or kri.section.isdigit():
        return None
    name = kri.section.lower().replace("_", "-")
    return name if len(name) <= MAX_PORT_NAME and _NAME.match(name) else None


def _protocol(port: Port) -> str:
    """Give the protocol of the service behind *port*: a placeholder's own number says nothing."""
    number: int | None = port.number
    if port.placeholder:
        match = _LEGACY_PORT.search(port.target)
        number = int(match[1]) if match else None
    return PROTOCOLS.get(number or 0, "tcp")
