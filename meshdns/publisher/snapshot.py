"""Everything that one node is to have: resources by type and name, each with the version of its content.

The same view and node give the same bytes, whatever process builds them, so versions survive a restart and a
reconnecting Envoy that tells what it has is sent only what differs.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from meshdns.publisher.mesh_view import MeshView
from meshdns.publisher.node import Node
from meshdns.publisher.packed import CLUSTER, ENDPOINT, LISTENER, Packed
from meshdns.publisher.resources import dns, inbound, outbound, passthrough

ORDER = (CLUSTER, ENDPOINT, LISTENER)
"""Type URLs in make-before-break order: what is referred to goes first (removals go the other way round)."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Resources: type URL → name → (version, serialized Any). Every type of ``ORDER`` is there."""

    resources: Mapping[str, Mapping[str, Packed]]

    def version(self, type_url: str) -> str:
        """Give the version of all resources of *type_url* together (SotW's ``version_info``)."""
        digest = hashlib.sha256()
        for name, packed in sorted(self.resources.get(type_url, {}).items()):
            digest.update(f"{name}\0{packed.version}\n".encode())
        return digest.hexdigest()[:16]

    def changed(self, before: "Snapshot", type_url: str) -> tuple[dict[str, Packed], tuple[str, ...]]:
        """Give the resources of *type_url* that are new or differ from *before*, and the names that are gone."""
        old, new = before.resources.get(type_url, {}), self.resources.get(type_url, {})
        differing = {
            name: packed for name, packed in new.items() if name not in old or old[name].version != packed.version
        }
        return differing, tuple(name for name in old if name not in new)


def build_snapshot(view: MeshView, node: Node) -> Snapshot:
    """Give what *node* is to have of *view*.

    A node whose Dataplane is not in the view (``view.dataplanes``) is refused by the server; asked for all the same,
    it gets outbounds and names, and no inbounds.
    """
    dataplane = view.dataplanes.get(node.dataplane)
    reachable = dataplane.reachable if dataplane is not None else None
    listeners, clusters, endpoints = (dict(part) for part in outbound.resources(view, reachable))
    if dataplane is not None:
        inbound.add(view, dataplane, listeners, clusters)
    passthrough.add(view, dataplane, node, listeners, clusters)
    dns.add(view, dataplane, node, listeners)
    return Snapshot(
        {CLUSTER: _sorted(clusters), ENDPOINT: _sorted(endpoints), LISTENER: _sorted(listeners)},
    )


def _sorted(resources: Mapping[str, Packed]) -> dict[str, Packed]:
    return {name: resources[name] for name in sorted(resources)}
