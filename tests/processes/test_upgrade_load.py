"""Whole instances upgraded under load: no datagram lost, no connection reset, whatever the listener."""

import asyncio
import re
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from meshdns.processes.status import read_status
from meshdns.processes.status_file import start_of
from meshdns.wire.client import make_query
from meshdns.wire.name import to_wire
from tests.parts import which
from tests.processes.load import A, address_in, ask_once, datagrams
from tests.processes.stubbed import PATIENCE, wait_until
from tests.processes.test_instance import CONFIG, EXTRA, LIMIT, table_of, write_table
from tests.scale import LONG, scale
from tests.serving import Serving, serving

DONE = "upgrade: done, version"
NAMES = [f"service-{number}.default.mesh" for number in range(200)]


@dataclass
class Connections:
    """What became of the queries over TCP. ended: a query that crossed the end of a kept connection, asked again."""

    answered: int = 0
    ended: int = 0
    faults: list[str] = field(default_factory=list)


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
    """Ask; False when the server ended the connection in an orderly way instead of answering."""
    query = make_query(to_wire(NAMES[number % len(NAMES)]), A, id=number & 0xFFFF)
    writer.write(struct.pack("!H", len(query)) + query)
    try:
        (length,) = struct.unpack("!H", await reader.readexactly(2))
    except asyncio.IncompleteReadError as fault:
        if fault.partial:
            raise
        return False
    reply = await reader.readexactly(length)
    assert reply[:2] == query[:2]
    assert reply[3] & 15 == 0
    return True


async def _client(
    where: tuple[str, int], seen: Connections, stopping: threading.Event, *, keeps: bool, pace: float
) -> None:
    """Ask again and again: over a connection for each query, or over one for as long as it stands."""
    number = 0
    while not stopping.is_set():
        stage = "connecting"
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_connection(*where)
            try:
                for turn in range(50 if keeps else 1):
                    number += 1
                    stage = f"query {turn + 1}"
                    async with asyncio.timeout(PATIENCE):
                        answered = await _ask(reader, writer, number)
                    if not answered:
                        seen.ended += 1
                        if not turn:
                            seen.faults.append("no answer on a fresh connection")
                        break
                    seen.answered += 1
                    if stopping.is_set():
                        break
                    await asyncio.sleep(0.03 * pace if keeps else 0)
            finally:
                writer.transport.abort() if stopping.is_set() else writer.close()
        except (OSError, EOFError, TimeoutError) as fault:
            seen.faults.append(f"{time.strftime('%H:%M:%S')} {stage}: {fault!r}")
        await asyncio.sleep(0.2 * pace)


@contextmanager
def tcp_clients(where: tuple[str, int], count: int, *, pace: float = 1.0) -> Iterator[Connections]:
    """*count* clients over TCP until the block ends; every second one keeps its connection. pace: of their pauses."""
    seen, stopping = Connections(), threading.Event()

    async def run() -> None:
        await asyncio.gather(*(_client(where, seen, stopping, keeps=bool(i % 2), pace=pace) for i in range(count)))

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        stopping.set()
        thread.join(30)
    assert not thread.is_alive()


def upgrade(server: Serving) -> None:
    """Have *server* upgraded, however busy the load keeps the machine."""
    already = server.logged().count(DONE)
    server.process.send_signal(signal.SIGUSR2)
    until = time.monotonic() + 100
    while server.logged().count(DONE) == already:
        assert time.monotonic() < until, server.logged()
        assert server.process.poll() is None, server.logged()
        time.sleep(0.02)


SHORT = [("auto", 1), ("portable", 2)]
ALL = [("auto", 1), ("auto", 2), ("portable", 1), ("portable", 2)]


