"""TCP on real sockets: what honest clients get, and what the others cannot take."""

import asyncio
import contextlib
import logging
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from meshdns.transport import tcp
from meshdns.transport.settings import TcpLimits
from meshdns.transport.sockets import STREAM_BUFFER, bind
from meshdns.transport.tcp import SHARE, TURN, TcpServer
from meshdns.transport.tcp_connection import OUTPUT, QUIET, READ
from meshdns.wire.framing import frame
from meshdns.wire.reply import Reply

One = Callable[[bytes, str], Reply]
"""A handler of one query."""

FAST = TcpLimits(idle=0.3, message=0.3, write=0.3)


def echo(query: bytes, host: str) -> bytes | None:
    return None if query == b"drop" else b"re:" + query


@contextlib.asynccontextmanager
async def serving(handler: One = echo, limits: TcpLimits | None = None) -> AsyncIterator[tuple[TcpServer, int]]:
    bound = bind(["127.0.0.1:0"])
    ((endpoint,),) = bound.rows
    endpoint.udp.close()
    server = TcpServer(limits or TcpLimits())

    def each(queries: Sequence[bytes], host: str) -> list[Reply]:
        return [handler(query, host) for query in queries]

    await server.listen(endpoint.tcp, each)
    try:
        yield server, endpoint.tcp.getsockname()[1]
    finally:
        server.stop_listening()
        await server.wait_finished(0.5)
        bound.close()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, port: int, host: str = "127.0.0.1") -> "Client":
        return cls(*await asyncio.open_connection("127.0.0.1", port, local_addr=(host, 0)))

    async def receive(self) -> bytes:
        async with asyncio.timeout(5):
            (length,) = struct.unpack("!H", await self.reader.readexactly(2))
            return await self.reader.readexactly(length)

    async def ask(self, query: bytes) -> bytes:
        self.writer.write(frame(query))
        return await self.receive()

    async def is_closed(self, within: float = 5) -> bool:
        try:
            async with asyncio.timeout(within):
                while await self.reader.read(65_536):
                    pass
        except TimeoutError:
            return False
        except ConnectionError:
            return True
        return True

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


async def test_many_queries_on_one_connection_one_by_one_and_pipelined() -> None:
    async with serving() as (server, port):
        client = await Client.connect(port)
        for number in range(20):
            assert await client.ask(b"%d" % number) == b"re:%d" % number
        client.writer.write(b"".join(frame(b"%d" % number) for number in range(50)))
        assert [await client.receive() for _ in range(50)] == [b"re:%d" % number for number in range(50)]
        await client.close()
        assert server.statistics.queries == 70


async def test_a_message_in_single_octets() -> None:
    async with serving() as (_, port):
        client = await Client.connect(port)
        client.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for octet in frame(b"slow"):
            client.writer.write(bytes((octet,)))
            await asyncio.sleep(0)
        assert await client.receive() == b"re:slow"
        await client.close()


async def test_a_client_that_has_shut_its_side_is_still_answered() -> None:
    async with serving() as (_, port):
        client = await Client.connect(port)
        client.writer.write(b"".join(frame(b"%d" % number) for number in range(30)))
        client.writer.write_eof()
        assert [await client.receive() for _ in range(30)] == [b"re:%d" % number for number in range(30)]
        assert await client.is_closed()
        await client.close()


async def test_a_reset_leaves_nothing_behind() -> None:
    async with serving() as (server, port):
        for _ in range(30):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as made:
                made.sendall(frame(b"x"))
                made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client = await Client.connect(port)
        assert await client.ask(b"well") == b"re:well"
        await client.close()
        async with asyncio.timeout(5):
            while server.statistics.open:  # noqa: ASYNC110 (the server has no event for it)
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("begun", [b"", b"\0", b"\xff\xff" + b"x" * 1000, frame(b"one") + b"\0\5ab"])
async def test_idlers_and_dawdlers_are_closed(begun: bytes) -> None:
    async with serving(limits=FAST) as (server, port):
        client = await Client.connect(port)
        client.writer.write(begun)
        assert await client.is_closed()
        assert server.statistics.expired == 1
        await client.close()


