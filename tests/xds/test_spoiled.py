"""Recorded responses with flipped, lost and doubled octets: each is refused in words or read, never a crash."""

import random
from functools import partial
from typing import Any

import pytest

from meshdns.errors import ResourceError
from meshdns.xds.decode.discovery import decode_response, encode_request
from meshdns.xds.decode.join import join
from meshdns.xds.decode.kuma import Piece, decode_listener
from meshdns.xds.node import Node
from meshdns.xds.reading import Reading
from meshdns.xds.session import DeltaSession, Protocol, Session, SotwSession
from tests.scale import scale
from tests.xds.control_plane import Recording
from tests.xds.listening import DATA, ZONES

NODE = Node("default.meshdns", "meshdns", {})


def spoil(octets: bytes, dice: random.Random) -> bytes:
    spoiled = bytearray(octets)
    for _ in range(dice.choice((1, 1, 2, 8))):
        at = dice.randrange(len(spoiled))
        match dice.randrange(4):
            case 0:
                spoiled[at] ^= 1 << dice.randrange(8)
            case 1:
                del spoiled[at : at + dice.randrange(1, 20)]
            case 2:
                spoiled[at:at] = dice.randbytes(dice.randrange(1, 20))
            case _:
                spoiled[at:at] = spoiled[at : at + dice.randrange(1, 200)]
        if not spoiled:
            return b"\x00"
    return bytes(spoiled)


def session_for(protocol: Protocol) -> Session[Piece]:
    decode = partial(decode_listener, source="kuma")
    return SotwSession(NODE, decode) if protocol == "sotw" else DeltaSession(NODE, decode)


@pytest.mark.parametrize("folder", ["2.14.3-sotw-embedded-basic", "2.14.3-delta-dnsfilter-basic", "3.0-delta-basic"])
def test_spoiled_responses(folder: str) -> None:
    recording = Recording.load(DATA / folder)
    messages: list[bytes] = [step.SerializeToString() for step in recording.steps]
    dice = random.Random(20261121)
    refused = faulty = 0
    for _ in range(scale(3_000)):
        session, reading = session_for(recording.mode), Reading()
        for octets in (messages[0], spoil(messages[0], dice)):
            try:
                response = decode_response(octets, recording.mode)
            except ResourceError:
                refused += 1
                continue
            received = session.receive(response)
            faulty += bool(received.faults)
            for request in received.requests:
                encode_request(request, recording.mode)
            reading.take(received, session.pieces, response.version)
            joined: Any = join(session.pieces, zones=ZONES)
            shown = [*received.faults, *joined.skipped, *joined.notices, *joined.table.listeners.values()]
            shown += [record.origin.resource for record in joined.table.records.values()]
            assert all(line.isprintable() for line in shown)
    assert refused
    assert faulty
