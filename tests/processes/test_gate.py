"""Who is answered at all; the resolver behind the gate is a real one on entries in memory."""

from collections.abc import Callable

import pytest

from meshdns.config import Config
from meshdns.processes.gate import Gate
from meshdns.processes.status_file import ROW, Number
from meshdns.resolver.answer import Resolver
from meshdns.resolver.rate_limit import RateLimit
from meshdns.wire.client import describe, make_query
from meshdns.wire.reply import Reply
from meshdns.zone.entries import Rules
from meshdns.zone.lookup import Zones


class Nothing:
    """A transaction of a store without names, whose one source has delivered."""

    def get(self, key: bytes) -> bytes | None:
        return None

    def abort(self) -> None:
        pass


class EmptyStore:
    def begin(self) -> Nothing:
        return Nothing()

    def generation(self, transaction: object) -> int:
        return 7


def gate(row: list[int], *, loopback: bool, clock: Callable[[], float] = lambda: 0.0, **config: object) -> Gate:
    settings = Config.model_validate({"sources": [{"name": "x", "type": "file", "path": "/x.yaml"}], **config})
    resolver = Resolver(EmptyStore(), Zones(Rules(("mesh",), ())), row)
    return Gate(settings, resolver, RateLimit(settings.rate_limit), row, loopback=loopback, clock=clock)


QUERY = make_query(b"\1a\4mesh\0", 1, id=1)


def rcode(reply: Reply) -> int:
    assert isinstance(reply, bytes)
    return reply[3] & 15


@pytest.mark.parametrize(
    ("loopback", "allow", "client", "expected"),
    [
        (True, [], "127.0.0.1", 3),
        (False, [], "10.1.2.3", 3),
        (False, [], "192.0.2.1", 5),
        (False, [], "2001:db8::1", 5),
        (False, ["192.0.2.0/24"], "192.0.2.1", 3),
        (False, ["192.0.2.0/24"], "10.1.2.3", 5),
    ],
)
def test_who_may_ask_is_answered_others_are_refused_and_counted(
    loopback: bool, allow: list[str], client: str, expected: int
) -> None:
    row = [0] * ROW
    through = gate(row, loopback=loopback, allow=allow)
    assert rcode(through.answer_datagram(QUERY, client)) == expected
    assert rcode(through.answer_messages([QUERY], client)[0]) == expected
    assert row[Number.NOT_ALLOWED] == (2 if expected == 5 else 0)
    assert row[expected] == 2


def test_beyond_the_limit_a_datagram_is_cut_and_a_stream_is_not() -> None:
    row, now = [0] * ROW, [100.0]
    through = gate(row, loopback=False, clock=lambda: now[0])
    replies = [through.answer_datagram(QUERY, "10.1.2.3") for _ in range(205)]
    truncated = [bool(reply and reply[2] & 2) for reply in replies]
    assert truncated == [False] * 200 + [True] * 5
    assert all(reply is not None and len(reply) <= len(QUERY) for reply in replies[200:])
    assert row[Number.RATE_LIMITED] == 5
    assert not any((reply := through.answer_messages([QUERY], "10.1.2.3")[0]) and reply[2] & 2 for _ in range(205))
    now[0] += 1
    assert through.answer_datagram(QUERY, "10.1.2.3") == replies[0]


@pytest.mark.parametrize(("loopback", "client"), [(True, "127.0.0.1"), (False, "127.0.0.2"), (False, "::1")])
def test_this_machine_is_never_limited(loopback: bool, client: str) -> None:
    row = [0] * ROW
    through = gate(row, loopback=loopback)
    assert len({through.answer_datagram(QUERY, client) for _ in range(300)}) == 1
    assert row[Number.RATE_LIMITED] == 0


def test_what_is_no_query_gets_nothing() -> None:
    row = [0] * ROW
    through = gate(row, loopback=False)
    for client in ("10.0.0.1", "192.0.2.1"):
        assert through.answer_datagram(b"\0\1", client) is None
        assert through.answer_messages([b"\0\1"], client) == [None]


def test_a_refusal_says_why() -> None:
    reply = gate([0] * ROW, loopback=False).answer_datagram(QUERY, "192.0.2.1")
    assert reply is not None
    assert "client not allowed" in str(describe(reply))


def test_a_later_reply_is_limited_when_it_comes() -> None:
    class Somebody:
        def deliver_to(self, send: Callable[[bytes], None], /) -> None:
            send(b"\0\1\x81\x82\0\1" + b"\0" * 6 + QUERY[12:-11])

    row = [0] * ROW
    settings = Config.model_validate({"sources": [{"name": "x", "type": "file", "path": "/x.yaml"}]})
    resolver = Resolver(EmptyStore(), Zones(Rules(("other",), ())), row, elsewhere=lambda *_: Somebody())
    through = Gate(settings, resolver, RateLimit(settings.rate_limit), row, loopback=False, clock=lambda: 0.0)
    sent: list[bytes] = []
    for _ in range(25):
        reply = through.answer_datagram(QUERY, "10.1.2.3")
        assert reply is not None
        assert not isinstance(reply, bytes)
        reply.deliver_to(sent.append)
    assert [bool(octets[2] & 2) for octets in sent] == [False] * 20 + [True] * 5
    assert (row[2], row[Number.RATE_LIMITED]) == (25, 5)