async def test_a_client_that_never_reads_is_not_served_on_and_then_cut() -> None:
    answered = 0

    def large(query: bytes, host: str) -> bytes:
        nonlocal answered
        answered += 1
        return bytes(1_000)

    async with serving(large, FAST) as (server, port):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as greedy:
            greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            greedy.setblocking(False)
            await asyncio.get_running_loop().sock_connect(greedy, ("127.0.0.1", port))
            query = frame(b"x" * 50) * 200
            with contextlib.suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(5):
                    while not server.statistics.expired:
                        with contextlib.suppress(BlockingIOError):
                            greedy.send(query)
                        await asyncio.sleep(0.005)
                        waiting = [connection.buffered for connection in server._connections]
                        assert max(waiting, default=0) <= 2 * READ + 52
            assert server.statistics.expired == 1
            # what we kept for it, and what the kernel did in twice its buffer and the client's
            assert answered * 1_000 < OUTPUT + 2 * STREAM_BUFFER + 128_000


async def test_at_the_limit_the_one_without_progress_for_longest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "GRACE", 0.0)
    async with serving(limits=TcpLimits(connections=3, per_source=3)) as (server, port):
        clients = [await Client.connect(port) for _ in range(3)]
        assert await clients[0].ask(b"progress") == b"re:progress"
        newest = await Client.connect(port)
        assert await newest.ask(b"new") == b"re:new"
        assert await clients[1].is_closed()
        assert await clients[0].ask(b"kept") == b"re:kept"
        assert server.statistics.evicted == 1
        for client in (*clients, newest):
            await client.close()


async def test_one_that_has_just_come_is_not_cut_for_one_that_took_much() -> None:
    async with serving(limits=TcpLimits(connections=3, per_source=3)) as (_, port):
        greedy, honest, other = [await Client.connect(port) for _ in range(3)]
        for _ in range(5):
            assert await greedy.ask(b"more") == b"re:more"
        newest = await Client.connect(port)
        assert await honest.ask(b"first") == b"re:first"
        assert await greedy.is_closed()
        for client in (greedy, honest, other, newest):
            await client.close()


async def test_one_source_cannot_take_the_place_of_others() -> None:
    async with serving(limits=TcpLimits(connections=100, per_source=2)) as (_, port):
        other = await Client.connect(port, "127.0.0.3")
        greedy = [await Client.connect(port, "127.0.0.2") for _ in range(5)]
        assert await greedy[-1].ask(b"x") == b"re:x"
        assert [await client.is_closed(1) for client in greedy] == [True, True, True, False, False]
        assert await other.ask(b"y") == b"re:y"
        for client in (other, *greedy):
            await client.close()


async def test_while_draining_queries_in_flight_are_answered_and_quiet_connections_end() -> None:
    async with serving() as (server, port):
        quiet, busy, begun = [await Client.connect(port) for _ in range(3)]
        assert await busy.ask(b"before") == b"re:before"
        begun.writer.write(frame(b"in two parts")[:5])
        await asyncio.sleep(0.05)
        server.stop_listening()
        finished = asyncio.create_task(server.wait_finished(5))
        assert await busy.ask(b"during") == b"re:during"
        begun.writer.write(frame(b"in two parts")[5:])
        assert await begun.receive() == b"re:in two parts"
        for client in (quiet, busy, begun):
            assert await client.is_closed()
            await client.close()
        await asyncio.wait_for(finished, 5)
        with pytest.raises(ConnectionRefusedError):
            await Client.connect(port)


async def test_a_handler_that_raises_is_logged_and_the_connection_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    def faulty(query: bytes, host: str) -> bytes:
        if query == b"bad":
            raise RuntimeError("fault")
        return query

    async with serving(faulty) as (_, port):
        client = await Client.connect(port)
        with caplog.at_level(logging.ERROR):
            client.writer.write(frame(b"bad"))
            async with asyncio.timeout(5):
                while "1 queries of 127.0.0.1 over TCP were lost" not in caplog.text:  # noqa: ASYNC110 (only told there)
                    await asyncio.sleep(0.005)
            assert await client.ask(b"good") == b"good"
        await client.close()


async def test_a_reply_too_long_for_a_message_is_logged_and_the_connection_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(lambda query, _: bytes(65_536) if query == b"bad" else query) as (_, port):
        client = await Client.connect(port)
        with caplog.at_level(logging.ERROR):
            client.writer.write(frame(b"bad"))
            assert await client.ask(b"good") == b"good"
        assert "was lost" in caplog.text
        await client.close()


