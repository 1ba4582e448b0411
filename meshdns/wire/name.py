"""Owner names between text and wire form (RFC 1035 §3.1, §5.1).

Keys of the store are names in lower-case wire form, never text: a label may hold any octet, and the one label
``web.mesh`` is not the two labels ``web`` and ``mesh`` (RFC 2181 §11).
"""

from collections.abc import Iterator

ROOT = b"\0"

_LENGTHS = [bytes((length,)) for length in range(64)]


def to_wire(name: str) -> bytes:
    """Give *name* (checked text, no escapes, with or without final dot) in lower-case wire form."""
    octets = name.lower().encode("ascii").split(b".")
    return b"".join([_LENGTHS[len(label)] + label for label in octets if label]) + ROOT


def to_text(wire: bytes) -> str:
    """Give the presentation form of *wire* (uncompressed, well-formed) without final dot, escaped by RFC 1035 §5.1."""
    return ".".join("".join(map(_escaped, label)) for label in labels(wire)) or "."


def labels(wire: bytes) -> Iterator[bytes]:
    """Give the labels of *wire* (uncompressed, well-formed) from the left, without the root."""
    at = 0
    while length := wire[at]:
        yield wire[at + 1 : at + 1 + length]
        at += 1 + length


def parents(wire: bytes) -> Iterator[bytes]:
    """Give the names above *wire*, nearest first, the root left out."""
    at = 1 + wire[0]
    while wire[at]:
        yield wire[at:]
        at += 1 + wire[at]


def _escaped(octet: int) -> str:
    if octet in b'."();@$\\':
        return "\\" + chr(octet)
    return chr(octet) if 0x21 <= octet <= 0x7E else f"\\{octet:03d}"
