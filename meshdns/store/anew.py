"""All that lookups read, worked out from nothing: what a push that changes most names is cheaper done by.

It gives the entries that ``compiled.update`` leads to name by name. Nearly every record of a mesh is *plain*: one IPv4
address, perhaps with its IPv4-mapped twin, and a name without ``*``. Its entries are written from its body, 3 µs a
name, and are in order with hardly a comparison; every other record goes through ``compile_record``, at 30 µs.
"""

from binascii import unhexlify
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import NamedTuple

from meshdns.inventory.body import MAPPED, addresses_in, decode_body, unpacked
from meshdns.inventory.record import Origin
from meshdns.store.lines import UNPOINTED, addressed, joined, must_be_listed, pointed_at
from meshdns.store.schema import Columns, Entry, batched, columns_of
from meshdns.wire.name import to_wire
from meshdns.wire.rrset import AAAA, PTR, A, rrset
from meshdns.zone.entries import (
    LENIENT,
    PTR_TTL,
    Rules,
    compile_pointers,
    compile_record,
    reverse_owner,
    to_apex,
    twin,
)

_NOWHERE = Origin("")
_LENGTHS = [bytes((length,)) for length in range(64)]
_A, _AAAA, _PTR = (rtype.to_bytes(2, "big") for rtype in (A, AAAA, PTR))
_THEN_MAPPED = b" " + MAPPED
_BEFORE, _V4, _TWIN = len('["","'), 8, 33
"""Octets of a body before its addresses, besides its name; of an IPv4 address; of its IPv4-mapped twin behind it."""
_OCTETS = sorted((bytes((len(str(octet)),)) + str(octet).encode(), octet) for octet in range(256))
_POINTER_HEADS = [rrset(PTR, PTR_TTL, [bytes(length)])[:-length] for length in range(1, 256)]
"""How the RRset of one PTR record begins whose target has (place + 1) octets."""
_KEY = itemgetter(0)
_LONGEST_OCTET = 3
"""Octets of the first label of a PTR owner, at most."""


class Served(NamedTuple):
    """The names that one source gives, with the body of each. lenient: whether two may be spellings of one."""

    bodies: Mapping[str, bytes]
    lenient: bool


Chunks = Iterator[Columns]
"""Entries in order of their keys, some thousands at a time: a million names would be 2 GiB of them at once."""


class Anew(NamedTuple):
    """The entries of three databases, to be taken in this order; of ``zone`` all but the delivered sources."""

    addresses: Chunks
    twins: Chunks
    zone: Chunks


@dataclass(slots=True)
class _Parent:
    """What names with one parent have in common. marks: of the names above, none outside our zones.

    below: how many plain records have it, not in ``_marks`` yet.
    """

    wire: bytes
    marks: tuple[bytes, ...]
    below: int = 0


def compile_anew(served: Sequence[Served], rules: Rules) -> Anew:
    """Give the entries for all that is *served*; no name is in two of them."""
    work = _Work(rules)
    for each in served:
        work.take(each)
    return work.result()


class _Heads(dict[bytes, tuple[bytes, bytes] | None]):
    """A body behind its addresses → how the RRsets of one address begin: of type A, and of AAAA up to those of IPv4.

    None when it has other addresses still, or its ports make more entries.
    """

    def __init__(self, rules: Rules) -> None:
        super().__init__()
        self._rules = rules

    def __missing__(self, tail: bytes) -> tuple[bytes, bytes] | None:
        if not tail.startswith(b'",'):
            return None
        end = tail.index(b",", 2)
        if self._rules.srv and not tail.startswith(b",[],", end):
            return None
        ttl = int(tail[2:end])
        v6 = rrset(AAAA, ttl, [unhexlify(MAPPED) + bytes(4)])[:-4] if self._rules.mapped_v6 else b""
        heads = self[tail] = rrset(A, ttl, [bytes(4)])[:-4], v6
        return heads


