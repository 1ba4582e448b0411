"""Queries built octet for octet, and the seed packets of ``tests/data/packets``."""

import struct
from pathlib import Path

PACKETS = Path(__file__).parent.parent / "data" / "packets"


def query(
    name: bytes,
    qtype: int,
    *,
    qclass: int = 1,
    id: int = 0x1234,
    flags: int = 0x0100,
    questions: int = 1,
    answers: int = 0,
    authorities: int = 0,
    additional: int = 0,
    extra: bytes = b"",
) -> bytes:
    """Give a query; counts are as told, whatever *extra* really holds."""
    header = struct.pack("!6H", id, flags, questions, answers, authorities, additional)
    return header + name + struct.pack("!HH", qtype, qclass) + extra


def opt(size: int = 1232, *, version: int = 0, flags: int = 0, options: bytes = b"") -> bytes:
    """Give an OPT record."""
    return b"\0" + struct.pack("!HHBBHH", 41, size, 0, version, flags, len(options)) + options


def option(code: int, data: bytes) -> bytes:
    """Give an EDNS option."""
    return struct.pack("!HH", code, len(data)) + data


OPT = opt()
SEEDS = [path.read_bytes() for path in sorted(PACKETS.glob("*.bin"))]
