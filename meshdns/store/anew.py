"""All that lookups read, worked out from nothing: what a push that changes most names is cheaper done by.

It gives the entries that ``compiled.update`` leads to name by name. Nearly every record of a mesh is *plain*: one IPv4
address, perhaps with its IPv4-mapped twin, and a name without ``*``. Its entries are written from its body, 3 µs a
name, and are in order with hardly a comparison; every other record goes through ``compile_record``, at 30 µs.
"""

from binascii import unhexlify
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import NamedTuple

from meshdns.inventory.body import MAPPED, addresses_in, decode_body, unpacked
from meshdns.inventory.record import Origin
from meshdns.store.lines import UNPOINTED, addressed, joined
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
_ONCE = (1).to_bytes(4, "big")
_LENGTHS = [bytes((length,)) for length in range(64)]
_A, _AAAA, _PTR = (rtype.to_bytes(2, "big") for rtype in (A, AAAA, PTR))
_THEN_MAPPED = b" " + MAPPED
_BEFORE, _V4, _TWIN = len('["","'), 8, 33
"""Octets of a body before its addresses, besides its name; of an IPv4 address; of its IPv4-mapped twin behind it."""
_OCTETS = sorted((bytes((len(str(octet)),)) + str(octet).encode(), octet) for octet in range(256))
_OCTET_AT = dict(_OCTETS)
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
    plain: bool
    below: int = 0


def compile_anew(served: Sequence[Served], rules: Rules) -> Anew:
    """Give the entries for all that is *served*; no name is in two of them."""
    work = _Work(rules)
    for each in served:
        work.take(each)
    return work.result()


