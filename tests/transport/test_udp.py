"""The UDP listeners on real sockets: one suite for all of them."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from meshdns.transport.sockets import Endpoint, bind
from meshdns.transport.udp import AddressListener, Handler, UdpListener, WildcardListener, listener

try:
    bind(["[::1]:0"]).close()
    IPV6 = [
        pytest.param("[::1]:0", "::1", id="address-v6"),
        pytest.param("[::]:0", "::1", id="wildcard-v6"),
    ]
except Exception:
    IPV6 = []

KINDS = [
    pytest.param("127.0.0.1:0", "127.0.0.1", id="address-v4"),
    pytest.param("0.0.0.0:0", "127.0.0.2", id="wildcard-v4"),
    *IPV6,
]


def echo(query: bytes, host: str) -> bytes | None:
    return None if query == b"drop" else b"re:" + query


@contextlib.asynccontextmanager
async def listening(listen: str, handler: Handler = echo) -> AsyncIterator[tuple[Endpoint, UdpListener]]:
    bound = bind([listen])
    ((endpoint,),) = bound.rows
    endpoint.tcp.close()
    served = listener(endpoint.udp, handler)
    await served.start()
    try:
        yield endpoint, served
    finally:
        await served.close()


@contextlib.contextmanager
def client(endpoint: Endpoint, host: str):  # type: ignore[no-untyped-def]
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.connect((host, endpoint.udp.getsockname()[1]))  # a connected socket takes replies of that address only
        made.setblocking(False)
        yield made


async def receive(made: socket.socket) -> bytes:
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(made, 65_535), 5)


@pytest.mark.parametrize(("listen", "host"), KINDS)
async def test_a_reply_comes_from_the_address_that_was_asked(listen: str, host: str) -> None:
    async with listening(listen) as (endpoint, _):
        with client(endpoint, host) as asker:
            asker.send(b"hello")
            assert await receive(asker) == b"re:hello"


@pytest.mark.parametrize(("listen", "host"), KINDS)
async def test_empty_large_and_unanswered_datagrams_leave_the_listener_well(listen: str, host: str) -> None:
    async with listening(listen) as (endpoint, served):
        with client(endpoint, host) as asker:
            for query in (b"", b"drop", b"x" * 60_000, b"last"):
                asker.send(query)
            assert await receive(asker) == b"re:"
            assert await receive(asker) == b"re:" + b"x" * 60_000
            assert await receive(asker) == b"re:last"
        assert (served.statistics.received, served.statistics.answered) == (4, 3)


@pytest.mark.parametrize(("listen", "host"), KINDS)
async def test_a_client_that_is_gone_costs_nobody_else_an_answer(listen: str, host: str) -> None:
    """Replies to closed ports come back as ICMP errors on the listener's socket."""
    async with listening(listen) as (endpoint, _):
        for _ in range(50):
            with client(endpoint, host) as gone:
                gone.send(b"x")
            with client(endpoint, host) as asker:
                asker.send(b"y")
                assert await receive(asker) == b"re:y"


@pytest.mark.parametrize(("listen", "host"), KINDS)
async def test_a_handler_that_raises_is_logged_and_loses_its_query_only(
    listen: str, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    def faulty(query: bytes, _: str) -> bytes | None:
        if query == b"bad":
            raise RuntimeError("fault")
        return query

    async with listening(listen, faulty) as (endpoint, _):
        with client(endpoint, host) as asker, caplog.at_level(logging.ERROR):
            asker.send(b"bad")
            asker.send(b"good")
            assert await receive(asker) == b"good"
    assert "lost a query" in caplog.text


@pytest.mark.parametrize(("listen", "host"), KINDS)
async def test_closing_answers_what_has_arrived(listen: str, host: str) -> None:
    async with listening(listen) as (endpoint, served):
        with client(endpoint, host) as asker:
            for number in range(200):
                asker.send(b"%d" % number)
            await served.close()
            assert {await receive(asker) for _ in range(200)} == {b"re:%d" % number for number in range(200)}


@pytest.mark.parametrize(("listen", "host"), KINDS)
async def test_others_in_the_process_have_their_turn_under_a_flood(listen: str, host: str) -> None:
    async with listening(listen) as (endpoint, _):
        with client(endpoint, host) as asker:
            turns = 0
            for _ in range(20):
                for _ in range(100):
                    with contextlib.suppress(BlockingIOError):
                        asker.send(b"x")
                await asyncio.sleep(0)
                turns += 1
            assert turns == 20


async def test_a_full_queue_loses_its_oldest() -> None:
    bound = bind(["127.0.0.1:0"])
    ((endpoint,),) = bound.rows
    endpoint.tcp.close()
    answered: list[bytes] = []

    def handler(query: bytes, _: str) -> bytes | None:
        answered.append(query)
        return query

    served = AddressListener(endpoint.udp, handler, queue=10)
    await served.start()
    for number in range(30):  # as the loop would hand them over before the listener's task has its turn
        served._queue.put_nowait((b"%d" % number, ("127.0.0.1", 9)))
    assert served.statistics.dropped == 20
    await served.close()
    assert answered == [b"%d" % number for number in range(20, 30)]


def test_the_bound_address_decides_the_kind() -> None:
    kinds: dict[str, Callable[..., object]] = {"127.0.0.1:0": AddressListener, "0.0.0.0:0": WildcardListener}
    for listen, kind in kinds.items():
        bound = bind([listen])
        ((endpoint,),) = bound.rows
        assert type(listener(endpoint.udp, echo)) is kind
        bound.close()
