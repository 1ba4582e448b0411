"""A record as the store keeps it: its body (see ``inventory.body``), then JSON of its origin.

The origin stands apart because it does not count: a record is unchanged when the stored octets begin with the body of
the new one. The source is in the key.
"""

import json
from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring_ascii as quoted

from meshdns.inventory.body import Bodies, decode_body
from meshdns.inventory.record import NameRecord, Origin


def encode_origin(origin: Origin) -> bytes:
    """Give the resource and version of *origin*; the source is in the key."""
    return f"[{quoted(origin.resource)},{quoted(origin.version)}]".encode("ascii")


def decode_record(value: bytes, source: str) -> NameRecord:
    """Give the record of *source* that was encoded to *value*."""
    end = value.index(b"\0") + 1
    resource, version = json.loads(value[end:])
    return decode_body(value[:end], Origin(source, resource, version))


def body(value: bytes) -> bytes:
    """Give the body in *value*."""
    return value[: value.index(b"\0") + 1]


def encode_all(names: Sequence[str], records: Mapping[str, NameRecord], bodies: Mapping[str, bytes]) -> list[bytes]:
    """Give what is stored for each of *names*, of which *records* has the origins and *bodies* the rest."""
    if isinstance(records, Bodies):
        origin = encode_origin(records.origin)
        return [bodies[name] + origin for name in names]
    return [bodies[name] + encode_origin(records[name].origin) for name in names]