class _Work:
    """One compilation, underway."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._parents: dict[str, _Parent] = {}
        self._rows: dict[int, list[tuple[bytes, bytes, bytes]]] = {}
        """Of each plain record, by the length of its first label (keys are sorted by that first): its name in wire
        form, its RRsets of type A and, unless empty, AAAA."""
        self._others: list[Entry] = []
        self._marks: Counter[bytes] = Counter()
        self._at: dict[bytes, tuple[str, bytes] | list[str]] = {}
        """At an address: the one name that is to be pointed at and its wire form, or several."""
        self._unpointed_at: dict[bytes, list[str]] = {}
        self._twins: dict[str, list[str]] = {}

    def take(self, served: Served) -> None:
        """Compile one source's names."""
        bodies, rows, parents, at = served.bodies, self._rows, self._parents, self._at
        hidden = self._pair(served)
        heads: dict[bytes, tuple[bytes, bytes] | None] = {}
        for name, body in bodies.items():
            first, _, rest = name.partition(".")
            parent = parents.get(rest) or self._parent(rest)
            start = len(name) + _BEFORE
            end = start + _V4
            shown = body[start:end]
            double = body[end : end + _TWIN] == _THEN_MAPPED + shown
            tail = body[end + _TWIN :] if double else body[end:]
            try:
                head = heads[tail]
            except KeyError:
                head = self._heads(tail)
                if head is not None or tail.startswith(b'",'):
                    heads[tail] = head
            if head is None or not parent.plain or first == "*":
                self._take_other(name, body, unpointed=name in hidden)
                continue
            label = first.encode("ascii")
            row = rows.get(len(label))
            if row is None:
                row = rows[len(label)] = []
            owner = _LENGTHS[len(label)] + label + parent.wire
            packed = unhexlify(shown)
            row.append((owner, head[0] + packed, head[1] + packed if double and head[1] else b""))
            parent.below += 1
            if name in hidden:
                self._unpointed_at.setdefault(packed, []).append(UNPOINTED + name)
            elif packed in at:
                self._share(packed, name)
            else:
                at[packed] = (name, owner)

    def result(self) -> Anew:
        """Give the entries."""
        return Anew(self._addresses(), self._spellings(), self._zone())

    def _spellings(self) -> Chunks:
        yield columns_of(sorted((key.encode(), joined(names)) for key, names in self._twins.items()))

    def _addresses(self) -> Chunks:
        at, unpointed_at = self._at, self._unpointed_at
        for keys in batched(sorted([*at, *(unpointed_at.keys() - at.keys())])):  # nearly in order already
            values = []
            for packed in keys:
                known = at.get(packed, [])
                unpointed = unpointed_at.get(packed)
                if type(known) is tuple:
                    name = known[0]
                    values.append(joined([name, *unpointed]) if unpointed else name.encode())
                else:
                    values.append(joined([*known, *(unpointed or ())]))
            yield Columns(keys, values)

    def _zone(self) -> Chunks:
        """Merge what comes in order, pointers and plain records, with the few others."""
        groups = self._group()
        for parent in self._parents.values():
            for mark in parent.marks if parent.below else ():
                self._marks[mark] += parent.below
        for rows in self._rows.values():
            rows.sort(key=_KEY)
        shared = self._shared()
        pointed = self._pointed(groups)
        others = self._others
        for length in [length for length in self._rows if length <= _LONGEST_OCTET]:  # among the pointers
            for chunk in _write_rows(self._rows.pop(length), shared):
                others += zip(*chunk, strict=True)
        others += [(key, count.to_bytes(4, "big")) for key, count in self._marks.items()]
        others.sort(key=_KEY)
        taken = 0
        ordered = (_write_rows(rows, shared) for _, rows in sorted(self._rows.items()))
        for chunk in chain(self._write_pointers(groups, pointed), chain.from_iterable(ordered)):
            upto = bisect_left(others, chunk.keys[-1], taken, key=_KEY)
            yield _merge(chunk, others[taken:upto]) if upto > taken else chunk
            taken = upto
        yield columns_of(others[taken:])

    def _shared(self) -> dict[bytes, int]:
        """Take out the marks that a plain record shares with names below its own, counted together."""
        shared = {}
        for key in list(self._marks):
            rows = self._rows.get(key[0], [])
            at = bisect_left(rows, (key,))
            if at < len(rows) and rows[at][0] == key:
                shared[key] = self._marks.pop(key) + 1
        return shared

    def _pointed(self, groups: Mapping[bytes, list[tuple[int, bytes]]]) -> dict[bytes, int]:
        """Take out the marks that a pointer shares with records at its own name or below, counted together."""
        if all(parent.plain for parent in self._parents.values()):
            return {}
        pointed = {}
        zones = {_reverse_zone(three): three for three in groups}
        for key in list(self._marks):
            end = key[0] + 1
            three = zones.get(key[end:])
            if three is not None and _OCTET_AT.get(key[:end]) in {octet for octet, _ in groups[three]}:
                pointed[key] = self._marks.pop(key) + 1
        return pointed

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
        plain = not name.endswith("arpa")  # there the PTR entries have marks, too
        parent = self._parents[name] = _Parent(wire, to_apex(wire, self._rules.apexes) or (), plain)
        return parent

    def _heads(self, tail: bytes) -> tuple[bytes, bytes] | None:
        """Give how the RRsets of one address begin: of type A, and of type AAAA up to the four octets of IPv4.

        tail: the body behind its addresses. None when it has other addresses still, or its ports make more entries.
        """
        if not tail.startswith(b'",'):
            return None
        end = tail.index(b",", 2)
        if self._rules.srv and not tail.startswith(b",[],", end):
            return None
        ttl = int(tail[2:end])
        v6 = rrset(AAAA, ttl, [unhexlify(MAPPED) + bytes(4)])[:-4] if self._rules.mapped_v6 else b""
        return rrset(A, ttl, [bytes(4)])[:-4], v6

    def _take_other(self, name: str, body: bytes, *, unpointed: bool) -> None:
        """Compile a record that is not plain. Marks of lenient spelling are counted by ``_pair``."""
        record = decode_body(body, _NOWHERE)
        entries = compile_record(record, self._rules, lenient=False)
        self._others += entries.rrsets.items()
        self._marks.update(entries.owners)
        for address in addressed(record):
            if unpointed:
                self._unpointed_at.setdefault(address.packed, []).append(UNPOINTED + name)
            else:
                self._share(address.packed, name)

    def _share(self, packed: bytes, name: str) -> None:
        """Let *name* be one of several at an address."""
        known = self._at.get(packed, [])
        names = known if isinstance(known, list) else [known[0]]
        names.append(name)
        self._at[packed] = names

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
            group.append((packed[3], known[1]))
        self._at.clear()
        for three, group in groups.items():
            for mark in to_apex(_reverse_zone(three), self._rules.reverse_apexes) or ():
                self._marks[mark] += len(group)
        return groups

    def _point_at_several(self, packed: bytes, names: list[str]) -> None:
        entries = compile_pointers(unpacked(packed), names, self._rules)
        if entries is not None:
            self._others += entries.rrsets.items()
            self._marks.update(entries.owners)

    def _write_pointers(self, groups: Mapping[bytes, list[tuple[int, bytes]]], pointed: Mapping[bytes, int]) -> Chunks:
        """Write PTR RRsets and their marks; *pointed*: those that are needed more than once."""
        placed: list[list[tuple[bytes, bytes]]] = [[] for _ in range(256)]
        for zone, group in sorted((_reverse_zone(three), group) for three, group in groups.items()):
            for octet, name in group:
                placed[octet].append((zone, name))
        for label, octet in _OCTETS:
            for some in batched(placed[octet]):
                keys: list[bytes] = []
                values: list[bytes] = []
                for zone, name in some:
                    owner = label + zone
                    keys += (owner, owner + _PTR)
                    mark = pointed[owner].to_bytes(4, "big") if owner in pointed else _ONCE
                    values += (mark, _POINTER_HEADS[len(name) - 1] + name)
                yield Columns(keys, values)
            placed[octet].clear()


def _write_rows(rows: list[tuple[bytes, bytes, bytes]], shared: Mapping[bytes, int]) -> Chunks:
    """Write plain records; *shared*: the marks that are needed more than once."""
    for some in batched(rows):
        keys: list[bytes] = []
        values: list[bytes] = []
        for owner, v4, v6 in some:
            mark = shared[owner].to_bytes(4, "big") if owner in shared else _ONCE
            if v6:
                keys += (owner, owner + _A, owner + _AAAA)
                values += (mark, v4, v6)
            else:
                keys += (owner, owner + _A)
                values += (mark, v4)
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
