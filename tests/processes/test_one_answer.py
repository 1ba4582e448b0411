"""A real instance: one answer for one query, by every way in; and never an older one after a newer."""

import json
import socket
import threading
import time
from pathlib import Path

import pytest

from meshdns.wire.client import make_query
from meshdns.wire.name import to_wire
from tests.conformance.test_probes import LISTENERS
from tests.processes.load import address_in
from tests.scale import scale
from tests.serving import Serving, serving
from tests.wire.packets import SEEDS

NAMES = ["web.mesh", "WEB.mesh", "dual.mesh", "x.wild.mesh", "nosuch.mesh", "mesh", "big.mesh", "a.org"]
RECORDS = {
    "web.mesh": "240.0.0.1",
    "dual.mesh": ["240.0.0.2", "fd00:fd00::2"],
    "*.wild.mesh": "240.0.0.3",
    "big.mesh": [f"240.1.0.{number}" for number in range(60)],
}


def settings(listener: str) -> str:
    return f"""
listen: ["127.0.0.1:0", "0.0.0.0:0"]
listener: {listener}
drain: 0s
sources: [{{name: records, type: file, path: records.yaml}}]
"""


def replies(instance: Serving, queries: list[bytes]) -> list[bytes | None]:
    """Ask each query twice of each address from two clients; give the one reply that each has, without its id."""
    told: list[bytes | None] = []
    clients = []
    for host, (_, port) in (("127.0.0.1", instance.listen[0]), ("127.0.0.5", instance.listen[1])):
        for own in ("127.0.0.1", "127.0.0.9"):
            client = socket.socket(type=socket.SOCK_DGRAM)
            client.bind((own, 0))
            client.connect((host, port))
            client.settimeout(5)
            clients.append(client)
    mark = make_query(to_wire("web.mesh"), 1, id=0xFFFF)
    try:
        for number, query in enumerate(queries):
            variants: set[bytes | None] = set()
            for client in clients:
                for again in range(2):
                    id = (2 * number + again).to_bytes(2, "big")
                    client.send(id + query[2:])
                    client.send(mark)  # its reply comes behind that of the query, if there is one
                    reply: bytes | None = None
                    while (came := client.recv(65535))[:2] != b"\xff\xff":
                        assert came[:2] == id
                        reply = came
                    variants.add(None if reply is None else reply[2:])
            assert len(variants) == 1, (query.hex(), variants)
            told.append(variants.pop())
    finally:
        for client in clients:
            client.close()
    return told


def test_one_query_has_one_answer_by_every_way_in(tmp_path: Path) -> None:
    queries = [make_query(to_wire(name), qtype, id=0) for name in NAMES for qtype in (1, 28, 6, 255)]
    queries += [seed for seed in SEEDS if len(seed) >= 2]
    told = []
    for listener in ("auto", "portable"):
        directory = tmp_path / listener
        directory.mkdir()
        (directory / "records.yaml").write_text(json.dumps({"ttl": 30, "records": RECORDS}))
        with serving(directory, settings(listener)) as instance:
            told.append(replies(instance, queries))
    assert told[0] == told[1]
    assert sum(reply is not None for reply in told[0]) > len(NAMES)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("listener", LISTENERS)
def test_after_a_newer_answer_no_older_one_comes(tmp_path: Path, listener: str) -> None:
    """Two names that every push moves together are asked again and again while pushes come."""
    records = tmp_path / "records.yaml"
    pushes = scale(50)  # one a second

    def push(number: int) -> None:
        fresh = tmp_path / "fresh"
        addresses = dict.fromkeys(("one.mesh", "two.mesh"), f"240.9.{number >> 8}.{number & 255}")
        fresh.write_text(json.dumps({"ttl": 30, "records": addresses}))
        fresh.rename(records)

    push(0)
    reached = [0]
    ending = threading.Event()
    with serving(tmp_path, settings(listener)) as instance, socket.socket(type=socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", instance.port))
        client.settimeout(10)

        def write() -> None:
            for number in range(1, pushes + 1):
                push(number)
                deadline = time.monotonic() + 20
                while reached[0] < number and time.monotonic() < deadline and not ending.is_set():
                    time.sleep(0.002)

        writing = threading.Thread(target=write)
        writing.start()
        both = [make_query(to_wire(name), 1, id=1) for name in ("one.mesh", "two.mesh")]
        asked = 0
        try:
            while reached[0] < pushes:
                assert writing.is_alive() or reached[0] == pushes, reached
                for query in both * 8:
                    client.send(query)
                for _ in range(16):
                    number = int.from_bytes(address_in(client.recv(512))[2:], "big")
                    assert number >= reached[0]
                    reached[0] = number
                asked += 16
        finally:
            ending.set()
            writing.join()
        assert asked > 16 * pushes