async def test_a_message_of_the_greatest_length_is_echoed() -> None:
    async with serving(lambda query, _: query) as (_, port):
        client = await Client.connect(port)
        assert await client.ask(b"x" * 65_535) == b"x" * 65_535
        await client.close()


async def test_who_waits_to_be_accepted_when_listening_stops_is_answered() -> None:
    bound = bind(["127.0.0.1:0"])
    ((endpoint,),) = bound.rows
    port = endpoint.tcp.getsockname()[1]
    waiting = [await Client.connect(port) for _ in range(40)]
    for number, client in enumerate(waiting):
        client.writer.write(frame(b"%d" % number))
    server = TcpServer(TcpLimits())
    await server.listen(endpoint.tcp, lambda queries, host: [echo(query, host) for query in queries])
    server.stop_listening()
    finished = asyncio.create_task(server.wait_finished(5))
    for number, client in enumerate(waiting):
        assert await client.receive() == b"re:%d" % number
        assert await client.is_closed()
        await client.close()
    await finished
    bound.close()


async def test_while_draining_the_first_query_of_a_new_connection_is_answered_though_both_sides_are_late() -> None:
    async with serving() as (server, port):
        unread, late = [await Client.connect(port) for _ in range(2)]
        await asyncio.sleep(0.05)
        server.stop_listening()
        finished = asyncio.create_task(server.wait_finished(5))
        unread.writer.write(frame(b"unread"))
        time.sleep(2 * QUIET)  # noqa: ASYNC251 - the loop is busy with others: the query waits in the kernel
        assert await unread.receive() == b"re:unread"
        await asyncio.sleep(2 * QUIET)
        assert await late.ask(b"late") == b"re:late"
        await finished
        for client in (unread, late):
            assert await client.is_closed()
            await client.close()


async def test_while_draining_a_message_that_was_begun_behind_another_is_answered() -> None:
    async with serving() as (server, port):
        client = await Client.connect(port)
        client.writer.write(frame(b"one") + frame(b"two")[:3])
        assert await client.receive() == b"re:one"
        server.stop_listening()
        client.writer.write(frame(b"two")[3:] + frame(b"three")[:4])
        assert await client.receive() == b"re:two"
        client.writer.write(frame(b"three")[4:])
        assert await client.receive() == b"re:three"
        assert await client.is_closed()
        await client.close()


async def test_whoever_sends_how_much_others_have_their_turn() -> None:
    loop = asyncio.get_running_loop()
    turn = kept = 0
    query = frame(b"x" * 500)
    served: Counter[int] = Counter()

    def count_turns() -> None:
        nonlocal turn, kept
        turn += 1
        kept = max(kept, *(each.buffered for each in server._connections), 0)
        loop.call_soon(count_turns)

    def handler(_: bytes, host: str) -> bytes:
        served[turn] += 1
        return b"reply"

    async with serving(handler) as (server, port):
        greedy = [await Client.connect(port) for _ in range(40)]
        loop.call_soon(count_turns)
        for client in greedy:
            client.writer.write(query * 100)
        for client in greedy:
            for _ in range(100):
                await client.receive()
            await client.close()
    assert sum(served.values()) == 4_000
    assert max(served.values()) <= TURN + SHARE  # the last connection of a turn may take its share beyond the turn's
    assert kept <= 2 * READ + len(query)


def ask_datagram(port: int, query: bytes) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(5)
        asker.connect(("127.0.0.1", port))
        asker.send(query)
        return asker.recv(512)


def test_when_descriptors_run_out_udp_and_new_connections_are_still_served() -> None:
    command = [sys.executable, "-m", "tests.transport.echo_server", "40"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        idle = []
        for number in range(120):
            idle.append(socket.create_connection(("127.0.0.1", port), timeout=5))
            assert ask_datagram(port, b"%d" % number) == b"%d" % number
        for number in range(20):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as asker:
                asker.sendall(frame(b"%d" % number))
                assert asker.recv(512) == frame(b"%d" % number)
        for each in idle:
            each.close()
        printed, logged = process.communicate("")
    assert process.returncode == 0
    assert "no further TCP connection can be accepted" in logged
    assert len(logged.splitlines()) < 10
    assert "Traceback" not in logged
    assert float(printed) < 5  # seconds of processor time: nothing spun
