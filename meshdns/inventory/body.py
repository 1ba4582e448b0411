"""A record as octets, and a table's records kept as such: what 100,000 names are read, compared and stored as.

A body is JSON of everything that makes a record equal to another, and a NUL: two records are equal exactly when their
bodies are. (JSON text has no NUL of its own.) ``Bodies`` keeps a table in 300 octets a name instead of 1,000, and what
has the same bodies needs no look at any record.
"""

import json
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from json.encoder import encode_basestring_ascii as quoted
from operator import eq

from meshdns.inventory.record import IPAddress, NameRecord, Origin, Port

NOTHING_LISTENS = b"[],null]\0"
"""How the body of a record ends that has neither ports nor a service."""

MAPPED = b"00000000000000000000ffff"
"""How an IPv4-mapped address begins in a body."""


LARGE = 5_000
"""From this many names on a table is packed."""


class Bodies(Mapping[str, NameRecord]):
    """Records by their names in lower case, all of one origin, each made when it is asked for.

    octets: the body of each. It must not be changed any more.
    """

    __slots__ = ("__weakref__", "_octets", "_packed", "origin")

    def __init__(self, octets: Mapping[str, bytes], origin: Origin) -> None:
        self._octets: Mapping[str, bytes] | None = octets
        self._packed = ("", b"")
        self.origin = origin

    @property
    def octets(self) -> Mapping[str, bytes]:
        """The body of each."""
        if self._octets is None:
            names, bodies = self._packed
            self._packed = ("", b"")
            values = [body + b"\0" for body in bodies[:-1].split(b"\0")]
            self._octets = dict(zip(names.split("\n"), values, strict=True))
        return self._octets

    def pack(self) -> None:
        """Keep a large table in two pieces until it is asked for again.

        That is a third of the memory; and 200,000 small values, made in the midst of a push, would keep the interpreter
        from giving back what the push needed.
        """
        if self._octets is not None and len(self._octets) >= LARGE:
            self._packed = ("\n".join(self._octets), b"".join(self._octets.values()))
            self._octets = None

    def __getitem__(self, name: str) -> NameRecord:
        return decode_body(self.octets[name], self.origin)

    def __contains__(self, name: object) -> bool:
        return name in self.octets

    def __iter__(self) -> Iterator[str]:
        return iter(self.octets)

    def __len__(self) -> int:
        return len(self.octets)

    def __repr__(self) -> str:
        return f"Bodies({dict(self.items())!r})" if len(self) < 10 else f"<Bodies of {len(self)} records>"


def bodies_of(records: Mapping[str, NameRecord]) -> Mapping[str, bytes]:
    """Give the body of each of *records*."""
    if isinstance(records, Bodies):
        return records.octets
    return {name: encode_body(record) for name, record in records.items()}


def compared(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> Iterator[tuple[str, bytes | None, bytes]]:
    """Give each name of *after* with its body before (None: it is new) and after.

    A control plane gives its names in one order each time: then nothing is looked up.
    """
    if len(before) == len(after) and all(map(eq, before, after)):
        return zip(after, before.values(), after.values(), strict=True)
    known = before.get
    return ((name, known(name), body) for name, body in after.items())


def encode_body(record: NameRecord) -> bytes:
    """Give the body of *record*. Written out by hand: 2.5 µs a record, ``json.dumps`` takes 6."""
    addresses = " ".join([address.packed.hex() for address in record.addresses])
    tail = encode_tail(record.ports, record.service)
    return f'[{quoted(record.name)},"{addresses}",{record.ttl},{tail}'.encode("ascii")


def addresses_in(body: bytes) -> bytes:
    """Give the addresses in *body*: hexadecimal, separated by spaces. Its name is one that was checked."""
    return body.split(b'"', 4)[3]


def encode_tail(ports: tuple[Port, ...], service: str | None) -> str:
    """Give the end of a body: its ports, its service, the NUL."""
    listed = ",".join([f"[{port.number},{quoted(port.target)},{1 if port.placeholder else 0}]" for port in ports])
    return f"[{listed}],{'null' if service is None else quoted(service)}]\0"


def decode_body(body: bytes, origin: Origin) -> NameRecord:
    """Give the record that was encoded to *body*."""
    name, addresses, ttl, ports, service = json.loads(body[:-1])
    return NameRecord(
        name,
        tuple([unpacked(bytes.fromhex(each)) for each in addresses.split()]),
        ttl,
        tuple([Port(number, target, bool(placeholder)) for number, target, placeholder in ports]),
        service,
        origin,
    )


def unpacked(address: bytes) -> IPAddress:
    """Give the address of four or sixteen octets."""
    return IPv4Address(address) if len(address) == 4 else IPv6Address(address)
