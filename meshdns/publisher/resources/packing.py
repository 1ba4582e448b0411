"""Messages → bytes: deterministic, with the version of their content."""

import hashlib
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage

from meshdns.publisher.packed import Packed

_TYPES = "type.googleapis.com/"


def any_of(message: Any) -> AnyMessage:
    """Give *message* in an Any."""
    return AnyMessage(
        type_url=_TYPES + message.DESCRIPTOR.full_name, value=message.SerializeToString(deterministic=True)
    )


def pack(message: Any) -> Packed:
    """Give *message* ready to be sent."""
    whole = any_of(message).SerializeToString(deterministic=True)
    return Packed(hashlib.sha256(whole).hexdigest()[:16], whole)
