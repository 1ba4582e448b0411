"""What lookups read, kept equal to the merged records: the databases ``zone``, ``addresses`` and ``twins``.

A push of a few names recompiles these and what hangs on them: the other spelling of each (see ``find_pairs``) and
the PTR entries of each address they had or have. A push that changes most names is cheaper done from scratch. Both
ways give the same entries.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from meshdns.inventory.body import unpacked
from meshdns.inventory.record import IPAddress
from meshdns.store.anew import Served, compile_anew
from meshdns.store.batch import Batch
from meshdns.store.lines import UNPOINTED, addressed, joined, lines, lines_at, must_be_listed
from meshdns.store.merge import Winner
from meshdns.store.schema import ReadTransaction, Store
from meshdns.wire.rrset import PTR
from meshdns.zone.entries import (
    DELIVERED_KEY,
    Entries,
    Rules,
    compile_pointers,
    compile_record,
    reverse_owner,
    rrset_key,
    to_apex,
    twin,
)

Winners = Mapping[str, Winner]

_NOTHING = Entries({}, ())


class Pairs(NamedTuple):
    """Names that match leniently, and those of them that are the spelling with underscores."""

    lenient: frozenset[str]
    underscored: frozenset[str]


def find_pairs(winners: Winners, lenient_sources: Collection[int], rules: Rules) -> Pairs:
    """Find each name with underscores whose dotted spelling is served too, by one lenient source, from equal VIPs."""
    lenient = set()
    underscored = set()
    for name, winner in winners.items():
        if "_" not in name or winner.source not in lenient_sources or (other := twin(name, rules)) is None:
            continue
        dotted = winners.get(other)
        if (
            dotted is not None
            and dotted.source == winner.source
            and _same_addresses(dotted.record.addresses, winner.record.addresses)
        ):
            lenient |= {name, other}
            underscored.add(name)
    return Pairs(frozenset(lenient), frozenset(underscored))


def closure(store: Store, txn: ReadTransaction, names: Iterable[str], rules: Rules) -> set[str]:
    """Give *names* and every other spelling of each, as far as it is served now: what must be compiled together."""
    together = set(names)
    together |= {other for name in together if (other := twin(name, rules)) is not None}
    for name in list(together):
        together.update(lines(txn.get(name.encode(), db=store.databases["twins"])))
    return together


def update(
    batch: Batch,
    rules: Rules,
    lenient_sources: Collection[int],
    *,
    before: Winners,
    after: Winners,
    names: Iterable[str],
) -> int:
    """Bring the entries of *names* from *before* to *after*; give by how many the served names grew.

    names: closed under ``closure``, both before and after.
    """
    pairs_before = find_pairs(before, lenient_sources, rules)
    pairs_after = find_pairs(after, lenient_sources, rules)
    marks: Counter[bytes] = Counter()
    moved: dict[bytes, dict[str, bool | None]] = {}
    grown = 0
    for name in sorted(names):
        old, new = before.get(name), after.get(name)
        grown += (new is not None) - (old is not None)
        if (old is None) != (new is None) and (other := twin(name, rules)) is not None:
            _edit_twins(batch, other, {name: None if new is None else name})
        old_hidden, new_hidden = name in pairs_before.underscored, name in pairs_after.underscored
        old_lenient, new_lenient = name in pairs_before.lenient, name in pairs_after.lenient
        same = old is not None and new is not None and old.record == new.record
        if same and (old_hidden, old_lenient) == (new_hidden, new_lenient):
            continue
        _replace(
            batch,
            compile_record(old.record, rules, lenient=old_lenient) if old else _NOTHING,
            compile_record(new.record, rules, lenient=new_lenient) if new else _NOTHING,
            marks,
        )
        for address in addressed(old.record) if old else ():
            moved.setdefault(address.packed, {})[name] = None
        for address in addressed(new.record) if new else ():
            moved.setdefault(address.packed, {})[name] = new_hidden
    for packed, edits in sorted(moved.items()):
        address = unpacked(packed)
        lines_before, lines_after = _edit_address(batch, address, edits)
        _replace(batch, _pointers(address, lines_before, rules), _pointers(address, lines_after, rules), marks)
    _count(batch, marks)
    return grown


def rebuild(batch: Batch, rules: Rules, served: Sequence[Served]) -> None:
    """Write everything anew from all that is *served*."""
    delivered = batch.get("zone", DELIVERED_KEY)
    anew = compile_anew(served, rules)
    for database, chunks in (("addresses", anew.addresses), ("twins", anew.twins), ("zone", anew.zone)):
        batch.clear(database)
        for chunk in chunks:
            batch.put_new(database, chunk, append=True)
    if delivered is not None:
        batch.put("zone", DELIVERED_KEY, delivered)
    to_apex.cache_clear()  # what outlives the work in the midst of its memory keeps all of that from being given back


def _same_addresses(one: Sequence[IPAddress], other: Sequence[IPAddress]) -> bool:
    return one == other or set(one) == set(other)


def _pointers(address: IPAddress, known: Iterable[str], rules: Rules) -> Entries:
    names = [line for line in known if line[0] != UNPOINTED]
    return (compile_pointers(address, names, rules) if names else None) or _NOTHING


def _replace(batch: Batch, old: Entries, new: Entries, marks: Counter[bytes]) -> None:
    """Write the RRsets that differ; add to *marks* by how much each mark's count changes."""
    for key in old.rrsets.keys() - new.rrsets.keys():
        batch.delete("zone", key)
    for key, value in new.rrsets.items():
        if old.rrsets.get(key) != value:
            batch.put("zone", key, value)
    marks.update(new.marks)
    marks.subtract(old.marks)


def _count(batch: Batch, marks: Mapping[bytes, int]) -> None:
    """Change the counts of marks; one that nobody needs any more goes."""
    for key, change in sorted(marks.items()):
        if change:
            count = int.from_bytes(batch.get("zone", key) or b"", "big") + change
            if count > 0:
                batch.put("zone", key, count.to_bytes(4, "big"))
            else:
                batch.delete("zone", key)


def _edit_address(batch: Batch, address: IPAddress, edits: Mapping[str, bool | None]) -> tuple[list[str], list[str]]:
    """Replace the lines of an address: None goes, True is a name not pointed at. Give them before and after."""
    listed = batch.get("addresses", address.packed)
    before = lines_at(listed, batch.get("zone", rrset_key(reverse_owner(address), PTR)))
    after = _edited(before, {name: None if hid is None else UNPOINTED * hid + name for name, hid in edits.items()})
    _put_lines(batch, "addresses", address.packed, listed, after if must_be_listed(address, after) else [])
    return before, after


def _edit_twins(batch: Batch, spelling: str, edits: Mapping[str, str | None]) -> None:
    """Replace the line of each name by another or none, of those that *spelling* stands for."""
    listed = batch.get("twins", spelling.encode())
    _put_lines(batch, "twins", spelling.encode(), listed, _edited(lines(listed), edits))


def _edited(before: Sequence[str], edits: Mapping[str, str | None]) -> list[str]:
    after = [line for line in before if line.removeprefix(UNPOINTED) not in edits]
    return after + [line for line in edits.values() if line is not None]


def _put_lines(batch: Batch, database: str, key: bytes, listed: bytes | None, after: Sequence[str]) -> None:
    if after:
        if (value := joined(after)) != listed:
            batch.put(database, key, value)
    elif listed is not None:
        batch.delete(database, key)
