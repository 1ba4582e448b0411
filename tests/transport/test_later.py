"""Replies that come later, on every listener: to who asked, from where it was asked, in any order, within bounds."""

import asyncio
import socket
from collections.abc import Callable

import pytest

from meshdns.transport.sockets import STREAM_BUFFER
from meshdns.transport.tcp_connection import AWAITED, OUTPUT
from meshdns.wire.framing import frame
from meshdns.wire.reply import Reply
from tests.transport.test_tcp import Client, serving
from tests.transport.test_udp import KINDS, Make, client, listening, receive


class Waiting:
    """A handler whose replies are given when the test says so; ``now…`` is answered at once."""

    def __init__(self) -> None:
        self.asked: dict[bytes, Callable[[bytes], None]] = {}

    def __call__(self, query: bytes, host: str) -> Reply:
        if query.startswith(b"now"):
            return b"re:" + query
        return _Later(self, query)

    async def heard(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.asked) < count:  # noqa: ASYNC110 (the listener has no event for it)
                await asyncio.sleep(0.005)

    def answer(self, query: bytes, reply: bytes | None = None) -> None:
        self.asked.pop(query)(b"re:" + query if reply is None else reply)


class _Later:
    def __init__(self, waiting: Waiting, query: bytes) -> None:
        self._waiting, self._query = waiting, query

    def deliver_to(self, send: Callable[[bytes], None], /) -> None:
        self._waiting.asked[self._query] = send


@pytest.mark.parametrize(("make", "listen", "host"), KINDS)
async def test_a_later_reply_goes_to_who_asked_from_the_address_that_was_asked(
    make: Make, listen: str, host: str
) -> None:
    waiting = Waiting()
    async with listening(make, listen, waiting) as (endpoint, served):
        with client(endpoint, host) as one, client(endpoint, host) as two:
            one.send(b"first")
            two.send(b"second")
            two.send(b"now")
            assert await receive(two) == b"re:now"
            await waiting.heard(2)
            waiting.answer(b"second")
            waiting.answer(b"first")
            assert await receive(one) == b"re:first"
            assert await receive(two) == b"re:second"
        assert (served.statistics.received, served.statistics.answered) == (3, 3)


@pytest.mark.parametrize(("make", "listen", "host"), KINDS)
async def test_a_later_reply_to_who_is_gone_or_by_who_is_gone_harms_nobody(make: Make, listen: str, host: str) -> None:
    waiting = Waiting()
    async with listening(make, listen, waiting) as (endpoint, _):
        with client(endpoint, host) as gone:
            gone.send(b"gone")
            await waiting.heard(1)
        waiting.answer(b"gone")
        with client(endpoint, host) as asker:
            asker.send(b"now")
            assert await receive(asker) == b"re:now"
            asker.send(b"late")
            await waiting.heard(1)
    waiting.answer(b"late")


async def test_later_queries_of_a_connection_overtake() -> None:
    waiting = Waiting()
    async with serving(waiting) as (_, port):
        asker = await Client.connect(port)
        asker.writer.write(frame(b"slow") + frame(b"now1") + frame(b"slower") + frame(b"now2"))
        assert [await asker.receive() for _ in range(2)] == [b"re:now1", b"re:now2"]
        await waiting.heard(2)
        waiting.answer(b"slower")
        assert await asker.receive() == b"re:slower"
        waiting.answer(b"slow")
        assert await asker.receive() == b"re:slow"
        await asker.close()


async def test_who_has_shut_its_side_still_gets_what_is_awaited() -> None:
    waiting = Waiting()
    async with serving(waiting) as (_, port):
        asker = await Client.connect(port)
        asker.writer.write(frame(b"slow") + frame(b"now"))
        asker.writer.write_eof()
        assert await asker.receive() == b"re:now"
        await waiting.heard(1)
        waiting.answer(b"slow")
        assert await asker.receive() == b"re:slow"
        assert await asker.is_closed()
        await asker.close()


async def test_one_connection_awaits_a_bounded_number_of_replies() -> None:
    waiting = Waiting()
    async with serving(waiting) as (_, port):
        asker, other = await Client.connect(port), await Client.connect(port)
        asker.writer.write(b"".join(frame(b"q%d" % number) for number in range(2 * AWAITED)))
        await waiting.heard(AWAITED)
        assert await other.ask(b"now") == b"re:now"
        assert len(waiting.asked) == AWAITED
        for number in range(2 * AWAITED):
            await waiting.heard(1)
            waiting.answer(b"q%d" % number)
        assert sorted([await asker.receive() for _ in range(2 * AWAITED)]) == sorted(
            b"re:q%d" % number for number in range(2 * AWAITED)
        )
        for each in (asker, other):
            await each.close()


async def test_who_awaits_much_and_reads_nothing_is_cut() -> None:
    waiting = Waiting()
    async with serving(waiting) as (server, port):
        with socket.create_connection(("127.0.0.1", port)) as greedy:
            greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            greedy.sendall(b"".join(frame(b"q%d" % number) for number in range(AWAITED)))
            await waiting.heard(AWAITED)
            assert AWAITED * 60_000 > 4 * (OUTPUT + STREAM_BUFFER)  # more than anything between can hold
            for number in range(AWAITED):
                waiting.answer(b"q%d" % number, bytes(60_000))
            async with asyncio.timeout(5):
                while server.statistics.open:  # noqa: ASYNC110 (the server has no event for it)
                    await asyncio.sleep(0.01)


async def test_draining_waits_for_what_is_awaited() -> None:
    waiting = Waiting()
    async with serving(waiting) as (server, port):
        asker = await Client.connect(port)
        asker.writer.write(frame(b"slow"))
        await waiting.heard(1)
        server.stop_listening()
        finished = asyncio.create_task(server.wait_finished(5))
        await asyncio.sleep(0.3)
        assert not finished.done()
        waiting.answer(b"slow")
        assert await asker.receive() == b"re:slow"
        await asyncio.wait_for(finished, 5)
        await asker.close()
