"""All that lookups read, worked out from nothing: what a push that changes most names is cheaper done by.

It gives the entries that ``compiled.update`` leads to name by name. Nearly every record of a mesh is *plain*: one IPv4
address, perhaps with its IPv4-mapped twin, and a name without ``*``. Its entries are written from its body, 3 µs a
name, and are in order with hardly a comparison; every other record goes through ``compile_record``, at 30 µs.
"""

from binascii import unhexlify
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import NamedTuple

from meshdns.inventory.body import MAPPED, addresses_in, decode_body, unpacked
from meshdns.inventory.record import Origin
from meshdns.store.lines import UNPOINTED, addressed, joined
from meshdns.store.schema import Entry
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
_OCTETS = sorted((bytes((len(str(octet)),)) + str(octet).encode(), octet) for octet in range(256))
_POINTER_HEADS = [rrset(PTR, PTR_TTL, [bytes(length)])[:-length] for length in range(1, 256)]
"""How the RRset of one PTR record begins whose target has (place + 1) octets."""
_KEY = itemgetter(0)


class Served(NamedTuple):
    """The names that one source gives, with the body of each. lenient: whether two may be spellings of one."""

    bodies: Mapping[str, bytes]
    lenient: bool


class Anew(NamedTuple):
    """The entries of three databases, sorted by key; of ``zone`` all but the delivered sources."""

    zone: list[Entry]
    addresses: list[Entry]
    twins: list[Entry]


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
        self._rows: dict[int, list[Entry]] = {}
        """What plain records contribute, by the length of the first label: the first thing that keys are sorted by."""
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
        for name in sorted(bodies):
            _, _, _, addresses, tail = bodies[name].split(b'"', 4)
            first, _, rest = name.partition(".")
            parent = parents.get(rest) or self._parent(rest)
            shown = addresses[:8]
            double = addresses[8:] == _THEN_MAPPED + shown
            try:
                head = heads[tail]
            except KeyError:
                head = heads[tail] = self._heads(tail)
            if not (double or len(addresses) == 8) or head is None or not parent.plain or first == "*":
                self._take_other(name, bodies[name], unpointed=name in hidden)
                continue
            label = first.encode("ascii")
            row = rows.get(len(label))
            if row is None:
                row = rows[len(label)] = []
            owner = _LENGTHS[len(label)] + label + parent.wire
            packed = unhexlify(shown)
            row.append((owner, _ONCE))
            row.append((owner + _A, head[0] + packed))
            if double and head[1]:
                row.append((owner + _AAAA, head[1] + packed))
            parent.below += 1
            if name in hidden:
                self._unpointed_at.setdefault(packed, []).append(UNPOINTED + name)
            elif packed in at:
                self._share(packed, name)
            else:
                at[packed] = (name, owner)

    def result(self) -> Anew:
        """Give the entries."""
        addresses = self._point()
        rows = list(chain.from_iterable(row for _, row in sorted(self._rows.items())))
        for parent in self._parents.values():
            for mark in parent.marks if parent.below else ():
                self._marks[mark] += parent.below
        marks = self._marks
        shared = {key: marks.pop(key) for key in marks.keys() & set(map(_KEY, rows))}
        zone = rows + self._others
        zone += [(key, count.to_bytes(4, "big")) for key, count in sorted(marks.items())]
        zone.sort(key=_KEY)
        for key, count in shared.items():  # a plain record's name has others below it
            zone[bisect_left(zone, (key,))] = (key, (count + 1).to_bytes(4, "big"))
        return Anew(zone, addresses, sorted((key.encode(), joined(names)) for key, names in self._twins.items()))

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

        tail: the body behind its addresses. None when its ports make more entries.
        """
        end = tail.index(b",", 1)
        if self._rules.srv and not tail.startswith(b",[],", end):
            return None
        ttl = int(tail[1:end])
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

    def _point(self) -> list[Entry]:
        """Write the PTR entries; give those of ``addresses``."""
        addresses = []
        groups: dict[bytes, list[tuple[int, bytes]]] = {}
        for packed, known in self._at.items():
            if isinstance(known, list):
                self._point_at_several(packed, known)
                names = known
            else:
                name, owner = known
                pointers = _POINTER_HEADS[len(owner) - 1] + owner
                group = groups.get(packed[:3])
                if group is None:
                    group = groups[packed[:3]] = []
                group.append((packed[3], pointers))
                if packed not in self._unpointed_at:
                    addresses.append((packed, name.encode()))
                    continue
                names = [name]
            addresses.append((packed, joined([*names, *self._unpointed_at.pop(packed, ())])))
        addresses += [(packed, joined(names)) for packed, names in self._unpointed_at.items()]
        addresses.sort(key=_KEY)
        self._write_pointers(groups)
        return addresses

    def _point_at_several(self, packed: bytes, names: list[str]) -> None:
        entries = compile_pointers(unpacked(packed), names, self._rules)
        if entries is not None:
            self._others += entries.rrsets.items()
            self._marks.update(entries.owners)

    def _write_pointers(self, groups: Mapping[bytes, list[tuple[int, bytes]]]) -> None:
        """Write PTR RRsets and their marks in order. groups: last octet and RRset, by the three octets before it."""
        placed: list[list[tuple[bytes, bytes]]] = [[] for _ in range(256)]
        zones = sorted((reverse_owner(unpacked(three + b"\0"))[2:], group) for three, group in groups.items())
        for zone, group in zones:
            for mark in to_apex(zone, self._rules.reverse_apexes) or ():
                self._marks[mark] += len(group)
            for octet, pointers in group:
                placed[octet].append((zone, pointers))
        write = self._others.append
        for label, octet in _OCTETS:
            for zone, pointers in placed[octet]:
                owner = label + zone
                write((owner, _ONCE))
                write((owner + _PTR, pointers))


def _same_addresses(one: bytes, other: bytes, length: int) -> bool:
    """Tell whether two bodies whose names have this *length* have the same addresses, in any order."""
    return one[length:] == other[length:] or set(addresses_in(one).split()) == set(addresses_in(other).split())
