"""The open-loop prober against a server that loses, delays, and lies."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.probing import address_of, build_prober, probing, write_probes
from bench.programs import missing

pytestmark = pytest.mark.skipif(bool(missing("cc")), reason=missing("cc"))

NAMES = [f"svc{i}.mesh" for i in range(70_000)]
OWNER = b"\xc0\x0c"

Reply = Callable[[int, bytes], bytes | None]
"""(how many queries came before, query) → reply, None for silence."""


def reply(query: bytes, address: str, *, rcode: int = 0, owner: bytes = OWNER) -> bytes:
    head = query[:2] + bytes([0x85, rcode]) + b"\0\1\0\1\0\0\0\0"
    return head + query[12:] + owner + b"\0\1\0\1\0\0\0\x1e\0\4" + socket.inet_aton(address)


def index_of(query: bytes) -> int:
    return int(query[16 : 13 + query[12]])


@contextmanager
def server(answer: Reply) -> Iterator[int]:
    with socket.socket(type=socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))

        def serve() -> None:
            number = 0
            while (came := bound.recvfrom(512))[0]:
                said = answer(number, came[0])
                number += 1
                if said is not None:
                    bound.sendto(said, came[1])

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield int(bound.getsockname()[1])
        finally:
            with socket.socket(type=socket.SOCK_DGRAM) as client:
                client.sendto(b"", bound.getsockname())
            thread.join()


@pytest.fixture(scope="module")
def prober(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_prober(tmp_path_factory.mktemp("prober"))


def test_what_is_lost_wrong_and_stale_is_counted(prober: Path, tmp_path: Path) -> None:
    moments: list[float] = []

    def answer(number: int, query: bytes) -> bytes | None:
        index = index_of(query)
        if number == 10:
            return None
        if number == 20:
            return reply(query, address_of(0, index + 1))
        if number == 30:
            return reply(query, address_of(0, index), rcode=3)
        if number == 40:  # written out, as some do
            return reply(query, address_of(0, index), owner=query[12:-4])
        if number == 50:
            moments.append(time.monotonic())
        return reply(query, address_of(0 if number < 50 or number == 60 else 3, index))

    with server(answer) as port, probing(prober, port, write_probes(tmp_path / "q", NAMES), 0.2, rate=500) as probe:
        seen = probe.read()
    assert (seen.sent, seen.lost, seen.wrong, seen.stale) == (100, 1, 2, 1)
    assert set(seen.first) == {0, 3}
    assert seen.first[0] < moments[0] < seen.first[3] < time.monotonic()


def test_time_counts_from_when_a_query_was_due(prober: Path, tmp_path: Path) -> None:
    def answer(number: int, query: bytes) -> bytes:
        if number == 10:
            time.sleep(0.3)  # the schedule goes on meanwhile, and all that waits is late
        return reply(query, address_of(0, index_of(query)))

    with server(answer) as port, probing(prober, port, write_probes(tmp_path / "q", NAMES), 1, rate=200) as probe:
        seen = probe.read()
    assert (seen.sent, seen.lost) == (200, 0)
    assert seen.late >= 50
    assert seen.late_sent >= 50
    assert seen.max >= 300_000
    assert seen.p50 < seen.p90 < seen.p99 <= seen.p999 <= seen.max


def test_where_a_core_is_watched_every_query_is_calm_or_held(prober: Path, tmp_path: Path) -> None:
    """But those of the first 50 ms, which are neither."""

    def answer(number: int, query: bytes) -> bytes:
        return reply(query, address_of(0, index_of(query)))

    core = min(os.sched_getaffinity(0))
    queries = write_probes(tmp_path / "q", NAMES)
    with server(answer) as port, probing(prober, port, queries, 0.2, rate=500, watched=core) as probe:
        seen = probe.read()
    assert (seen.sent, seen.lost) == (100, 0)
    assert len(seen.calm) + seen.held == 75
    assert all(0 < each <= seen.max for each in seen.calm)


def test_it_can_be_ended_before_its_time(prober: Path, tmp_path: Path) -> None:
    heard = threading.Event()

    def answer(number: int, query: bytes) -> bytes:
        heard.set()
        return reply(query, address_of(0, index_of(query)))

    with server(answer) as port, probing(prober, port, write_probes(tmp_path / "q", NAMES), 600, rate=200) as probe:
        assert heard.wait(20)
        seen = probe.end()
    assert 0 < seen.sent < 600 * 200
    assert seen.lost == 0
