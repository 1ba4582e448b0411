"""VIPs kept in a real SQLite file: restarts, two processes, damage, what cannot be written."""

import sqlite3
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest

from meshdns.errors import StoreError
from meshdns.publisher.settings import PublisherSettings
from meshdns.publisher.vip_store import SqliteVipStore
from meshdns.publisher.vips import Allocation, EntryKey, Kind, Lease, Leases, allocate

NET = PublisherSettings(name="own", path=Path("mesh")).network


def keys(text: str) -> list[EntryKey]:
    return [EntryKey(Kind.SERVICE, name) for name in text]


def update(store: SqliteVipStore, text: str, *, space: str = "default/bind", now: float = 0) -> dict[str, str]:
    found = store.update(space, lambda leases: allocate(leases, keys(text), NET, now=now, quarantine=60))
    return {key.name: str(address) for key, address in found.addresses.items()}


def kept(path: Path, space: str = "default/bind") -> dict[str, Lease]:
    seen: dict[str, Lease] = {}

    def look(leases: Leases) -> Allocation:
        seen.update({key.name: lease for key, lease in leases.items()})
        return Allocation(leases)

    store = SqliteVipStore(path)
    store.update(space, look)
    store.close()
    return seen


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "vips.sqlite"


def test_vips_survive_a_restart_and_any_order_of_arrival(path: Path) -> None:
    first = SqliteVipStore(path)
    assert update(first, "ca") == {"a": "127.80.0.0", "c": "127.80.0.1"}
    first.close()
    second = SqliteVipStore(path)
    assert update(second, "bac") == {"a": "127.80.0.0", "b": "127.80.0.2", "c": "127.80.0.1"}
    second.close()


def test_freed_addresses_rest_across_a_restart(path: Path) -> None:
    first = SqliteVipStore(path)
    update(first, "ab", now=0)
    update(first, "b", now=10)
    first.close()
    assert kept(path)["a"] == Lease(ip_address("127.80.0.0"), 10.0)
    second = SqliteVipStore(path)
    assert update(second, "bc", now=69)["c"] == "127.80.0.2"
    assert update(second, "bcd", now=70)["d"] == "127.80.0.0"
    second.close()


def test_an_address_may_pass_to_another_entry_in_one_change(path: Path) -> None:
    store = SqliteVipStore(path)
    a, b = keys("ab")
    one, two = ip_address("127.80.0.1"), ip_address("127.80.0.2")
    store.update("s", lambda _: Allocation({a: Lease(one), b: Lease(two)}))
    store.update("s", lambda _: Allocation({a: Lease(two), b: Lease(one)}))
    store.close()
    assert kept(path, "s") == {"a": Lease(two), "b": Lease(one)}


def test_spaces_do_not_know_each_other(path: Path) -> None:
    store = SqliteVipStore(path)
    assert update(store, "a", space="default/bind") == {"a": "127.80.0.0"}
    assert update(store, "b", space="payments/bind") == {"b": "127.80.0.0"}
    assert update(store, "ab", space="payments/bind") == {"b": "127.80.0.0", "a": "127.80.0.1"}
    assert update(store, "a", space="default/bind") == {"a": "127.80.0.0"}
    store.close()


def test_a_change_that_fails_changes_nothing(path: Path) -> None:
    store = SqliteVipStore(path)
    update(store, "a")

    def fail(_: Leases) -> Allocation:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        store.update("default/bind", fail)
    twice = Allocation({key: Lease(ip_address("127.80.0.9")) for key in keys("xy")})
    with pytest.raises(StoreError, match="UNIQUE"):
        store.update("default/bind", lambda _: twice)
    assert update(store, "ab") == {"a": "127.80.0.0", "b": "127.80.0.1"}
    store.close()


CHILD = """
import sys
from pathlib import Path
from meshdns.publisher.vip_store import SqliteVipStore
from meshdns.publisher.vips import EntryKey, Kind, allocate
from ipaddress import ip_network
store = SqliteVipStore(Path(sys.argv[1]))
for number in range(20):
    mine = {EntryKey(Kind.SERVICE, f"{sys.argv[2]}{number}")}
    store.update("s", lambda leases: allocate(
        leases, mine | set(leases), ip_network("127.80.0.0/16"), now=0, quarantine=60))
"""


def test_two_processes_never_give_one_address_twice(path: Path) -> None:
    running = [subprocess.Popen([sys.executable, "-c", CHILD, str(path), name]) for name in "ab"]
    assert [each.wait(60) for each in running] == [0, 0]
    leases = kept(path, "s")
    assert len(leases) == 40
    assert len({lease.address for lease in leases.values()}) == 40


@pytest.mark.parametrize("damage", [lambda _: b"not a database at all" * 400, lambda old: old[:40] + b"\xff" * 4000])
def test_a_damaged_file_is_set_aside_and_said(path: Path, damage: object, caplog: pytest.LogCaptureFixture) -> None:
    store = SqliteVipStore(path)
    update(store, "ab")
    store.close()
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    mended = SqliteVipStore(path, wall=lambda: 0)
    assert update(mended, "b") == {"b": "127.80.0.0"}
    mended.close()
    assert path.with_name("vips.sqlite.damaged-19700101T000000Z").exists()
    assert "set aside" in caplog.text


def test_a_newer_format_is_refused_by_its_number(path: Path) -> None:
    store = SqliteVipStore(path)
    update(store, "a")
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=7")
    connection.close()
    newer = SqliteVipStore(path)
    with pytest.raises(StoreError, match="format 7, this meshdns knows format 1"):
        update(newer, "a")
    assert kept_version(path) == 7


def kept_version(path: Path) -> int:
    connection = sqlite3.connect(path)
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    return int(found)


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/vips\.sqlite"):
        update(SqliteVipStore(tmp_path / "file" / "vips.sqlite"), "a")


def test_the_file_is_for_its_owner_only(path: Path) -> None:
    store = SqliteVipStore(path)
    update(store, "a")
    store.close()
    assert path.stat().st_mode & 0o777 == 0o600
