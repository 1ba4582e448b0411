"""A data directory with a store in it, as a server that ran here would have left it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

from meshdns.config import Config
from meshdns.inventory.record import NameRecord, Origin, Port, Table
from meshdns.store.schema import store_path
from meshdns.store.writer import Writer
from meshdns.zone.entries import Rules

ECHO = Port(80, "echo_default_svc_8080", placeholder=True)
ECHO_REAL = Port(8080, "echo_default_svc_8080")

KUMA = """
echo_default_svc_8080.mesh 240.0.0.3 ::ffff:240.0.0.3
echo.default.svc.8080.mesh 240.0.0.3 ::ffff:240.0.0.3
Legacy_App.mesh 240.0.0.0
web.mesh 240.0.0.10
redis.mesh 240.0.0.9
httpbin.org 240.0.0.11
"""
LISTENERS = {"240.0.0.3:80": "echo_default_svc_8080", "240.0.0.9:6379": "redis", "[fd00:fd00::1]:80": "six"}
EXTRA = """
web.mesh 10.0.0.1
a_b.mesh 10.0.0.2
*.wild.mesh 10.0.0.3
deep.inside.mesh 10.0.0.4
"""


def table(zone: str, source: str, resource: str, *, lenient: bool = False) -> Table:
    """Give a table from lines of ``name address…``."""
    records = {}
    for name, *addresses in (line.split() for line in zone.strip().splitlines()):
        ports = (ECHO, ECHO_REAL) if name.startswith("echo") else ()
        service = "echo_default_svc_8080" if ports else None
        parsed = tuple(map(ip_address, addresses))
        records[name.lower()] = NameRecord(name, parsed, 30, ports, service, Origin(source, resource, "v1"))
    listeners = {
        (ip_address(place.rpartition(":")[0].strip("[]")), int(place.rpartition(":")[2])): service
        for place, service in LISTENERS.items()
        if source == "kuma"
    }
    return Table(records, listeners, lenient)


def keep(
    data_dir: Path,
    pushes: Sequence[tuple[str, str, Table]],
    *,
    sources: Sequence[str] = ("kuma", "extra"),
    rules: Rules | None = None,
    connected: Sequence[str] = (),
) -> Path:
    """Write *pushes* (source, version, table) to a new store below *data_dir* and give *data_dir*."""
    writer = Writer(store_path(data_dir), rules=rules or Config().rules(), sources=sources)
    for source in connected:
        writer.connected(source)
    for source, version, pushed in pushes:
        writer.apply(source, pushed, version=version)
    writer.close()
    return data_dir


def usual(data_dir: Path) -> Path:
    """Keep what most tests ask about: two sources, a name removed, one kept from nobody."""
    kuma = table(KUMA, "kuma", "_kuma:dynamicconfig", lenient=True)
    less = replace(kuma, records=without(kuma.records, "redis.mesh"))
    extra = table(EXTRA, "extra", "records.yaml")
    return keep(data_dir, [("kuma", "v1", kuma), ("extra", "sha", extra), ("kuma", "v2", less)])


def without(records: Mapping[str, NameRecord], *names: str) -> dict[str, NameRecord]:
    """Give *records* less *names*."""
    return {name: record for name, record in records.items() if name not in names}
