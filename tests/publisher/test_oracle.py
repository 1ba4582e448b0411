"""What Kuma 2.14.3 pushed for the resources of each recording is what the publisher makes of them.

Names of kinds that are not published here (MeshService and its kin, with VIPs in 241.0.0.0/8 and up, KRI listeners)
are left out of the recordings.
"""

import json
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from meshdns.publisher.mesh_view import MeshView, build_view
from meshdns.publisher.model import MeshResources
from meshdns.publisher.names import entries_of
from meshdns.publisher.reading import read_resources
from meshdns.publisher.vips import EntryKey, Kind, Lease, Leases, allocate
from tests.publisher.meshes import dataplane, names, services, settings, written

RECORDED = Path(__file__).parent.parent / "data" / "kuma"
FOLDERS = sorted(folder.name for folder in RECORDED.glob("2.14.3-*"))

State = tuple[dict[str, list[str]], dict[str, str]]
"""Names with addresses, and ``VIP:port`` → service."""


def load(folder: str, file: str) -> Any:
    return json.loads((RECORDED / folder / f"{file}.json").read_bytes())


def legacy(step: Mapping[str, Any]) -> State:
    """The part of a recorded table that legacy resources made."""
    table = {name: each["addresses"] for name, each in step["table"].items()}
    return (
        {name: sorted(addresses) for name, addresses in table.items() if addresses[0].startswith("240.")},
        {place: service for place, service in step["services"].items() if not service.startswith("kri_")},
    )


def publish(resources: list[Any], mesh: str, leases: Leases) -> tuple[MeshView, Leases]:
    """What the publisher makes of *resources*, keeping VIPs as Kuma does."""
    chosen = settings(mesh=mesh, quarantine=0)
    reading = read_resources(written(*resources), "scenario.yaml")
    assert not reading.faults
    found = MeshResources.of(mesh, reading.resources.values())
    made = entries_of(found)
    wanted = [entry.key for entry in made.entries if entry.address is None]
    allocation = allocate(leases, wanted, chosen.network, now=0, quarantine=0)
    return build_view(found, made, allocation.addresses, chosen), allocation.leases


def seen(view: MeshView) -> State:
    assert {each.name: str(each.vip) for each in view.hostnames} == names(view)
    table = {each.name: sorted(each.addresses()) for each in view.hostnames}
    return table, services(view)


def states(scenario: Mapping[str, Any]) -> Iterator[State]:
    """What the publisher says at the beginning, and after each change."""
    mesh = scenario["node"]["id"].partition(".")[0]
    resources = {(each["type"], each["name"]): each for each in scenario["resources"]}
    view, leases = publish(list(resources.values()), mesh, {})
    yield seen(view)
    for event in scenario["events"]:
        identity = (event["resource"]["type"], event["resource"]["name"])
        if event["action"] == "PUT":
            resources[identity] = event["resource"]
        else:
            del resources[identity]
        view, leases = publish(list(resources.values()), mesh, leases)
        yield seen(view)


@pytest.mark.parametrize("folder", [folder for folder in FOLDERS if "scale" not in folder])
def test_every_push_of_kuma_is_a_state_of_ours_in_the_same_order(folder: str) -> None:
    scenario, expected = load(folder, "scenario"), load(folder, "expected")
    ours = list(states(scenario))
    times = [0.0, *(event["seconds_since_connect"] for event in scenario["events"])]
    at = 0
    for step in expected["steps"]:
        theirs = legacy(step)
        happened = sum(time <= step["seconds_since_connect"] for time in times)
        at = next((index for index in range(at, happened) if ours[index] == theirs), -1)
        assert at >= 0, f"response {step['response']} is no state of ours: {theirs}"
    assert ours[-1] == legacy(expected)


def test_two_thousand_services() -> None:
    expected = load("2.14.3-delta-embedded-scale2000", "expected")
    plane = [dataplane(f"s{number:05}", f"s{number:05}_default_svc_80") for number in range(2000)]
    table, places = legacy(expected)
    view, leases = publish(plane, "default", {})
    theirs = {
        EntryKey(Kind.SERVICE, service): Lease(ip_address(place.rpartition(":")[0]))
        for place, service in places.items()
    }
    # services were put there one by one, and some in another order than that of their names
    other = sorted(str(key) for key, lease in leases.items() if lease != theirs[key])
    assert other == [f"0:s{number:05}_default_svc_80" for number in range(1216, 1223)]
    kept, _ = publish(plane, "default", theirs)
    assert seen(kept) == (table, places)
    assert len(table) == len(view.hostnames) == 4000