class _Work:
    """One compilation, underway."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._parents: dict[str, _Parent] = {}
        self._rows: defaultdict[int, list[tuple[bytes, bytes, bytes]]] = defaultdict(list)
        """Of each plain record, by the length of its first label (keys are sorted by that first): its name in wire
        form, its RRsets of type A and, unless empty, AAAA."""
        self._others: list[Entry] = []
        self._marks: Counter[bytes] = Counter()
        self._at: dict[bytes, bytes | list[str]] = {}
        """At an address: the one name that is to be pointed at, in wire form, or a list of them."""
        self._unpointed_at: dict[bytes, list[str]] = {}
        self._twins: dict[str, list[str]] = {}

    def take(self, served: Served) -> None:
        """Compile one source's names."""
        rows, parents, at = self._rows, self._parents, self._at
        hidden = self._pair(served)
        heads = _Heads(self._rules)
        for name, body in served.bodies.items():
            first, _, rest = name.partition(".")
            parent = parents.get(rest) or self._parent(rest)
            start = len(name) + _BEFORE
            shown = body[start : start + _V4]
            double = body[start + _V4 : start + _V4 + _TWIN] == _THEN_MAPPED + shown
            head = heads[body[start + (_V4 + _TWIN if double else _V4) :]]
            if head is None or first == "*":
                self._take_other(name, body, unpointed=name in hidden)
                continue
            length = len(first)
            owner = _LENGTHS[length] + first.encode("ascii") + parent.wire
            packed = unhexlify(shown)
            rows[length].append((owner, head[0] + packed, head[1] + packed if double and head[1] else b""))
            parent.below += 1
            if name in hidden:
                self._unpointed_at.setdefault(packed, []).append(UNPOINTED + name)
            elif packed in at:
                self._share(packed, name)
            else:
                at[packed] = owner

    def result(self) -> Anew:
        """Give the entries."""
        return Anew(self._addresses(), self._spellings(), self._zone())

    def _spellings(self) -> Chunks:
        yield columns_of(sorted((key.encode(), joined(names)) for key, names in self._twins.items()))

    def _addresses(self) -> Chunks:
        at, unpointed_at = self._at, self._unpointed_at
        several = [packed for packed, known in at.items() if type(known) is list]
        for keys in batched(sorted({*several, *unpointed_at})):
            known = [(packed, [*self._names_at(packed), *unpointed_at.get(packed, ())]) for packed in keys]
            yield columns_of(
                (packed, joined(names)) for packed, names in known if must_be_listed(unpacked(packed), names)
            )

    def _zone(self) -> Chunks:
        """Merge what comes in order, pointers and plain records, with the few others."""
        groups = self._group()
        for parent in self._parents.values():
            for mark in parent.marks if parent.below else ():
                self._marks[mark] += parent.below
        for rows in self._rows.values():
            rows.sort(key=_KEY)
        others = self._others
        for length in [length for length in self._rows if length <= _LONGEST_OCTET]:  # among the pointers
            for chunk in _write_rows(self._rows.pop(length)):
                others += zip(*chunk, strict=True)
        others += [(key, count.to_bytes(4, "big")) for key, count in self._marks.items()]
        others.sort(key=_KEY)
        taken = 0
        ordered = (_write_rows(rows) for _, rows in sorted(self._rows.items()))
        for chunk in chain(_write_pointers(groups), chain.from_iterable(ordered)):
            upto = bisect_left(others, chunk.keys[-1], taken, key=_KEY)
            yield _merge(chunk, others[taken:upto]) if upto > taken else chunk
            taken = upto
        yield columns_of(others[taken:])

    def _pair(self, served: Served) -> set[str]:
        """Note the other spellings of names, and the marks of those that are pairs; give their underscored halves."""
        bodies, rules = served.bodies, self._rules
        hidden = set()
        dotted: Counter[str] = Counter()
        for name in bodies:
            if "_" not in name or (other := twin(name, rules)) is None:
                continue
            self._twins.setdefault(other, []).append(name)
            if served.lenient and other in bodies and _same_addresses(bodies[name], bodies[other], len(name)):
                hidden.add(name)
                dotted[other] += 1
        below: Counter[str] = Counter()
        for name, spellings in dotted.items():
            first, _, rest = name.partition(".")
            parent = self._parents.get(rest) or self._parent(rest)
            self._marks[LENIENT + _LENGTHS[len(first)] + first.encode("ascii") + parent.wire] += spellings + 1
            below[rest] += spellings + 1
        for rest, count in below.items():
            for mark in self._parents[rest].marks:
                self._marks[LENIENT + mark] += count
        return hidden

    def _parent(self, name: str) -> _Parent:
        wire = to_wire(name)
        parent = self._parents[name] = _Parent(wire, to_apex(wire, self._rules.apexes) or ())
        return parent

    def _take_other(self, name: str, body: bytes, *, unpointed: bool) -> None:
        """Compile a record that is not plain. Marks of lenient spelling are counted by ``_pair``."""
        record = decode_body(body, _NOWHERE)
        entries = compile_record(record, self._rules, lenient=False)
        self._others += entries.rrsets.items()
        self._marks.update(entries.marks)
        for address in addressed(record):
            if unpointed:
                self._unpointed_at.setdefault(address.packed, []).append(UNPOINTED + name)
            else:
                self._share(address.packed, name)

    def _share(self, packed: bytes, name: str) -> None:
        """Let *name* be one of several at an address."""
        names = self._at[packed] = self._names_at(packed)
        names.append(name)

    def _names_at(self, packed: bytes) -> list[str]:
        known = self._at.get(packed, [])
        return known if isinstance(known, list) else [pointed_at(known)]

    def _group(self) -> dict[bytes, list[tuple[int, bytes]]]:
        """Give the addresses of one name: last octet and that name, by the three octets before it.

        Those of several are compiled at once.
        """
        groups: dict[bytes, list[tuple[int, bytes]]] = {}
        for packed, known in self._at.items():
            if isinstance(known, list):
                self._point_at_several(packed, known)
                continue
            group = groups.get(packed[:3])
            if group is None:
                group = groups[packed[:3]] = []
            group.append((packed[3], known))
        self._at.clear()
        for three, group in groups.items():
            for mark in to_apex(_reverse_zone(three), self._rules.reverse_apexes) or ():
                self._marks[mark] += len(group)
        return groups

    def _point_at_several(self, packed: bytes, names: list[str]) -> None:
        entries = compile_pointers(unpacked(packed), names, self._rules)
        if entries is not None:
            self._others += entries.rrsets.items()
            self._marks.update(entries.marks)


