"""Under a flood of twice what a responder can do: it goes on at its rate, and whoever else asks notices nothing."""

import json
import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from tests.processes.flooding import Flooder, compile_flooder, cpu, responders, upstream
from tests.processes.load import Outcome, ask_once, connections, datagrams
from tests.scale import LONG
from tests.serving import Serving, serving

SECONDS = 30.0 if LONG else 3.0
MEASURED = 5.0 if LONG else 1.0
KEPT = 0.8 if LONG else 0.4
"""The least part of the capacity that is left under a flood; other tests run beside the short ones."""
RECOVERY = 1.0 if LONG else 5.0
VISIBLE = 2.0 if LONG else 10.0
"""Seconds from a change of the records until it is answered."""
LOST = 0.01 if LONG else 0.03
PATIENCE = 1.0 if LONG else 3.0
"""Seconds that a client waits for a reply."""

RECORDS = {f"n{number}.mesh": f"240.0.{number // 250}.{number % 250}" for number in range(1000)}

QUERY = b"\1\0\0\1\0\0\0\0\0\0\2n1\4mesh\0\0\1\0\1"
"""For an A record of n1.mesh, without its id."""


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_flooder(tmp_path_factory.mktemp("flooder"))


def lost(outcome: Outcome) -> float:
    """Give the part of the queries that got no reply."""
    assert not outcome.refused
    return len(outcome.lost) / (len(outcome.lost) + len(outcome.answers))


def becomes_visible(instance: Serving, records: Path) -> float:
    """Push a name; give the seconds until it is answered."""
    began = time.monotonic()
    fresh = records.with_suffix(".fresh")
    fresh.write_text(json.dumps({"ttl": 30, "records": {**RECORDS, "fresh.mesh": "240.0.9.9"}}))
    fresh.rename(records)
    while time.monotonic() < began + 60:
        reply = ask_once(instance.listen[1], "fresh.mesh")
        if reply is not None and reply[3] & 15 == 0:
            return time.monotonic() - began
        time.sleep(0.05)
    raise AssertionError(instance.logged())


@pytest.mark.needs("cc")
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("kind", "silent"),
    [
        ("mesh", False),
        pytest.param("garbage", False, marks=pytest.mark.skipif(not LONG, reason="in the long run")),
        ("external", False),
        pytest.param("domain", False, marks=pytest.mark.skipif(not LONG, reason="in the long run")),
        pytest.param("external", True, marks=pytest.mark.skipif(not LONG, reason="in the long run")),
    ],
)
def test_a_flood_of_twice_the_capacity(tmp_path: Path, binary: Path, kind: str, silent: bool) -> None:
    records = tmp_path / "records.yaml"
    records.write_text(json.dumps({"ttl": 30, "records": RECORDS}))
    with upstream(silent=silent) as other:
        settings = f"""
listen: ["127.0.0.1:0", "127.0.0.2:0"]
drain: 0s
sources: [{{name: records, type: file, path: records.yaml}}]
upstreams: [{{zone: ".", servers: ["127.0.0.1:{other.port}"]}}]
cache: {{entries: 1000}}
"""
        with serving(tmp_path, settings) as instance:
            flooded, second = instance.listen
            flooder = Flooder(binary, flooded)
            for pid in responders(instance):
                os.sched_setaffinity(pid, flooder.others)
            mesh = flooder.capacity("mesh", MEASURED)
            able = mesh if kind == "mesh" or silent else flooder.capacity(kind, MEASURED)
            pushed: list[float] = []
            push = threading.Timer(SECONDS / 3, lambda: pushed.append(becomes_visible(instance, records)))
            with (
                datagrams(second, ["n1.mesh", "n2.mesh"], rate=100, patience=PATIENCE) as quiet,
                connections(flooded, ["n3.mesh"], pause=0.02) as streams,
                datagrams(second, [f"www.quiet{n}.example" for n in range(40)], rate=10, patience=6) as elsewhere,
            ):
                push.start()
                used = cpu(responders(instance))
                # A question for others costs much more than its refusal: the flood is one of both.
                most = able.rate if kind == "garbage" else max(able.rate, mesh.rate)
                flood = flooder.flood(kind, SECONDS, 2 * most)
                used = cpu(responders(instance)) - used
            push.join()
            calm = time.monotonic()
            while (reply := ask_once(flooded, "n4.mesh", patience=0.2)) is None:
                assert time.monotonic() - calm < 30
            recovered = time.monotonic() - calm
            right = [answer for *_, answer in elsewhere.outcome.answers if answer[3] & 15 == 0]
            told = {
                "replies to the flood / capacity": flood.rate / able.rate,
                "queries of it": flood.pressure,
                "good replies to it": flood.noerror / flood.seconds,
                "capacity": able.rate,
                "capacity for mesh names": mesh.rate,
                "processor": used / flood.seconds,
                "lost at the second address": lost(quiet.outcome),
                "slowest there": quiet.outcome.slowest(),
                "lost over TCP": lost(streams.outcome),
                "slowest there too": streams.outcome.slowest(),
                "lost of names of others": lost(elsewhere.outcome),
                "pushed after": pushed[0],
                "recovered after": recovered,
            }
            print(told)
            assert reply[3] & 15 == 0
            assert flood.pressure >= (1.5 if LONG else 1.1) * able.rate, told
            if not silent:  # what a silent server lets us do is to refuse
                assert flood.rate >= KEPT * able.rate, told
            assert lost(quiet.outcome) <= LOST, told
            assert lost(streams.outcome) <= LOST, told
            assert lost(elsewhere.outcome) <= LOST, told
            if not silent:
                assert len(right) >= (1 - LOST) * len(elsewhere.outcome.answers), told
            assert pushed[0] <= VISIBLE, told
            assert recovered <= RECOVERY, told
            assert "Traceback" not in instance.logged()
            assert "has not moved" not in instance.logged()
        assert other.ours == []


BUFFER = 0.05 if LONG else 0.1
"""Seconds of answering that may wait in the kernel; what is older is asked again before it is answered."""


@pytest.mark.needs("cc")
@pytest.mark.timeout(120)
def test_the_kernel_keeps_no_more_than_is_answered_in_a_moment(tmp_path: Path, binary: Path) -> None:
    (tmp_path / "records.yaml").write_text(json.dumps({"ttl": 30, "records": RECORDS}))
    settings = 'listen: ["127.0.0.1:0"]\ndrain: 0s\nsources: [{name: records, type: file, path: records.yaml}]\n'
    with serving(tmp_path, settings) as instance:
        (pid,) = responders(instance)
        used = cpu([pid])
        able = Flooder(binary, instance.listen[0]).capacity("mesh", MEASURED)
        cost = (cpu([pid]) - used) / able.received  # of the processor: what others do on this machine does not count
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            client.connect(instance.listen[0])
            os.kill(pid, signal.SIGSTOP)
            try:
                for number in range(8_000):
                    client.send(number.to_bytes(2, "big") + QUERY)
            finally:
                os.kill(pid, signal.SIGCONT)
            client.settimeout(2)
            held: list[int] = []
            try:
                while True:
                    held.append(int.from_bytes(client.recv(512)[:2], "big"))
            except TimeoutError:
                pass
        print(len(held), cost)
        assert held == list(range(len(held)))  # the newest are dropped, by the kernel
        assert 256 <= len(held) < 8_000  # a burst of some clients fits
        assert len(held) * cost <= BUFFER, (len(held), cost)
