"""What is served, as Kubernetes' manifests see it: by names that an ExternalName Service can have.

A service usually has several names (two spellings; one of each hostname generator). Its best name is, of those that
Kubernetes takes:

1. the dotted spelling of its ``kuma.io/service``, which is what Kuma's own documents write;
2. else the name in the zone that the configuration has first, then that of the fewest labels, the shortest, the first
   in the alphabet.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv6Address

from meshdns.errors import ResourceError
from meshdns.inventory.name import MAX_LABEL, MAX_NAME, check_name, dotted, zone_of
from meshdns.inventory.record import IPAddress, NameRecord, Port
from meshdns.kubernetes.service_name import is_own_name
from meshdns.store.journal import JournalRow
from meshdns.store.reader import Snapshot, StoredRecord
from meshdns.wire.name import to_text, to_wire
from meshdns.wire.rrset import A
from meshdns.zone.entries import Rules
from meshdns.zone.lookup import Found, Question, Zones, lookup

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")


def why_no_external_name(name: str) -> str | None:
    """Say why Kubernetes cannot take *name* as an externalName, None if it can (RFC 1123 §2.1, RFC 1035 §2.3.4)."""
    if not name:
        return "it is empty"
    if len(name) > MAX_NAME:
        return f"it has {len(name)} octets, the limit is {MAX_NAME}"
    for label in name.split("."):
        if not label:
            return "it has an empty label"
        if label == "*":
            return "a wildcard is no name that can be asked for"
        if len(label) > MAX_LABEL:
            return f"its label {label[:20]}… has {len(label)} octets, the limit is {MAX_LABEL}"
        if "_" in label:
            return "Kubernetes takes no underscore"
        if not _LABEL.match(label):
            return f"its label {label!r} is not of lower-case letters, digits and inner hyphens"
    return None


class Served:
    """What one push left in the store: names, and the ports behind them.

    rules: of the instance. sources: the configured ones, None where only the store is known.
    """

    def __init__(self, seen: Snapshot, rules: Rules, sources: Sequence[str] | None = None) -> None:
        self._seen = seen
        self.zones = rules.zones
        self._sources = tuple(seen.sources() if sources is None else sources)
        self._lookup_zones = Zones(rules, self._sources)
        self._ports_at: dict[IPAddress, list[Port]] | None = None
        self._with_ports: frozenset[str] | None = None

    def records(self) -> Iterator[StoredRecord]:
        """Give every record, sorted by name."""
        return self._seen.records()

    def zone_of(self, name: str) -> str | None:
        """Give the zone that *name* is in, None if it is in none of ours."""
        return zone_of(name.lower(), self.zones)

    def record(self, name: str) -> StoredRecord | None:
        """Give the record of exactly *name*."""
        return self._seen.record(name)

    def resolved(self, name: str) -> NameRecord | None:
        """Give the record that a query for *name* is answered from: its own, another spelling's, a wildcard's."""
        try:
            wire = to_wire(check_name(name))
        except ResourceError:
            return None
        matched = lookup(self._seen.get, Question(wire, A), self._lookup_zones).matched
        stored = self._seen.record(to_text(matched)) if matched else None
        return None if stored is None else stored.record

    def undelivered(self) -> tuple[str, ...]:
        """Give the sources that have never delivered: what they would serve is not known yet."""
        return tuple(sorted(set(self._sources) - self._seen.delivered()))

    def is_undecided(self, name: str) -> bool:
        """Tell whether *name* is unknown only because a source has not delivered yet."""
        answer = lookup(self._seen.get, Question(to_wire(name.lower()), A), self._lookup_zones)
        return answer.found is Found.NOT_READY

    def dotted(self, record: NameRecord, known: Mapping[str, StoredRecord] | None = None) -> NameRecord | None:
        """Give the record of the other spelling of *record*'s name, if it leads to the same addresses.

        known: records at hand by name in lower case, which need not be fetched.
        """
        zone = self.zone_of(record.name)
        if zone is None or "_" not in record.name:
            return None
        name = dotted(record.name.lower(), zone)
        other = (known or {}).get(name) or self._seen.record(name)
        return other.record if other and set(other.record.addresses) == set(record.addresses) else None

    def best(self, records: Iterable[NameRecord]) -> NameRecord | None:
        """Give the one of *records*, names of one service, that a Service is to point at; None if none can be."""
        fitting = [record for record in records if why_no_external_name(record.name.lower()) is None]
        return min(fitting, key=self._rank, default=None)

    def names_of(self, address: IPAddress) -> list[NameRecord]:
        """Give the records of the names that resolve to *address*."""
        found = (self._seen.record(name) for name in self._seen.names_of(address))
        return [stored.record for stored in found if stored is not None]

    def ports(self, record: NameRecord) -> tuple[Port, ...]:
        """Give the ports on which the addresses of *record* have a listener, sorted by number."""
        if self._ports_at is None:
            self._ports_at = {}
            for (address, number), service in self._seen.listeners().items():
                self._ports_at.setdefault(plain(address), []).append(Port(number, service))
        ports = {port.number: port for port in record.ports}
        for address in dict.fromkeys(map(plain, record.addresses)):
            for port in self._ports_at.get(address, ()):
                ports.setdefault(port.number, port)
        return tuple(ports[number] for number in sorted(ports))

    def must_have_ports(self, record: NameRecord) -> bool:
        """Tell whether the source of *record* says which ports its names have, so that none means none."""
        if self._with_ports is None:
            self._with_ports = frozenset(
                stored.record.origin.source for stored in self._seen.records() if stored.record.ports
            )
        return record.origin.source in self._with_ports

    def closest(self, name: str) -> list[str]:
        """Give the names most like *name* that an ExternalName Service can have."""
        known = self._seen.closest(name, 10)
        return [each for each in known if why_no_external_name(each) is None][:3]

    def last_removal(self, name: str) -> JournalRow | None:
        """Give the newest push that removed *name*."""
        return self._seen.last_removal(name)

    def _rank(self, record: NameRecord) -> tuple[bool, int, int, int, str]:
        name = record.name.lower()
        zone = zone_of(name, self.zones)
        own = zone is not None and record.service is not None and is_own_name(name, record.service, zone)
        place = len(self.zones) if zone is None else self.zones.index(zone)
        return not own, place, name.count("."), len(name), name


def plain(address: IPAddress) -> IPAddress:
    """Give the IPv4 address inside an IPv4-mapped one: what is sent to it arrives at the listener of that."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