@pytest.mark.parametrize(("listener", "responders"), ALL if LONG else SHORT)
def test_upgrades_under_load_lose_nothing(tmp_path: Path, listener: str, responders: int) -> None:
    write_table(tmp_path, 1, NAMES)
    with serving(tmp_path, f"{CONFIG}listener: {listener}\nresponders: {responders}\n") as server:
        where = server.listen[0]
        with (
            tcp_clients(where, scale(200)) as seen,
            datagrams(where, NAMES, rate=2_000 if LONG else 500, patience=LIMIT) as load,
        ):
            for number in range(2, 12 if LONG else 4):
                write_table(tmp_path, number, NAMES)  # a push, which sync may be in the middle of
                upgrade(server)
        assert server.process.poll() is None
        print(f"{len(load.outcome.answers)} datagrams, {seen.answered} over TCP, {seen.ended} of them asked again")
        assert load.outcome.lost == []
        assert load.outcome.refused == []
        assert seen.faults == []
        assert seen.answered > 20
        tables = [table_of(address) for address in load.outcome.addresses()]
        assert tables == sorted(tables)
        status = read_status(tmp_path / "data")
        assert (status.pid, status.restarts) == (server.process.pid, 0)
        assert "not ready" not in server.logged()
        answered = len(load.outcome.answers)
        assert status.udp <= answered
        wait_until(lambda: read_status(tmp_path / "data").udp == answered, "all are counted")
        assert server.stop() == 0


@pytest.mark.skipif(not LONG, reason="takes a minute for each of four")
@pytest.mark.needs("dnsperf")
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("listener", "responders"), ALL)
def test_ten_upgrades_under_20000_queries_a_second(tmp_path: Path, listener: str, responders: int) -> None:
    write_table(tmp_path, 1, NAMES)
    (tmp_path / "queries").write_text("".join(f"{name} A\n" for name in NAMES))
    with serving(tmp_path, f"{CONFIG}listener: {listener}\nresponders: {responders}\n") as server:
        host, port = server.listen[0]
        command = f"{which('dnsperf')} -s {host} -p {port} -d {tmp_path / 'queries'} -Q 20000 -q 200 -c 8 -t 10 -l"
        with (
            tcp_clients((host, port), 200, pace=5.0) as seen,  # slow enough to leave dnsperf a core
            subprocess.Popen([*command.split(), "1000"], stdout=subprocess.PIPE, text=True) as flood,
        ):
            for _ in range(10):
                upgrade(server)
            running = flood.poll() is None
            flood.send_signal(signal.SIGINT)
            told, _ = flood.communicate()
        print(f"{told}over TCP {seen.answered}, {seen.ended} of them asked again, faults: {seen.faults}")
        assert running
        counted = {key: int(value) for key, value in re.findall(r"Queries (sent|completed|lost): +(\d+)", told)}
        assert seen.faults == []
        assert counted["lost"] == 0
        assert set(re.findall(r"Response codes: +(\w+)", told)) == {"NOERROR"}


def test_addresses_come_and_go_with_an_upgrade(tmp_path: Path) -> None:
    write_table(tmp_path, 1, NAMES)
    with serving(tmp_path, f"{CONFIG}responders: 2\n") as server:
        stays = server.listen[0]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.2", 0))
            comes = free.getsockname()

        def configure(*listen: str) -> None:
            text = f"data_dir: data\nlisten: [{', '.join(map(repr, listen))}]\nresponders: 2\n{EXTRA}"
            server.config.write_text(text)

        first = read_status(tmp_path / "data").processes[0].pid
        if LONG:  # in two steps
            configure("127.0.0.1:0", f"127.0.0.2:{comes[1]}")
            with datagrams(stays, NAMES, patience=LIMIT) as load:
                upgrade(server)
                for where in (stays, comes):
                    reply = ask_once(where, NAMES[0])
                    assert reply is not None
                    assert table_of(address_in(reply)) == 1
            assert (load.outcome.lost, load.outcome.refused) == ([], [])
            assert start_of(first) is None
        configure(f"127.0.0.2:{comes[1]}")
        with (
            datagrams(comes, NAMES, patience=LIMIT) if LONG else nullcontext() as load,
            datagrams(stays, NAMES, patience=LIMIT) as gone,
        ):
            upgrade(server)
        if load is not None:
            assert (load.outcome.lost, load.outcome.refused) == ([], [])
        reply = ask_once(comes, NAMES[0])
        assert reply is not None
        assert table_of(address_in(reply)) == 1
        assert start_of(first) is None
        assert gone.outcome.lost == []
        assert len(gone.outcome.refused) == 1
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(stays, timeout=5)
        assert read_status(tmp_path / "data").listen == (f"127.0.0.2:{comes[1]}",)
        assert f"{stays[0]}:{stays[1]} is not listened on any more" in server.logged()
