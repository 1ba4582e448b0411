"""A resource ready to be sent: its content's version, and the serialized ``google.protobuf.Any``."""

from typing import NamedTuple

_PREFIX = "type.googleapis.com/envoy.config."
CLUSTER = _PREFIX + "cluster.v3.Cluster"
ENDPOINT = _PREFIX + "endpoint.v3.ClusterLoadAssignment"
LISTENER = _PREFIX + "listener.v3.Listener"


class Packed(NamedTuple):
    """version: 16 hexadecimal digits of the content's SHA-256. any: a serialized Any, to be copied as it is."""

    version: str
    any: bytes
