"""What real control planes pushed, replayed over gRPC: the table after each step is what a reader must hold."""

import json
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

import pytest

from meshdns.inventory.event import Connected, Noticed, Pushed
from meshdns.inventory.record import Table
from tests.xds.control_plane import ControlPlane, Recording
from tests.xds.listening import DATA, Listening, source

FOLDERS = sorted(path.name for path in DATA.iterdir() if path.is_dir())


def shown(table: Table) -> dict[str, Any]:
    return {
        "table": {
            record.name: {"addresses": list(record.addresses), "ttl": record.ttl} for record in table.records.values()
        },
        "services": {
            f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}": service
            for (address, port), service in table.listeners.items()
        },
    }


def wanted(step: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "table": {
            name: {"addresses": [ip_address(text) for text in entry["addresses"]], "ttl": entry["ttl"]}
            for name, entry in step["table"].items()
        },
        "services": step["services"],
    }


def test_every_recording_is_here() -> None:
    assert len(FOLDERS) == 9


@pytest.mark.parametrize("folder", FOLDERS)
async def test_each_step_gives_its_table(folder: str) -> None:
    recording = Recording.load(DATA / folder)
    mesh, _, dataplane = recording.node_id.partition(".")
    async with (
        ControlPlane(recording) as plane,
        Listening(source(plane.address, mesh=mesh, dataplane=dataplane, protocol=recording.mode)) as listening,
    ):
        assert await listening.next(Connected) == Connected(plane.address, recording.mode)
        for number, step in enumerate(recording.expected):
            if number:
                await plane.advance(mesh)
            push = await listening.next(Pushed)
            assert len(push.table.records) == step["names_in_table"]
            if "table" in step:
                assert shown(push.table) == wanted(step)
            assert push.version == step["version"]
            assert push.table.lenient
            assert push.skipped == ()
            assert {record.origin.source for record in push.table.records.values()} <= {"kuma"}
            await plane.acked(number + 1)
        assert not listening.of(Noticed)
        assert plane.last.nacks == []
        assert plane.violations == []
        assert len(plane.streams) == 1
    if "table" not in recording.expected[-1]:  # the large folder holds its last state only
        final = json.loads((DATA / folder / "expected.json").read_bytes())
        assert shown(push.table) == wanted(final)


async def test_meshes_of_one_control_plane_stay_apart() -> None:
    """Both meshes give out VIPs of the same numbers."""
    default = Recording.load(DATA / "2.14.3-sotw-embedded-basic")
    payments = Recording.load(DATA / "2.14.3-sotw-embedded-payments")
    async with (
        ControlPlane(default, payments) as plane,
        Listening(source(plane.address, mesh="default", protocol="sotw")) as one,
        Listening(source(plane.address, mesh="payments", protocol="sotw")) as other,
    ):
        first, second = await one.next(Pushed), await other.next(Pushed)
        assert shown(first.table) == wanted(default.expected[0])
        assert shown(second.table) == wanted(payments.expected[0])
        vip = ip_address("240.0.0.0")
        assert first.table.listeners[vip, 80] == "Legacy_App"
        assert second.table.listeners[vip, 80] == "api_pay_svc_8080"


@pytest.mark.parametrize("folder", ["2.14.3-delta-embedded-growth", "3.0-delta-growth"])
async def test_a_burst_ends_with_the_last_table(folder: str) -> None:
    """Steps as fast as they are ACKed: tables may be passed over, the last one never."""
    recording = Recording.load(DATA / folder)
    async with (
        ControlPlane(recording, auto=True) as plane,
        Listening(source(plane.address, protocol="delta")) as listening,
    ):
        last = recording.expected[-1]
        push = await listening.next(Pushed)
        while push.version != last["version"]:
            push = await listening.next(Pushed)
        assert shown(push.table) == wanted(last)
        assert plane.violations == []
