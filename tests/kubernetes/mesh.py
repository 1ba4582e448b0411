"""A store as a server leaves it: what a real control plane pushed, step by step, and names from other sources."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

from meshdns.inventory.kri import parse_kri
from meshdns.inventory.record import NameRecord, Origin, Port, Table
from meshdns.kubernetes.served import Served
from meshdns.store.reader import Reader
from meshdns.store.schema import store_path
from meshdns.store.writer import Writer
from meshdns.xds.decode.discovery import decode_response
from meshdns.xds.decode.join import join
from meshdns.xds.decode.kuma import Piece, decode_listener
from meshdns.zone.entries import Rules

DATA = Path(__file__).parent.parent / "data"
RULES = Rules(("mesh", "mesh.local"))
BASIC = "2.14.3-sotw-embedded-basic"

Pushes = Sequence[tuple[str, str, Table]]
"""Source, version, table."""


def recorded(folder: str) -> list[tuple[str, Table]]:
    """Give version and table of each response that a recording holds."""
    pieces: dict[str, Piece] = {}
    tables = []
    delta = "-delta-" in folder
    for path in sorted((DATA / "kuma" / folder).glob("*.pb")):
        response = decode_response(path.read_bytes(), "delta" if delta else "sotw")
        if not delta:
            pieces = {}
        for resource in response.resources:
            name, piece = decode_listener(resource, response.version, source="kuma")
            pieces[name] = piece
        for name in response.removed:
            pieces.pop(name, None)
        tables.append((response.version, join(pieces, zones=RULES.zones).table))
    return tables


def record(
    name: str, *addresses: str, ports: Mapping[int, str] | None = None, service: str | None = None, **origin: str
) -> NameRecord:
    """Give a record. ports: number → where it leads; service: default that of the lowest port."""
    behind = tuple(Port(number, target) for number, target in sorted((ports or {}).items()))
    if service is None and behind:
        kri = parse_kri(behind[0].target)
        service = behind[0].target if kri is None else str(kri.resource)
    said = {"source": "kuma", "version": "v1", **origin}
    return NameRecord(name, tuple(map(ip_address, addresses)), 30, behind, service, Origin(**said))


def table(*records: NameRecord, lenient: bool = True) -> Table:
    """Give the table of *records*, with a listener for each port of each."""
    listeners = {
        (address, port.number): port.target for each in records for address in each.addresses for port in each.ports
    }
    return Table({each.name.lower(): each for each in records}, listeners, lenient)


def legacy(service: str, address: str, *more: int) -> list[NameRecord]:
    """Give both spellings of a ``kuma.io/service`` that is served on 80 and *more* ports."""
    ports = dict.fromkeys((80, *more), service)
    names = dict.fromkeys((f"{service}.mesh", service.replace("_", ".") + ".mesh"))
    return [record(name, address, ports=ports) for name in names]


def usual() -> Pushes:
    """Give what the tests of linting are about: every kind of name that Kuma makes, and two other sources."""
    more = [
        *legacy("frontend_kong_svc_80", "240.0.1.1"),
        record("internal.edge.payments.mesh", "240.0.1.2", ports={8080: "edge-gateway"}),
        record("silent.mesh", "240.0.1.3"),
    ]
    pushes = [
        ("kuma", version, replace(each, records={**each.records, **table(*more).records}))
        for version, each in recorded(BASIC)
    ]
    pushes = [
        (source, version, replace(each, listeners={**each.listeners, **table(*more).listeners}))
        for source, version, each in pushes
    ]
    files = table(
        record("*.wild.mesh", "10.0.0.3", ports={80: "wild"}, source="extra"),
        record("under_score.mesh", "10.0.0.4", ports={80: "under_score"}, source="extra"),
        record("a_b.mesh", "10.0.0.5", ports={80: "one"}, source="extra"),
        record("a.b.mesh", "10.0.0.6", ports={80: "another"}, source="extra"),
        lenient=False,
    )
    sidecar = table(record("quiet.mesh", "240.0.2.1", source="sidecar"))
    return [*pushes, ("extra", "sha", files), ("sidecar", "etag", sidecar)]


def keep(data_dir: Path, pushes: Pushes, *, sources: Sequence[str] = ("kuma", "extra", "sidecar")) -> Path:
    """Write *pushes* to a new store below *data_dir* and give *data_dir*."""
    writer = Writer(store_path(data_dir), rules=RULES, sources=sources, wall=lambda: 1_795_000_000.0)
    for source, version, pushed in pushes:
        writer.apply(source, pushed, version=version)
    writer.close()
    return data_dir


@contextmanager
def served(data_dir: Path, rules: Rules = RULES) -> Iterator[Served]:
    """Give what is served from the store below *data_dir*."""
    reader = Reader(store_path(data_dir))
    try:
        with reader.snapshot() as seen:
            yield Served(seen, rules)
    finally:
        reader.close()