def _write_pointers(groups: Mapping[bytes, list[tuple[int, bytes]]]) -> Chunks:
    """Write PTR RRsets."""
    placed: list[list[tuple[bytes, bytes]]] = [[] for _ in range(256)]
    for zone, group in sorted((_reverse_zone(three), group) for three, group in groups.items()):
        ending = zone + _PTR
        for octet, name in group:
            placed[octet].append((ending, name))
    for label, octet in _OCTETS:
        for some in batched(placed[octet]):
            keys = [label + ending for ending, _ in some]
            yield Columns(keys, [_POINTER_HEADS[len(name) - 1] + name for _, name in some])
        placed[octet].clear()


def _write_rows(rows: list[tuple[bytes, bytes, bytes]]) -> Chunks:
    """Write plain records."""
    for some in batched(rows):
        keys: list[bytes] = []
        values: list[bytes] = []
        for owner, v4, v6 in some:
            if v6:
                keys += (owner + _A, owner + _AAAA)
                values += (v4, v6)
            else:
                keys.append(owner + _A)
                values.append(v4)
        yield Columns(keys, values)


def _merge(columns: Columns, others: Sequence[Entry]) -> Columns:
    """Give both, in order. Of *others* there are a few, or as many."""
    if len(others) * 20 < len(columns.keys):
        keys, values = list(columns.keys), list(columns.values)
        for key, value in others:
            at = bisect_left(keys, key)
            keys.insert(at, key)
            values.insert(at, value)
        return Columns(keys, values)
    return columns_of(sorted(chain(zip(*columns, strict=True), others), key=_KEY))


def _reverse_zone(three: bytes) -> bytes:
    """Give the zone of the PTR records of 256 addresses by the first three octets of them."""
    return reverse_owner(unpacked(three + b"\0"))[2:]


def _same_addresses(one: bytes, other: bytes, length: int) -> bool:
    """Tell whether two bodies whose names have this *length* have the same addresses, in any order."""
    return one[length:] == other[length:] or set(addresses_in(one).split()) == set(addresses_in(other).split())
