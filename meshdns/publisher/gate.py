"""Who is let in: each refusal in Kuma's words, which its data planes and our own client know. No I/O."""

from collections.abc import Sequence

from meshdns.errors import ResourceError
from meshdns.publisher.mesh_view import MeshView
from meshdns.publisher.node import Node
from meshdns.publisher.tokens import check

SECOND_STREAM = "there is already an active stream from this node, try again later"


def check_token(node: Node, authorization: Sequence[str], key: bytes | None, *, now: float) -> None:
    """Refuse a stream of *node* without the right token; raises ResourceError.

    authorization: every value of that key in the stream's metadata. key: None where tokens are not asked for.
    now: unix seconds.
    """
    if key is None:
        return
    if len(authorization) > 1:
        raise ResourceError(
            "could not extract credential from DiscoveryRequest: request must have exactly 1 "
            f'"authorization" header, got {len(authorization)}'
        )
    check(authorization[0] if authorization else "", node.mesh, node.dataplane, key, now=now)


def check_mesh(node: Node, view: MeshView) -> None:
    """Refuse a node of another mesh; raises ResourceError."""
    if node.mesh != view.mesh:
        raise not_found(node)


def not_found(node: Node) -> ResourceError:
    """Give the refusal of a node whose mesh or Dataplane does not exist."""
    return ResourceError(
        f'resource "{node.mesh}.{node.dataplane}" not found; '
        "create a Dataplane in Kuma CP first or pass it as an argument to kuma-dp"
    )
