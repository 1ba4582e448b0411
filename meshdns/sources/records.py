"""The records file: names that an operator writes down, in YAML; text in, a table and every fault out; no I/O.

::

    ttl: 30                                    # seconds, of every record that has none of its own; default 30
    records:
      one.mesh: 240.0.0.1
      two.mesh: [240.0.0.2, "fd00:fd00::2"]
      "*.wild.mesh": 240.0.0.3                 # RFC 4592
      full.mesh: {addresses: [240.0.0.4], ttl: 5, service: full, ports: [{number: 80, target: full, placeholder: true}]}

A file that is broken as a whole gives nothing; a broken record costs that record only.
"""

from collections.abc import Iterator
from typing import Any

from meshdns.errors import Fault, ResourceError
from meshdns.inventory.name import check_address, check_name
from meshdns.inventory.record import (
    DEFAULT_TTL,
    MAX_ADDRESSES,
    MAX_TTL,
    IPAddress,
    NameRecord,
    Origin,
    Port,
    Table,
)
from meshdns.yaml_document import DocumentError, YamlList, YamlMapping, read

_FILE_KEYS = ("ttl", "records")
_RECORD_KEYS = ("addresses", "ttl", "service", "ports")
_PORT_KEYS = ("number", "target", "placeholder")
_SHOWN = 60
"""Characters of a value that a message repeats."""


class RecordsError(ResourceError):
    """A records file is broken as a whole; ``faults`` says everything that is wrong with it."""

    def __init__(self, path: str, faults: tuple[Fault, ...]) -> None:
        self.path = path
        self.faults = faults
        super().__init__("\n".join(fault.at(path) for fault in faults))


def parse_records(text: str, *, source: str, path: str, version: str = "") -> tuple[Table, tuple[Fault, ...]]:
    """Read a records file.

    source, path, version: where *text* came from, kept as the origin of every record.
    Gives the table, and a fault with its line for each record that was left out of it.

    Raises RecordsError when the file is broken as a whole: nothing of it can be used.
    """
    try:
        tree = read(text)
    except DocumentError as error:
        raise RecordsError(path, (error.fault,)) from None
    whole = tuple(_whole_faults(tree))
    if whole:
        raise RecordsError(path, whole)
    ttl: int = tree.get("ttl", DEFAULT_TTL)
    rows: YamlMapping = tree["records"]
    origin = Origin(source, path, version)
    faults = [
        Fault("records", f"{_short(name)} is there twice; the first, on line {rows.lines[name]}, is served", line)
        for name, line in rows.repeated
    ]
    records: dict[str, NameRecord] = {}
    lines: dict[str, int] = {}
    for name, value in rows.items():
        line = rows.lines[name]
        try:
            record = _record(name, value, ttl, origin)
        except ResourceError as error:
            faults.append(Fault("records", str(error), line))
            continue
        key = record.name.lower()
        other = records.get(key)
        if other is None:
            records[key], lines[key] = record, line
            continue
        # One name to DNS (RFC 4343). The last in byte order is served, as of names that a control plane pushes.
        loser, lost_line = record, line
        if record.name > other.name:
            loser, lost_line = other, lines[key]
            records[key], lines[key] = record, line
        winner = records[key]
        faults.append(
            Fault("records", f"{loser.name!r} is the same name as {winner.name!r} on line {lines[key]}", lost_line)
        )
    faults.sort(key=lambda fault: fault.line or 0)
    return Table(records), tuple(faults)


