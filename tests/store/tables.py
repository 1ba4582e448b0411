"""Tables for the store's tests, and the entries that they must lead to, worked out the slow and plain way."""

from collections import Counter
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_network

from meshdns.inventory.record import IPAddress, NameRecord, Origin, Port, Table
from meshdns.zone.entries import DELIVERED_KEY, Rules, compile_pointers, compile_record, twin

RULES = Rules(("mesh", "mesh.local"), (ip_network("240.0.0.0/4"), ip_network("fd00:fd00::/64")))


def record(
    name: str,
    *addresses: str | IPAddress,
    ttl: int = 30,
    service: str | None = None,
    version: str = "",
    source: str = "kuma",
) -> NameRecord:
    given = tuple(each if not isinstance(each, str) else address(each) for each in addresses)
    ports = () if service is None else (Port(80, service, True),)
    return NameRecord(name, given, ttl, ports, service, Origin(source, "listener", version))


def address(text: str) -> IPAddress:
    return IPv6Address(text) if ":" in text else IPv4Address(text)


def table(*records: NameRecord, lenient: bool = False, listeners: Mapping[tuple[str, int], str] | None = None) -> Table:
    return Table(
        {each.name.lower(): each for each in records},
        {(address(text), port): service for (text, port), service in (listeners or {}).items()},
        lenient,
    )


def mesh(services: int, *, ttl: int = 30, moved: int = 0, version: str = "", first: int = 0) -> Table:
    """Give what Kuma pushes for that many services: two spellings, two families, a listener each."""
    records = {}
    listeners = {}
    for number in range(first, first + services):
        vips = (
            IPv4Address(0xF0000000 + number + moved),
            IPv6Address((0xFD00FD00 << 96) + number + moved),
        )
        service = f"svc{number}_ns{number % 7}_svc_80"
        for name in (f"{service}.mesh", f"svc{number}.ns{number % 7}.svc.80.mesh"):
            records[name] = NameRecord(
                name, vips, ttl, (Port(80, service, True),), service, Origin("kuma", "out", version)
            )
        for vip in vips:
            listeners[vip, 80] = service
    return Table(records, listeners, lenient=True)


def merged(tables: Sequence[Table]) -> dict[str, tuple[NameRecord, Table]]:
    """Give what is served for each name, and the table that gave it; the first table wins."""
    return {name: (each, given) for given in reversed(tables) for name, each in given.records.items()}


def zone_of(tables: Sequence[Table], rules: Rules, delivered: Sequence[str] = ()) -> dict[bytes, bytes]:
    """Give the whole ``zone`` database that *tables*, in order of precedence, must lead to."""
    served = merged(tables)
    lenient: set[str] = set()
    hidden: set[str] = set()
    for name, (each, given) in served.items():
        other = twin(name, rules)
        pair = served.get(other or "")
        if pair and given.lenient and pair[1] is given and set(pair[0].addresses) == set(each.addresses):
            lenient |= {name, str(other)}
            hidden.add(name)
    entries: dict[bytes, bytes] = {}
    marks: Counter[bytes] = Counter()
    named: dict[IPAddress, list[str]] = {}
    compiled = []
    for name, (each, _) in served.items():
        compiled.append(compile_record(each, rules, lenient=name in lenient))
        for vip in each.addresses:
            named.setdefault(vip, []).extend([name] if name not in hidden else [])
    compiled += [
        pointers for vip, names in named.items() if names and (pointers := compile_pointers(vip, names, rules))
    ]
    for contributed in compiled:
        entries.update(contributed.rrsets)
        marks.update(contributed.marks)
    entries.update((mark, count.to_bytes(4, "big")) for mark, count in marks.items())
    if delivered:
        entries[DELIVERED_KEY] = "\n".join(sorted(delivered)).encode()
    return entries
