"""The UDP listeners on real sockets: one suite for all of them."""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from meshdns.transport import mmsg, sockets
from meshdns.transport.sockets import Endpoint, bind
from meshdns.transport.udp import AddressListener, Handler, UdpListener, WildcardListener, listener, source_only
from meshdns.transport.udp_batch import LONE, SOON, BatchListener

Listener = UdpListener | BatchListener
Make = Callable[[socket.socket, Handler], Listener]


def batch(sock: socket.socket, handler: Handler) -> BatchListener:
    return BatchListener(sock, lambda queries, host: [handler(query, host(i)) for i, query in enumerate(queries)])


NO_IPV6 = pytest.mark.skipif(not sockets._has_ipv6(), reason="this machine has no IPv6")
NO_BATCH = pytest.mark.skipif(mmsg.fault() is not None, reason=f"no batches here: {mmsg.fault()}")
ADDRESSES = {
    "address-v4": ("127.0.0.1:0", "127.0.0.1", ()),
    "wildcard-v4": ("0.0.0.0:0", "127.0.0.2", ()),
    "address-v6": ("[::1]:0", "::1", (NO_IPV6,)),
    "wildcard-v6": ("[::]:0", "::1", (NO_IPV6,)),
}
KINDS = [
    pytest.param(make, listen, host, id=f"{kind}{name}", marks=(*marks, *more))
    for kind, make, more in (("", listener, ()), ("batch-", batch, (NO_BATCH,)))
    for name, (listen, host, marks) in ADDRESSES.items()
]


def echo(query: bytes, host: str) -> bytes | None:
    return None if query == b"drop" else b"re:" + query


@contextlib.asynccontextmanager
async def listening(
    make: Make, listen: str, handler: Handler = echo, *, before: Callable[[Endpoint], None] = lambda _: None
) -> AsyncIterator[tuple[Endpoint, Listener]]:
    """Run a listener. before: what happens to its socket while nobody reads it."""
    bound = bind([listen])
    ((endpoint,),) = bound.rows
    endpoint.tcp.close()
    before(endpoint)
    served = make(endpoint.udp, handler)
    await served.start()
    try:
        yield endpoint, served
    finally:
        await served.close()


@contextlib.contextmanager
def client(endpoint: Endpoint, host: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.connect((host, endpoint.udp.getsockname()[1]))  # a connected socket takes replies of that address only
        made.setblocking(False)
        yield made


async def receive(made: socket.socket) -> bytes:
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(made, 65_535), 5)


@pytest.mark.parametrize(("make", "listen", "host"), KINDS)
async def test_a_reply_comes_from_the_address_that_was_asked(make: Make, listen: str, host: str) -> None:
    async with listening(make, listen) as (endpoint, _):
        with client(endpoint, host) as asker:
            asker.send(b"hello")
            assert await receive(asker) == b"re:hello"


@pytest.mark.parametrize(("make", "listen", "host"), KINDS)
async def test_empty_large_and_unanswered_datagrams_leave_the_listener_well(make: Make, listen: str, host: str) -> None:
    async with listening(make, listen) as (endpoint, served):
        with client(endpoint, host) as asker:
            for query in (b"", b"drop", b"x" * 60_000, b"last"):
                asker.send(query)
            assert await receive(asker) == b"re:"
            assert await receive(asker) == b"re:" + b"x" * 60_000
            assert await receive(asker) == b"re:last"
        assert (served.statistics.received, served.statistics.answered) == (4, 3)


@pytest.mark.parametrize(("make", "listen", "host"), KINDS)
async def test_a_client_that_is_gone_costs_nobody_else_an_answer(make: Make, listen: str, host: str) -> None:
    """Replies to closed ports come back as ICMP errors on the listener's socket."""
    async with listening(make, listen) as (endpoint, _):
        for _ in range(50):
            with client(endpoint, host) as asker:
                with client(endpoint, host) as gone:  # on another port, since the asker has its own already
                    gone.send(b"x")
                asker.send(b"y")
                assert await receive(asker) == b"re:y"


