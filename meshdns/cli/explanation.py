"""Why a name resolves as it does: what the store, the journal and the status say of one question.

The verdict is the resolver's own, over the same entries, so it cannot differ from what the server answers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from itertools import islice

from meshdns.cli.explain_forwarded import Forwarded
from meshdns.inventory.name import dotted, is_mapped, zone_of
from meshdns.inventory.record import IPAddress, NameRecord
from meshdns.processes.status import SourceState, Status
from meshdns.resolver.answer import COUNTS, Resolver
from meshdns.store.journal import JournalRow
from meshdns.store.reader import Snapshot, StoredRecord
from meshdns.wire.client import describe, make_query
from meshdns.wire.name import to_text
from meshdns.wire.rrset import AAAA, ANY, AXFR, IXFR, PTR, SRV, A, type_name
from meshdns.zone.entries import Rules, rrset_key
from meshdns.zone.lookup import Found, Question, Zones, lookup

NOT_OURS = Found.NOT_OURS.name.lower()
"""The verdict about a name that others are asked about."""

SHOWN = 5
"""Names below an empty non-terminal, and nearest names, that are told."""

_TYPES = (A, AAAA, PTR, SRV)
"""What the zone database can hold for an owner name."""


@dataclass(slots=True)
class Explanation:
    """The answer to one question, and everything that made it so.

    name: as asked, text. how: ``zone.lookup``'s verdict in a word. matched: the name whose entries answered. types:
    those that it has. at: names and listeners of an address, for PTR. pushed: the push that gave the record as it
    is, None when the journal does not reach back so far. removed: the push that took the name away.
    undelivered: sources that keep an unknown name from being denied. hints: what to try, a sentence each.
    """

    name: str
    type: str
    rcode: str = ""
    resolves: bool = False
    how: str = ""
    reason: str = ""
    answers: tuple[str, ...] = ()
    zone: str | None = None
    matched: str = ""
    types: tuple[str, ...] = ()
    stored: StoredRecord | None = None
    pushed: JournalRow | None = None
    shadowed: tuple[NameRecord, ...] = ()
    hold_ends_in: float | None = None
    same_address: dict[IPAddress, tuple[str, ...]] = field(default_factory=dict)
    listeners: dict[tuple[IPAddress, int], str] = field(default_factory=dict)
    below: tuple[str, ...] = ()
    removed: JournalRow | None = None
    nearest: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    undelivered: tuple[SourceState, ...] = ()
    source: SourceState | None = None
    forwarded: Forwarded | None = None


def tell_forwarded(told: Explanation, forwarded: Forwarded) -> None:
    """Tell in *told*, of a name that is not ours, what becomes of it elsewhere."""
    told.forwarded = forwarded
    if forwarded.special:
        told.reason = "a name that means something on this machine or network only, answered here (special_names)"
    elif forwarded.zone:
        told.reason = f"not ours; forwarded to the servers of zone {forwarded.zone}"
    else:
        told.reason += "; no zone of upstreams fits it"
    said = forwarded.reply
    if said is not None:
        told.rcode, told.answers = said.rcode, said.answers
        told.resolves = said.rcode == "NOERROR" and bool(said.answers)


class _Pinned:
    """A snapshot as the store that a resolver answers from: one transaction, which is always the same."""

    def __init__(self, seen: Snapshot) -> None:
        self.get = seen.get
        self._generation = seen.generation

    def begin(self) -> "_Pinned":
        return self

    def abort(self) -> None:
        """Leave the snapshot open: it is not ours."""

    def generation(self, _: object) -> int:
        return self._generation


class Explainer:
    """Explains questions to one instance.

    rules: its zones and reverse zones. sources: the configured ones, None where only the store is known.
    """

    def __init__(self, seen: Snapshot, rules: Rules, status: Status, sources: Sequence[str] | None = None) -> None:
        self._seen = seen
        self._rules = rules
        self._status = status
        self._sources = tuple(seen.sources() if sources is None else sources)
        self._zones = Zones(rules, self._sources)

    def explain(self, name: str, wire: bytes, qtype: int) -> Explanation:
        """Explain the question for *name* (text, and its wire form) and *qtype*."""
        wire = wire.lower()
        text = to_text(wire)
        resolver = Resolver(_Pinned(self._seen), self._zones, [0] * COUNTS)
        said = resolver.answer_now(make_query(wire, qtype, id=0), stream=True)
        reply = describe(said if isinstance(said, bytes) else b"")
        answer = lookup(self._seen.get, Question(wire, qtype), self._zones)
        told = Explanation(name.removesuffix("."), type_name(qtype), reply.rcode, answers=reply.answers)
        told.resolves = reply.rcode == "NOERROR" and bool(reply.answers)
        told.zone = zone_of(text, (*self._rules.zones, *self._rules.reverse_zones))
        told.how = answer.found.name.lower()
        if qtype in (AXFR, IXFR):
            told.how, told.reason = "refused", "zone transfers are not offered"
        elif answer.matched:
            self._tell_match(told, text, answer.matched, answer.found, qtype)
        elif answer.found is Found.NOT_READY:
            self._tell_not_ready(told)
        else:
            self._tell_absence(told, text)
        return told

    def _tell_match(self, told: Explanation, text: str, matched: bytes, found: Found, qtype: int) -> None:
        told.matched = to_text(matched)
        told.types = tuple(type_name(each) for each in _TYPES if self._seen.get(rrset_key(matched, each)) is not None)
        told.stored = self._seen.record(told.matched)
        address = address_of(told.matched)
        apex = told.matched == told.zone
        if told.stored is not None:
            self._tell_record(told, told.stored)
        elif address is not None and type_name(PTR) in told.types:
            told.same_address = {address: self._seen.names_of(address)}
            told.listeners = self._at((address,))
        elif not apex:
            told.below = tuple(islice(self._below(told.matched), SHOWN))
        if found is Found.APEX:
            told.reason = f"{told.zone} is one of our zones: its SOA"
        elif found is Found.NODATA:
            told.reason, told.hints = self._missing_type(told, apex, qtype)
        elif told.matched == text:
            told.reason = "a record of exactly this name"
        elif told.matched.startswith("*."):
            told.reason = f"no record of this name; the wildcard {told.matched} covers it"
        else:
            told.reason = f"spelled otherwise, {told.matched} answers: dots and underscores are interchangeable in it"
        if qtype == ANY and told.resolves:
            told.reason += "; ANY is answered with a stand-in (RFC 8482), ask for a type"

    def _tell_record(self, told: Explanation, stored: StoredRecord) -> None:
        record = stored.record
        key = record.name.lower()
        told.shadowed = stored.shadowed
        told.pushed = next(
            (
                row
                for row in self._seen.journal()
                if row.source == record.origin.source and (key in row.added or key in row.changed)
            ),
            None,
        )
        told.source = self._state(record.origin.source)
        if stored.held and told.source is not None:
            told.hold_ends_in = told.source.hold_ends_in
        real = tuple(address for address in record.addresses if not is_mapped(address))
        told.same_address = {
            address: tuple(other for other in self._seen.names_of(address) if other != key) for address in real
        }
        told.listeners = self._at(real)

    def _missing_type(self, told: Explanation, apex: bool, qtype: int) -> tuple[str, tuple[str, ...]]:
        if apex:
            return f"{told.zone} is one of our zones; it has an SOA and nothing else", ()
        if not told.types:
            if told.stored is None:
                return "there are names below it, but none that is exactly this", ()
            return "its only addresses are left out (mapped_v6: drop)", ()
        hints = []
        mapped = told.stored is not None and any(is_mapped(address) for address in told.stored.record.addresses)
        if qtype == AAAA and mapped and not self._rules.mapped_v6:
            hints.append("its ::ffff: address is left out (mapped_v6: drop)")
        if qtype == SRV and not self._rules.srv:
            hints.append("ports are served as SRV records only with srv: true")
        return f"the name exists and has {', '.join(told.types)}, but no {told.type}", tuple(hints)

    def _tell_not_ready(self, told: Explanation) -> None:
        delivered = self._seen.delivered()
        missing = [name for name in self._sources if name not in delivered]
        told.undelivered = tuple(self._state(name) or SourceState(name, "") for name in missing)
        told.reason = f"unknown so far, and not denied before every source has delivered; missing: {', '.join(missing)}"

    def _tell_absence(self, told: Explanation, text: str) -> None:
        if told.zone is None:
            zones = ", ".join(self._rules.zones)
            told.reason = f"not in our zones ({zones}), and no source gives a name outside of them like this"
        elif (address := address_of(text)) is not None:
            told.reason = f"no name resolves to {address}"
            told.listeners = self._at((address,))
        else:
            told.reason = f"{told.zone} is our zone, and no source gives this name"
        other = dotted(text, told.zone) if told.zone in self._rules.zones else text
        told.removed = self._seen.last_removal(text) or (self._seen.last_removal(other) if other != text else None)
        if told.zone is None or told.zone in self._rules.zones:
            told.nearest = tuple(dict.fromkeys(self._seen.closest(text, 2 * SHOWN)))[:SHOWN]
            told.hints = tuple(self._spellings(text, told.zone, told.nearest))

    def _spellings(self, text: str, zone: str | None, nearest: Sequence[str]) -> Iterator[str]:
        """Give what the asker may have meant: another spelling, a zone left out, a search suffix too many."""
        if zone is not None:
            for near in nearest:
                if dotted(near, zone) == dotted(text, zone):
                    yield f"{near} is served, but only as spelled: it has no second spelling with dots"
            return
        for known in self._rules.zones:
            if self._seen.record(f"{text}.{known}") is not None:
                yield f"{text}.{known} is served: was the zone left out?"
        stem = text
        while "." in stem:
            stem = stem.rpartition(".")[0]
            if zone_of(stem, self._rules.zones) is not None:
                if self._seen.record(stem) is not None:
                    ending = text[len(stem) + 1 :]
                    yield f"{stem} is served: did a resolver append its search domain {ending}? ({stem}. prevents that)"
                return

    def _below(self, name: str) -> Iterator[str]:
        zone = zone_of(name, self._rules.zones)
        for stored in self._seen.records():
            each = stored.record.name.lower()
            if each.endswith("." + name) or (zone is not None and _dotted_below(each, name, zone)):
                yield stored.record.name

    def _at(self, addresses: Sequence[IPAddress]) -> dict[tuple[IPAddress, int], str]:
        return {place: service for place, service in self._seen.listeners().items() if place[0] in addresses}

    def _state(self, source: str) -> SourceState | None:
        return next((state for state in self._status.sources if state.name == source), None)


def _dotted_below(each: str, name: str, zone: str) -> bool:
    return each.endswith("." + zone) and dotted(each, zone).endswith("." + dotted(name, zone))


def address_of(name: str) -> IPAddress | None:
    """Give the address whose reverse name *name* (lower case) is, None if it is none (RFC 1035 §3.5, RFC 3596 §2.5)."""
    labels = name.split(".")
    try:
        if name.endswith(".in-addr.arpa"):
            return IPv4Address(".".join(reversed(labels[:-2])))
        if name.endswith(".ip6.arpa") and len(labels) == 34:
            return IPv6Address(bytes.fromhex("".join(reversed(labels[:-2]))))
    except ValueError:
        pass
    return None
