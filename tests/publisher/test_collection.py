"""What all files say together."""

from typing import Any

from meshdns.publisher.collection import Collection, collect
from meshdns.publisher.reading import Reading, read_resources
from tests.publisher.meshes import dataplane, written

PAYMENTS = {"type": "Mesh", "name": "payments"}


def reading(file: str, *resources: Any) -> Reading:
    found = read_resources(written(*resources), file)
    assert not found.faults
    return found


def collected(mesh: str = "default", before: Collection | None = None, **files: list[Any]) -> Collection:
    return collect({f"{name}.yaml": reading(f"{name}.yaml", *each) for name, each in files.items()}, (), mesh, before)


def inside(mesh: str, name: str = "pay-1") -> Any:
    return dataplane(name, "pay") | {"mesh": mesh}


def planes(found: Collection) -> list[str]:
    return [each.name for each in found.resources.dataplanes]


def test_the_default_mesh_is_there_and_others_must_be_written() -> None:
    found = collected(a=[dataplane("a", "web"), inside("payments")])
    assert planes(found) == ["a"]
    assert found.faults == ("a.yaml:18: Dataplane 'pay-1': mesh: there is no mesh 'payments'",)
    assert collected(a=[inside("payments")], b=[PAYMENTS]).faults == ()


def test_resources_of_another_mesh_are_none_of_ours() -> None:
    found = collected("payments", a=[PAYMENTS, inside("payments"), dataplane("a", "web")])
    assert planes(found) == ["pay-1"]
    assert not found.faults


def test_a_mesh_that_is_not_defined_is_told() -> None:
    assert collected("payments", a=[]).faults == ("no Mesh 'payments' is defined, so there is nothing to publish",)


def test_of_two_files_with_one_resource_the_first_keeps_it() -> None:
    found = collected(b=[dataplane("x", "two")], a=[dataplane("x", "one")])
    assert found.resources.dataplanes[0].inbounds[0].service == "one"
    assert found.faults == ("b.yaml:1: Dataplane 'x': name: is there in a.yaml:1 already, which is taken",)


def test_a_mesh_that_goes_while_others_are_in_it_stays_until_they_are_gone() -> None:
    first = collected("payments", a=[PAYMENTS], b=[inside("payments")])
    second = collected("payments", first, b=[inside("payments")])
    assert planes(second) == ["pay-1"]
    assert "Mesh 'payments': is gone, but 1 resources are in it" in second.faults[0]
    third = collected("payments", second, b=[])
    assert planes(third) == []
    assert "no Mesh 'payments' is defined" in third.faults[0]


def test_a_resource_that_is_moved_to_a_mesh_that_does_not_exist_stays_where_it_was() -> None:
    first = collected(a=[dataplane("a", "web"), dataplane("b", "api")])
    second = collected("default", first, a=[dataplane("a", "web") | {"mesh": "defualt"}])
    assert planes(second) == ["a"]
    assert second.faults == ("a.yaml:1: Dataplane 'a': mesh: there is no mesh 'defualt'",)
    assert planes(collected("default", second, a=[dataplane("a", "web") | {"mesh": "defualt"}])) == ["a"]


def test_a_data_plane_that_joined_replaces_that_of_a_file() -> None:
    joined = reading("node", dataplane("a", "joined")).resources.values()
    found = collect({"a.yaml": reading("a.yaml", dataplane("a", "written"))}, joined, "default")  # type: ignore[arg-type]
    assert found.resources.dataplanes[0].inbounds[0].service == "joined"


def test_kinds_that_are_not_published_are_told_in_one_line() -> None:
    kinds = [{"type": kind, "mesh": "default", "name": "x"} for kind in ("MeshService", "MeshTimeout", "MeshService")]
    assert collected(a=kinds[:1], b=kinds[1:]).notices == (
        "kinds that are not published here: 2 MeshService, 1 MeshTimeout",
    )
