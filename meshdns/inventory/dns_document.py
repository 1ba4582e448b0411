"""The ``/dns`` document: the JSON in which Kuma 2.11 and later hands a data plane its table of names.

Shape: ``{"records": [{"name": …, "ips": [… ]}], "ttl": 30, "extraLabels": {…}}``; ``extraLabels`` since 2.14.
What can be partly read is read: an unusable name or address is left out and named, the rest is served.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from meshdns.errors import ResourceError
from meshdns.inventory.name import check_address, check_name
from meshdns.inventory.record import (
    DEFAULT_TTL,
    MAX_ADDRESSES,
    MAX_TTL,
    IPAddress,
    NameRecord,
    Origin,
)

_SHOWN = 80
"""Characters of a foreign value that a message repeats."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One name as a control plane wrote it, nothing checked yet. ttl: seconds."""

    name: str
    addresses: Sequence[str]
    ttl: int = DEFAULT_TTL


@dataclass(frozen=True, slots=True)
class Document:
    """What a table of names said.

    records: keyed by the name in lower case. skipped: one line for each thing left out. notices: one line for
    each thing that was taken although an operator should know of it. extra_labels: labels of the data plane.
    """

    records: dict[str, NameRecord]
    skipped: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    extra_labels: dict[str, str] = field(default_factory=dict)


def parse_document(body: str | bytes, *, source: str, resource: str, version: str) -> Document:
    """Read a ``/dns`` document.

    body: the JSON. source, resource, version: where it came from, kept as the origin of every record.

    Raises ResourceError naming *resource* when *body* is not such a document at all.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ResourceError(f"{resource}: the /dns document is not JSON: {str(error)[:_SHOWN]}") from None
    if not isinstance(value, dict) or "records" not in value:
        raise ResourceError(f'{resource}: the /dns document is not an object with "records"')
    rows = value["records"]
    if rows is None:  # Go writes an empty slice that was never made as null
        rows = []
    if not isinstance(rows, list):
        raise ResourceError(f'{resource}: "records" of the /dns document is not a list')

    skipped: list[str] = []
    notices: list[str] = []
    ttl = _ttl(value.get("ttl", DEFAULT_TTL))
    if ttl is None:
        notices.append(f"ttl {_short(value['ttl'])} is not a number of seconds; {DEFAULT_TTL} is used")
        ttl = DEFAULT_TTL
    document = gather(_entries(rows, ttl, skipped), Origin(source, resource, version))
    return Document(
        document.records,
        (*skipped, *document.skipped),
        (*notices, *document.notices),
        _labels(value.get("extraLabels")),
    )


def gather(entries: Iterable[Entry], origin: Origin) -> Document:
    """Check *entries* one by one and make records of them, all with *origin*.

    A name or address that cannot be served is left out and named in ``skipped``. A name that comes twice
    keeps the addresses of both. Of names that differ in case only, the last in byte order wins, which is a
    notice when their addresses differ.
    """
    skipped: list[str] = []
    notices: list[str] = []
    by_spelling: dict[str, NameRecord] = {}
    for entry in entries:
        name, problem = _name(entry.name)
        if problem:
            skipped.append(f"name {problem}")
            continue
        addresses = _addresses(name, entry.addresses, skipped)
        if not addresses:
            skipped.append(f"name {name!r}: no usable address")
            continue
        ttl = entry.ttl
        if not 0 <= ttl <= MAX_TTL:
            notices.append(f"name {name!r}: ttl {ttl} is out of range; {DEFAULT_TTL} is used")
            ttl = DEFAULT_TTL
        earlier = by_spelling.get(name)
        if earlier is not None:
            if earlier.addresses != addresses:
                notices.append(f"name {name!r} comes twice; the addresses of both are served")
            merged = tuple(dict.fromkeys(earlier.addresses + addresses))[:MAX_ADDRESSES]
            by_spelling[name] = replace(earlier, addresses=merged, ttl=min(earlier.ttl, ttl))
        else:
            by_spelling[name] = NameRecord(name, addresses, ttl, origin=origin)
    return Document(_fold_case(by_spelling, notices), tuple(skipped), tuple(notices))


def _fold_case(by_spelling: dict[str, NameRecord], notices: list[str]) -> dict[str, NameRecord]:
    """Key records by lower-case name; of several spellings the last in byte order stays."""
    records: dict[str, NameRecord] = {}
    for name, record in by_spelling.items():
        key = name.lower()
        other = records.get(key)
        if other is None:
            records[key] = record
            continue
        winner, loser = (record, other) if record.name > other.name else (other, record)
        records[key] = winner
        if winner.addresses != loser.addresses:
            notices.append(
                f"names {loser.name!r} and {winner.name!r} differ only in case: {winner.name!r} is served "
                f"({winner.addresses[0]}), {loser.name!r} is not ({loser.addresses[0]})"
            )
    return records


@lru_cache(maxsize=2**17)
def _address(text: str) -> IPAddress | str:
    """Give *text* as an address, or what is wrong with it. Kept: each push repeats the whole table."""
    try:
        return check_address(text)
    except ResourceError as error:
        return str(error)


@lru_cache(maxsize=2**17)
def _name(text: str) -> tuple[str, str]:
    """Give *text* as a name, or else an empty one and what is wrong with it. Kept as addresses are."""
    try:
        return check_name(text), ""
    except ResourceError as error:
        return "", str(error)


def _addresses(name: str, texts: Sequence[str], skipped: list[str]) -> tuple[IPAddress, ...]:
    """Give the usable addresses of *texts* in order, without duplicates."""
    found: dict[IPAddress, None] = {}
    for text in texts:
        address = _address(text)
        if isinstance(address, str):
            skipped.append(f"address of {name!r}: {address}")
        elif len(found) < MAX_ADDRESSES:
            found[address] = None
        elif address not in found:
            skipped.append(f"address of {name!r}: {address} is beyond the limit of {MAX_ADDRESSES} addresses")
    return tuple(found)


def _entries(rows: list[Any], ttl: int, skipped: list[str]) -> Iterator[Entry]:
    for index, row in enumerate(rows):
        if not isinstance(row, dict) or not isinstance(row.get("name"), str):
            skipped.append(f'records[{index}]: no "name" that is text: {_short(row)}')
            continue
        name, ips = row["name"], row.get("ips")
        if not isinstance(ips, list):
            skipped.append(f'name {name[:_SHOWN]!r}: "ips" is not a list: {_short(ips)}')
            continue
        texts = []
        for ip in ips:
            if isinstance(ip, str):
                texts.append(ip)
            else:
                skipped.append(f"address of {name[:_SHOWN]!r}: {_short(ip)} is not text")
        yield Entry(name, texts, ttl)


def _ttl(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # a float is taken when it is a whole number: some writers give 30.0
    return int(value) if 0 <= value <= MAX_TTL and value == int(value) else None


def _labels(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {key: text for key, text in value.items() if isinstance(text, str)}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
