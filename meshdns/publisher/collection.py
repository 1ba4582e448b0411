"""What all files say together: one resource of each identity, meshes that exist, data planes that joined by stream."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from meshdns.publisher.model import DEFAULT_MESH, Dataplane, Finding, Identity, Mesh, MeshResources, Place, Resource
from meshdns.publisher.reading import Reading


@dataclass(frozen=True, slots=True)
class Collection:
    """resources: of the mesh asked for. taken: all that is valid, of every mesh. faults, notices: a line each."""

    resources: MeshResources
    taken: Mapping[Identity, Resource]
    faults: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


def collect(
    readings: Mapping[str, Reading],
    joined: Iterable[Dataplane],
    mesh: str,
    before: Collection | None = None,
) -> Collection:
    """Put *readings* (by file) together.

    The first of two files that have one resource keeps it. A resource in a mesh that does not exist is left out, and
    what was valid in its place before stays. A Mesh that goes while others are in it stays (Kuma forbids to take it
    away). joined: data planes that came with a stream, which replace those of a file.
    """
    faults: list[Finding] = []
    notices: list[Finding] = []
    ignored: dict[str, int] = {}
    taken: dict[Identity, Resource] = {}
    for file in sorted(readings):
        reading = readings[file]
        faults += reading.faults
        notices += reading.notices
        for kind, count in reading.ignored.items():
            ignored[kind] = ignored.get(kind, 0) + count
        for identity, resource in reading.resources.items():
            first = taken.setdefault(identity, resource)
            if first is not resource:
                faults.append(_fault(resource, "name", f"is there in {_at(first.place)} already, which is taken"))
    _check_meshes(taken, before, faults)
    for dataplane in joined:
        taken[dataplane.identity] = dataplane
    if mesh != DEFAULT_MESH and ("Mesh", "", mesh) not in taken:
        faults.append(Finding("", None, "", "", f"no Mesh {mesh!r} is defined, so there is nothing to publish"))
    told = [str(each) for each in notices]
    if ignored:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(ignored.items()))
        told.append(f"kinds that are not published here: {kinds}")
    return Collection(MeshResources.of(mesh, taken.values()), taken, tuple(str(each) for each in faults), tuple(told))


def _check_meshes(taken: dict[Identity, Resource], before: Collection | None, faults: list[Finding]) -> None:
    """Take out what is in a mesh that does not exist; put back what must not go."""
    was: Mapping[Identity, Resource] = before.taken if before is not None else {}
    meshes = {DEFAULT_MESH, *(name for kind, _, name in taken if kind == "Mesh")}
    members: dict[str, int] = {}
    for identity in taken:
        members[identity[1]] = members.get(identity[1], 0) + 1
    for mesh in was.values():
        if isinstance(mesh, Mesh) and mesh.name not in meshes and members.get(mesh.name):
            meshes.add(mesh.name)
            taken[mesh.identity] = mesh
            problem = f"is gone, but {members[mesh.name]} resources are in it: it stays until they are gone"
            faults.append(_fault(mesh, "", problem))
    for identity, resource in list(taken.items()):
        kind, mesh_name, name = identity
        if kind == "Mesh" or mesh_name in meshes:
            continue
        del taken[identity]
        faults.append(_fault(resource, "mesh", f"there is no mesh {mesh_name!r}"))
        for old in was.values():
            same = old.identity[0] == kind and old.identity[2] == name and old.place.file == resource.place.file
            if same and old.identity not in taken and old.identity[1] in meshes:
                taken[old.identity] = old


def _fault(resource: Resource, field: str, problem: str) -> Finding:
    kind, _, name = resource.identity
    return Finding(resource.place.file, resource.place.line, f"{kind} {name!r}", field, problem)


def _at(place: Place) -> str:
    return place.file if place.line is None else f"{place.file}:{place.line}"
