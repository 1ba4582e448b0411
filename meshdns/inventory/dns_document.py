"""The ``/dns`` document: the JSON in which Kuma 2.11 and later hands a data plane its table of names.

Shape: ``{"records": [{"name": …, "ips": [… ]}], "ttl": 30, "extraLabels": {…}}``; ``extraLabels`` since 2.14.
What can be partly read is read: an unusable name or address is left out and named, the rest is served.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any, NamedTuple

from meshdns.errors import ResourceError
from meshdns.inventory.body import MAPPED, Bodies, encode_body
from meshdns.inventory.name import MAX_NAME, check_address, check_name
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


_PLAIN_NAME = r"(?:[a-z0-9_-]{1,63}\.)*+[a-z0-9_-]{1,63}+"
_NAME = re.compile(_PLAIN_NAME + r"\Z")
_ROW = re.compile(
    r'\{"name":"(' + _PLAIN_NAME + r')","ips":\["([0-9.]{7,15})"(?:,"([0-9a-f:]{3,39})")?\]\},'
)  # fmt: skip
_OPEN, _BETWEEN, _LAST = '{"records":[', "},{", '"]}]'
_OF_ONE, _OF_TWO = len('{"name":"","ips":[""]},'), len('{"name":"","ips":["",""]},')
"""Characters of a row around its name and one address or two."""

_CHUNK = 1 << 19
"""Characters of a document that are read at a time: what is made on the way is then small."""

_USUAL = frozenset(range(1, 255)) - frozenset(range(224, 240))
"""First octets of IPv4 addresses which need no closer look."""

_MAPPED, _MAPPED_HEX = bytes.fromhex(MAPPED.decode()), MAPPED.decode()


class Entry(NamedTuple):
    """One name as a control plane wrote it, nothing checked yet. addresses: texts. ttl: seconds."""

    name: str
    addresses: Sequence[str]
    ttl: int = DEFAULT_TTL


@dataclass(frozen=True, slots=True)
class Document:
    """What a table of names said.

    records: keyed by the name in lower case. skipped: one line for each thing left out. notices: one line for
    each thing that was taken although an operator should know of it. extra_labels: labels of the data plane.
    """

    records: Mapping[str, NameRecord]
    skipped: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    extra_labels: dict[str, str] = field(default_factory=dict)


def parse_document(body: str | bytes, *, source: str, resource: str, version: str) -> Document:
    """Read a ``/dns`` document.

    body: the JSON. source, resource, version: where it came from, kept as the origin of every record.

    Raises ResourceError naming *resource* when *body* is not such a document at all.
    """
    origin = Origin(source, resource, version)
    return _read_usual(body, origin) or _read_any(body, origin)


def _read_any(body: str | bytes, origin: Origin) -> Document:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ResourceError(f"{origin.resource}: the /dns document is not JSON: {str(error)[:_SHOWN]}") from None
    if not isinstance(value, dict) or "records" not in value:
        raise ResourceError(f'{origin.resource}: the /dns document is not an object with "records"')
    rows = value["records"]
    if rows is None:  # Go writes an empty slice that was never made as null
        rows = []
    if not isinstance(rows, list):
        raise ResourceError(f'{origin.resource}: "records" of the /dns document is not a list')
    skipped: list[str] = []
    ttl, notices = _ttl_of(value)
    document = gather(_entries(rows, ttl, skipped), origin)
    return Document(
        document.records,
        (*skipped, *document.skipped),
        (*notices, *document.notices),
        _labels(value.get("extraLabels")),
    )


def _read_usual(body: str | bytes, origin: Origin) -> Document | None:
    """Read a document as Kuma writes it, of names with one IPv4 address each; None if it is any other.

    The rows are never JSON values: a third of the time, and for a million names not 500 MiB on the way.
    """
    try:
        text = body if isinstance(body, str) else body.decode()
    except UnicodeDecodeError:
        return None
    at, end = len(_OPEN), text.rfind(_LAST) + len(_LAST) - 1
    if not text.startswith(_OPEN) or end < at:
        return None
    try:
        value = json.loads(_OPEN + text[end:])
    except (ValueError, RecursionError):
        return None
    if value.get("records") != []:
        return None
    ttl, notices = _ttl_of(value)
    bodies: dict[str, bytes] = {}
    count = 0
    while at < end:
        cut = text.find(_BETWEEN, at + _CHUNK, end) + 2
        cut = cut if cut > 1 else end
        rows = _ROW.findall(text[at:cut] if cut < end else text[at:cut] + ",")
        if not _take_usual(rows, cut - at + (cut == end), ttl, bodies):
            return None
        count += len(rows)
        at = cut
    if len(bodies) < count:  # a name is there twice
        return None
    return Document(Bodies(bodies, origin), (), notices, _labels(value.get("extraLabels")))


def _take_usual(rows: list[tuple[str, str, str]], length: int, ttl: int, bodies: dict[str, bytes]) -> bool:
    """Add *rows* to *bodies*; tell whether they are all usual ones, and all that their text of this *length* holds."""
    try:
        for name, shown, mapped in rows:
            packed = inet_pton(AF_INET, shown)
            octets = packed.hex()
            if packed[0] not in _USUAL:
                return False
            length -= len(name) + len(shown) + len(mapped)
            if not mapped:
                bodies[name] = f'["{name}","{octets}",{ttl},[],null]\0'.encode()
                length -= _OF_ONE
            elif inet_pton(AF_INET6, mapped) == _MAPPED + packed:
                bodies[name] = f'["{name}","{octets} {_MAPPED_HEX}{octets}",{ttl},[],null]\0'.encode()
                length -= _OF_TWO
            else:
                return False
    except OSError:
        return False
    return not length and all(len(name) <= MAX_NAME for name, _, _ in rows)


def gather(entries: Iterable[Entry], origin: Origin) -> Document:
    """Check *entries* one by one and make records of them, all with *origin*.

    A name or address that cannot be served is left out and named in ``skipped``. A name that comes twice
    keeps the addresses of both. Of names that differ in case only, the last in byte order wins, which is a
    notice when their addresses differ.
    """
    rows = list(entries)
    bodies: dict[str, bytes] = {}
    others = []
    for entry in rows:
        name, texts, ttl = entry
        addresses = _usual_addresses(texts)
        if addresses and _NAME.match(name) and len(name) <= MAX_NAME and 0 <= ttl <= MAX_TTL and name not in bodies:
            bodies[name] = f'["{name}","{addresses}",{ttl},[],null]\0'.encode()
        else:
            others.append(entry)
    records, skipped, notices = _check(others, origin)
    if records.keys() & bodies.keys():
        records, skipped, notices = _check(rows, origin)
        bodies.clear()
    bodies |= {name: encode_body(record) for name, record in records.items()}
    return Document(Bodies(bodies, origin), tuple(skipped), tuple(notices))


def _usual_addresses(texts: Sequence[str]) -> str:
    """Give an IPv4 address, alone or before its IPv4-mapped twin, as a body has it; empty for anything else."""
    try:
        packed = inet_pton(AF_INET, texts[0])
        if packed[0] not in _USUAL:
            return ""
        octets = packed.hex()
        if len(texts) == 1:
            return octets
        if len(texts) == 2 and inet_pton(AF_INET6, texts[1]) == _MAPPED + packed:
            return f"{octets} {_MAPPED_HEX}{octets}"
    except (OSError, ValueError, IndexError):
        pass
    return ""


def _check(entries: Iterable[Entry], origin: Origin) -> tuple[dict[str, NameRecord], list[str], list[str]]:
    """Give the records of *entries*, what was skipped, and notices."""
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
    return _fold_case(by_spelling, notices), skipped, notices


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


def _ttl_of(value: dict[str, Any]) -> tuple[int, tuple[str, ...]]:
    """Give the TTL that a document states, in seconds, and a notice if it is none."""
    ttl = _ttl(value.get("ttl", DEFAULT_TTL))
    if ttl is not None:
        return ttl, ()
    return DEFAULT_TTL, (f"ttl {_short(value['ttl'])} is not a number of seconds; {DEFAULT_TTL} is used",)


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