@pytest.mark.parametrize(("make", "listen", "host"), KINDS)
async def test_a_handler_that_raises_is_logged_and_loses_its_query_only(
    make: Make, listen: str, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    def faulty(query: bytes, _: str) -> bytes | None:
        if query == b"bad":
            raise RuntimeError("fault")
        return query

    async with listening(make, listen, faulty) as (endpoint, _):
        with client(endpoint, host) as asker, caplog.at_level(logging.ERROR):
            asker.send(b"bad")
            async with asyncio.timeout(5):
                while "lost" not in caplog.text:  # noqa: ASYNC110 (the listener has no event for it)
                    await asyncio.sleep(0.001)
            asker.send(b"good")
            assert await receive(asker) == b"good"


@pytest.mark.parametrize(("make", "listen", "host"), KINDS)
async def test_closing_answers_what_has_arrived(make: Make, listen: str, host: str) -> None:
    async with listening(make, listen) as (endpoint, served):
        with client(endpoint, host) as asker:
            for number in range(200):
                asker.send(b"%d" % number)
            await served.close()
            assert {await receive(asker) for _ in range(200)} == {b"re:%d" % number for number in range(200)}


@pytest.mark.parametrize(("make", "listen", "host"), KINDS)
async def test_others_in_the_process_have_their_turn_under_a_flood(make: Make, listen: str, host: str) -> None:
    async with listening(make, listen) as (endpoint, _):
        with client(endpoint, host) as asker:
            turns = 0
            for _ in range(20):
                for _ in range(100):
                    with contextlib.suppress(BlockingIOError):
                        asker.send(b"x")
                await asyncio.sleep(0)
                turns += 1
            assert turns == 20


@NO_BATCH
@pytest.mark.parametrize(("sent", "gives_way"), [(2, 0), (3, 1), (40, 1), (64, 0), (66, 0), (70, 1)])
async def test_where_processes_share_a_core_one_gives_way_between_batches(
    sent: int, gives_way: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    gave_way = 0

    def let_others_go() -> None:
        nonlocal gave_way
        gave_way += 1
        asker.send(b"meanwhile")

    monkeypatch.setattr("meshdns.transport.udp_batch.os.sched_yield", let_others_go)

    def make(sock: socket.socket, handler: Handler) -> BatchListener:
        return BatchListener(sock, lambda queries, _: list(queries), crowded=True)

    def ask(endpoint: Endpoint) -> None:
        asker.connect(("127.0.0.1", endpoint.udp.getsockname()[1]))
        for number in range(sent):
            asker.send(b"%d" % number)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        async with listening(make, "127.0.0.1:0", before=ask) as (_, served):
            assert isinstance(served, BatchListener)
            served._on_readable()
            assert gave_way == gives_way
            assert served.statistics.received == sent + gives_way


@pytest.mark.parametrize(("make", "listen", "host"), KINDS)
async def test_what_the_kernel_dropped_is_counted(make: Make, listen: str, host: str) -> None:
    asked = 100

    def flood(endpoint: Endpoint) -> None:
        endpoint.udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
        with client(endpoint, host) as asker:
            for number in range(asked):
                asker.send(b"%03d" % number)

    # what another process of this socket left unread is not this listener's loss
    async with listening(make, listen, before=flood) as (endpoint, served):
        assert served.statistics.dropped == 0
        await served.close()
        before = served.statistics.received
        assert 0 < before < asked
    async with listening(make, listen) as (endpoint, served):
        flood(endpoint)
        await served.close()
        statistics = served.statistics
        assert statistics.dropped > 0
        assert (statistics.received + statistics.dropped, statistics.failed) == (asked, 0)


@pytest.mark.parametrize("count", [8, 20, 60])
async def test_a_flood_that_overflows_the_queue_keeps_the_newest(count: int) -> None:
    def flood(endpoint: Endpoint) -> None:
        with client(endpoint, "127.0.0.1") as asker:
            for number in range(count):
                asker.send(b"%d" % number)

    answered: list[bytes] = []

    def make(sock: socket.socket, handler: Handler) -> AddressListener:
        return AddressListener(sock, handler, queue=8)

    async with listening(make, "127.0.0.1:0", lambda query, _: answered.append(query), before=flood) as (_, served):
        async with asyncio.timeout(5):
            while len(answered) < 8:  # noqa: ASYNC110 (the listener has no event for it)
                await asyncio.sleep(0.001)
        await served.close()
        assert (served.statistics.received, served.statistics.dropped) == (8, count - 8)
    assert answered == [b"%d" % number for number in range(count - 8, count)]


@pytest.mark.parametrize(
    ("control", "kept"),
    [
        ([], []),
        (
            [(0, 8, b"\7\0\0\0" + b"\x7f\0\0\2" + b"\x7f\0\0\2")],
            [(0, 8, b"\0\0\0\0" + b"\x7f\0\0\2" + b"\x7f\0\0\2")],
        ),
        ([(41, 50, bytes(15) + b"\1" + b"\7\0\0\0")], [(41, 50, bytes(15) + b"\1" + b"\0\0\0\0")]),
        ([(1, 29, bytes(16))], []),
    ],
)
def test_a_reply_has_the_address_that_was_asked_and_the_route_of_the_table(
    control: list[tuple[int, int, bytes]], kept: list[tuple[int, int, bytes]]
) -> None:
    assert source_only(control) == kept


def test_the_bound_address_decides_the_kind() -> None:
    kinds: dict[str, Callable[..., object]] = {"127.0.0.1:0": AddressListener, "0.0.0.0:0": WildcardListener}
    for listen, kind in kinds.items():
        bound = bind([listen])
        ((endpoint,),) = bound.rows
        assert type(listener(endpoint.udp, echo)) is kind
        bound.close()


@NO_BATCH
def test_a_queue_that_is_read_once_in_a_long_turn_of_others_is_not_taken_for_lone_datagrams() -> None:
    bound = bind(["127.0.0.1:0"])
    ((endpoint,),) = bound.rows
    served = batch(endpoint.udp, echo)
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.connect(endpoint.udp.getsockname())
        client.send(b"lone")
        served._on_readable()
        for _ in range(100):
            client.send(b"crowd")
        for _ in range(LONE + 1):
            time.sleep(2 * SOON)
            served._on_readable()
        assert served.statistics.answered == 101
    bound.close()