def _whole_faults(tree: Any) -> Iterator[Fault]:
    """Find what makes the whole file unusable: better no change than a table that nobody wrote."""
    if tree is None:
        yield Fault("", "is empty; an empty table is written 'records: {}'")
        return
    if not isinstance(tree, YamlMapping):
        yield Fault("", f"must be a mapping with the keys {' and '.join(_FILE_KEYS)}", 1)
        return
    for key, line in tree.repeated:
        yield Fault(key, f"there twice (first on line {tree.lines[key]})", line)
    for key in tree:
        if key not in _FILE_KEYS:
            yield Fault(key, f"unknown key; a records file has {' and '.join(_FILE_KEYS)}", tree.lines[key])
    if "ttl" in tree:
        try:
            _ttl(tree["ttl"])
        except ResourceError as error:
            yield Fault("ttl", str(error), tree.lines["ttl"])
    if "records" not in tree:
        yield Fault("records", "missing; an empty table is written 'records: {}'")
    elif not isinstance(tree["records"], YamlMapping):
        problem = "must be a mapping of name to address; an empty table is written 'records: {}'"
        yield Fault("records", problem, tree.lines["records"])


def _record(name: str, value: Any, ttl: int, origin: Origin) -> NameRecord:
    """Give one record; raises ResourceError naming it."""
    checked = check_name(name)
    try:
        if not isinstance(value, YamlMapping):
            return NameRecord(checked, _addresses(value), ttl, origin=origin)
        _check_keys(value, _RECORD_KEYS, "a record")
        return NameRecord(
            checked,
            _addresses(value.get("addresses")),
            _ttl(value["ttl"]) if "ttl" in value else ttl,
            _ports(value.get("ports")),
            _text(value.get("service"), "service"),
            origin,
        )
    except ResourceError as error:
        raise ResourceError(f"{_short(name)}: {error}") from None


def _check_keys(value: YamlMapping, known: tuple[str, ...], what: str) -> None:
    for key, line in value.repeated:
        raise ResourceError(f"key {_short(key)} is there twice (again on line {line})")
    for key in value:
        if key not in known:
            raise ResourceError(f"unknown key {_short(key)}; {what} has {', '.join(known)}")


def _addresses(value: Any) -> tuple[IPAddress, ...]:
    if isinstance(value, str):
        return (check_address(value),)
    if not isinstance(value, YamlList):
        raise ResourceError(
            "no address" if value is None else f"{_short(value)} is neither an address nor a list of addresses"
        )
    for item in value:
        if not isinstance(item, str):
            raise ResourceError(f"{_short(item)} is not an IP address")
    addresses = tuple(dict.fromkeys(map(check_address, value)))
    if not addresses:
        raise ResourceError("no address")
    if len(addresses) > MAX_ADDRESSES:
        raise ResourceError(f"{len(addresses)} addresses, the limit is {MAX_ADDRESSES}")
    return addresses


def _ttl(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_TTL:
        raise ResourceError(f"ttl {_short(value)} is not a whole number of seconds from 0 to {MAX_TTL}")
    return value


def _ports(value: Any) -> tuple[Port, ...]:
    if value is None:
        return ()
    if not isinstance(value, YamlList):
        raise ResourceError(f"ports must be a list, not {_short(value)}")
    ports: dict[int, Port] = {}
    for item in value:
        if not isinstance(item, YamlMapping):
            raise ResourceError(f"a port must be a mapping of {', '.join(_PORT_KEYS)}, not {_short(item)}")
        _check_keys(item, _PORT_KEYS, "a port")
        number, placeholder = item.get("number"), item.get("placeholder", False)
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= 65535:
            raise ResourceError(f"port number {_short(number)} is not a number from 1 to 65535")
        if not isinstance(placeholder, bool):
            raise ResourceError(f"placeholder of port {number} must be true or false, not {_short(placeholder)}")
        if number in ports:
            raise ResourceError(f"port {number} is there twice")
        ports[number] = Port(number, _text(item.get("target"), "target") or "", placeholder)
    return tuple(ports[number] for number in sorted(ports))


def _text(value: Any, key: str) -> str | None:
    if value is None or (isinstance(value, str) and value):
        return value
    raise ResourceError(f"{key} must be text, not {_short(value)}")


def _short(value: Any) -> str:
    if isinstance(value, YamlMapping):
        return "a mapping"
    if isinstance(value, YamlList):
        return "a list"
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
