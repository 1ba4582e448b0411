"""Judging the ports of a Service that points into the mesh, and of the Ingresses and routes that lead to it.

What counts is where the name's address listens: the port that a legacy name spells is not the port to dial.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from meshdns.inventory.record import NameRecord
from meshdns.kubernetes.finding import Finding, found
from meshdns.kubernetes.manifest_nodes import ManifestFile, entry_of, get, items, number_of, replaced, text_of
from meshdns.kubernetes.served import Served, plain


class Target:
    """A Service that is pointed at: what messages call it, its ``spec.ports``, and the mesh's record behind it."""

    def __init__(self, title: str, ports: yaml.Node | None, record: NameRecord | None, served: Served) -> None:
        self.title = title
        self.record = record
        self.entries = [
            (entry, node, number)
            for entry in items(ports)
            if (node := get(entry, "port")) is not None and (number := number_of(node)) is not None
        ]
        self.listening = None if record is None else _listening(record, served)
        declared = {number for _, _, number in self.entries}
        known = declared if self.listening is None else self.listening
        self.wrong = declared - known
        self.left = known - declared
        """Ports that listen, and are not among the Service's."""

    @property
    def right(self) -> int | None:
        """What the one wrong port must mean: the one that is left."""
        return next(iter(self.left)) if len(self.wrong) == len(self.left) == 1 else None

    @property
    def meant(self) -> dict[int, str]:
        """The Service's ports with their names, as they are when the one wrong port is corrected."""
        return {
            self.right if number in self.wrong and self.right else number: text_of(get(entry, "name")) or ""
            for entry, _, number in self.entries
        }


@dataclass(frozen=True, slots=True)
class Backend:
    """A reference to a Service. node: what holds it; port: its number, its name, or a mapping with either."""

    namespace: str
    service: str
    node: yaml.Node
    port: yaml.Node | None = None


def judge_ports(file: ManifestFile, service: Target) -> Iterator[Finding]:
    """Judge the ports that *service* declares."""
    for entry, node, number in service.entries:
        protocol = get(entry, "protocol")
        said = text_of(protocol)
        if protocol is not None and said not in {None, "TCP"}:
            message = f"port {number}: {said}, but listeners of the mesh take TCP"
            if [each for _, _, each in service.entries].count(number) > 1:
                yield found(file, protocol, "protocol", message, "take it out: the port is there twice")
            else:
                yield found(file, protocol, "protocol", message, "write TCP", replaced(file, protocol, "TCP"))
        if number in service.wrong:
            message = no_listener(number, service)
            if service.right is not None:
                edit = replaced(file, node, service.right)
                yield found(file, node, "no-listener", message, f"write {service.right}", edit)
            else:
                yield found(file, node, "no-listener", message, _choose(service.left))


def judge_backend(file: ManifestFile, backend: Backend, service: Target) -> Iterator[Finding]:
    """Judge the port of *backend*, which leads to *service*."""
    port = backend.port
    named, numbered = get(port, "name"), get(port, "number")
    if isinstance(port, yaml.ScalarNode):
        named, numbered = (None, port) if number_of(port) is not None else (port, None)
    declared = service.meant
    known = set(declared) or service.listening
    if text_of(named) is not None:
        assert named is not None
        if text_of(named) not in declared.values():
            yield _lacks_name(file, backend, named, service)
        return
    number = number_of(numbered)
    if numbered is None or number is None:
        if known:
            place = numbered or port or backend.node
            message = f"names no port of Service {service.title}"
            yield found(file, place, "backend-port", message, f"name {_either(known)}")
        return
    if known is None or number in known:
        return
    if declared:
        rule, message = "backend-port", f"port {number}: Service {service.title} has {_either(known)}"
    else:
        rule, message = "no-listener", no_listener(number, service)
    only = _only(known)
    if only is not None:
        yield found(file, numbered, rule, message, f"write {only}", replaced(file, numbered, only))
    else:
        yield found(file, numbered, rule, message, _choose(known))


def no_listener(number: int, service: Target) -> str:
    """Say that *number* is a port on which nothing listens, and which ports are others."""
    assert service.record is not None
    address = plain(service.record.addresses[0])
    place = f"{address}:{number}" if address.version == 4 else f"[{address}]:{number}"
    others = ", ".join(map(str, sorted(service.listening or ()))) or "nothing"
    return f"port {number}: no listener on {place}; listening: {others}"


def _listening(record: NameRecord, served: Served) -> set[int] | None:
    """Give the ports of *record*; None when nobody knows them."""
    ports = {port.number for port in served.ports(record)}
    return ports if ports or served.must_have_ports(record) else None


def _lacks_name(file: ManifestFile, backend: Backend, named: yaml.Node, service: Target) -> Finding:
    """Say that *service* has no port called *named*."""
    declared = service.meant
    only = _only(set(declared) or service.listening)
    names = ", ".join(sorted(filter(None, declared.values())))
    message = f"port {text_of(named)!r}: Service {service.title} {f'has {names}' if names else 'names no port'}"
    if only is None:
        remedy = f"name {names or _either(set(declared))}" if declared else "name the port by its number"
        return found(file, named, "backend-port-name", message, remedy)
    if declared.get(only):
        right = declared[only]
        return found(file, named, "backend-port-name", message, f"write {right}", replaced(file, named, right))
    key = entry_of(backend.port, "name")
    if key is None:
        return found(file, named, "backend-port-name", message, f"write {only}", replaced(file, named, only))
    edits = replaced(file, key[0], "number"), replaced(file, named, only)
    return found(file, named, "backend-port-name", message, f"write number: {only}", *edits)


def _only(ports: set[int] | None) -> int | None:
    return next(iter(ports)) if ports and len(ports) == 1 else None


def _choose(ports: set[int]) -> str:
    return f"write {_either(ports)}" if ports else "take it out: every port that listens is there already, if any"


def _either(ports: set[int]) -> str:
    return " or ".join(map(str, sorted(ports)))
