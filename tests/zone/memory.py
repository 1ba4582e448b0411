"""A zone database in a dict, built from scratch: what the store's incremental one must always equal."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_network

from meshdns.inventory.name import check_address
from meshdns.inventory.record import IPAddress, NameRecord
from meshdns.zone.entries import DELIVERED_KEY, Rules, compile_pointers, compile_record, twin

RULES = Rules(("mesh", "mesh.local"), (ip_network("240.0.0.0/4"), ip_network("fd00:fd00::/64")))


def record(name: str, *addresses: str, **fields: object) -> NameRecord:
    """Give a record from text."""
    return NameRecord(name, tuple(map(check_address, addresses)), **fields)  # type: ignore[arg-type]


def zone(text: str) -> list[NameRecord]:
    """Give records from lines of ``name address…``."""
    rows = [line.split() for line in text.strip().splitlines()]
    return [record(name, *addresses) for name, *addresses in rows]


def compile_zone(
    records: Iterable[NameRecord],
    rules: Rules = RULES,
    *,
    lenient: bool = True,
    delivered: Sequence[str] = (),
) -> Mapping[bytes, bytes]:
    """Give the whole zone database of *records*, all of one source."""
    by_name = {each.name.lower(): each for each in records}
    rrsets: dict[bytes, bytes] = {}
    marks: Counter[bytes] = Counter()
    twins: set[str] = set()
    for name, each in by_name.items():
        other = twin(name, rules)
        if lenient and other in by_name and by_name[other].addresses == each.addresses:
            twins |= {name, other}
    names: defaultdict[IPAddress, list[str]] = defaultdict(list)
    for name, each in by_name.items():
        entries = compile_record(each, rules, lenient=name in twins)
        rrsets |= entries.rrsets
        marks.update(entries.marks)
        for address in each.addresses:
            if not (name in twins and twin(name, rules)):
                names[address].append(name)
    for address, owners in names.items():
        pointers = compile_pointers(address, owners, rules)
        if pointers is not None:
            rrsets |= pointers.rrsets
            marks.update(pointers.marks)
    database = rrsets | {key: count.to_bytes(4, "big") for key, count in marks.items()}
    if delivered:
        database[DELIVERED_KEY] = "\n".join(sorted(delivered)).encode()
    return database
