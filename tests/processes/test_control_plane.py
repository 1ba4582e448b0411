"""From a real control plane's recorded words, over gRPC, to answers over UDP: every process of ours in between."""

import asyncio
import re
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from meshdns.processes.status import read_status
from tests.processes.load import address_in, ask_once
from tests.serving import READY, Serving, serving
from tests.xds.control_plane import ControlPlane, Recording

RECORDINGS = Path(__file__).parents[1] / "data" / "kuma"
NXDOMAIN = 3


async def until(claim: Callable[[], Any], what: str, seconds: float = 20.0) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not await asyncio.to_thread(claim):  # noqa: ASYNC110 - another process does it
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"never: {what}") from None


def v4(expected: Mapping[str, Any]) -> str:
    return next(str(address) for address in expected["addresses"] if "." in address and ":" not in address)


def answered(where: tuple[str, int], name: str) -> str | int:
    """The address that *name* has, or the rcode."""
    reply = ask_once(where, name, 5.0)
    assert reply is not None, name
    return reply[3] & 15 or ".".join(map(str, address_in(reply)))


@pytest.mark.parametrize("recording", ["2.14.3-delta-embedded-basic", "2.14.3-sotw-dnsfilter-basic"])
async def test_each_push_of_a_control_plane_is_served_and_stays_when_it_is_gone(tmp_path: Path, recording: str) -> None:
    played = Recording.load(RECORDINGS / recording)
    async with ControlPlane(played) as control_plane:
        config = (
            'listen: ["127.0.0.1:0"]\ndrain: 0s\nshrink_hold: 0s\n'
            f"sources: [{{name: kuma, type: kuma, address: '{control_plane.address}', plaintext: true, "
            f"mesh: default, dataplane: meshdns, protocol: {played.mode}}}]\n"
        )
        with serving(tmp_path, config, wait=False) as server:
            await until(lambda: READY.search(server.logged()), "ready")
            where = listening(server)
            names: set[str] = set()
            for step in played.expected:
                if step is not played.expected[0]:
                    await control_plane.advance()
                table = {name.lower(): v4(record) for name, record in step["table"].items()}
                await control_plane.acked(played.expected.index(step) + 1)
                await until(lambda: read_status(tmp_path / "data").names == len(table), f"{len(table)} names")  # noqa: B023
                for name in names | set(table):
                    expected = table.get(name, NXDOMAIN)
                    assert await asyncio.to_thread(answered, where, name) == expected, name
                names |= set(table)
            status = read_status(tmp_path / "data")
            (source,) = status.sources
            assert (source.connected, source.delivered, source.peer) == (True, True, control_plane.address)
            assert source.names == len(table)
            assert status.ready
            assert control_plane.violations == []
            await control_plane.end_streams()
            await control_plane.stop()
            await until(lambda: not read_status(tmp_path / "data").sources[0].connected, "seen to be gone")
            (source,) = read_status(tmp_path / "data").sources
            assert source.last_error is not None
            assert await asyncio.to_thread(answered, where, next(iter(table))) == table[next(iter(table))]
            server.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(server.process.wait, 20) == 0
        with serving(tmp_path, config, wait=False) as server:
            await until(lambda: READY.search(server.logged()), "ready without it")
            for name, address in table.items():
                assert await asyncio.to_thread(answered, listening(server), name) == address
        assert not re.search(r"Traceback|a fault of meshdns", server.logged())


def listening(server: Serving) -> tuple[str, int]:
    found = READY.search(server.logged())
    assert found
    return "127.0.0.1", int(found[1].rpartition(":")[2])
