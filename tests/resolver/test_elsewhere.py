"""Names that are not ours, when somebody else is asked: what goes there, how it comes back, and what never goes."""

from collections.abc import Callable

import dns.flags
import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshdns.resolver.answer import COUNTS, TICKS, Count, Resolver
from meshdns.wire.query import Query
from meshdns.wire.reply import Later, Reply, build_reply
from meshdns.wire.rrset import rrset
from meshdns.zone.lookup import Zones
from tests.resolver.test_answer import NAMES, OPTS, Store, named
from tests.wire.packets import SEEDS, opt
from tests.zone.memory import RULES


class Somebody:
    """Answers at once with NOERROR, or later when told to."""

    def __init__(self, *, later: bool = False) -> None:
        self.later = later
        self.asked: list[tuple[Query, int, bytes]] = []
        self.send: Callable[[bytes], None] | None = None

    def __call__(self, query: Query, limit: int, options: bytes) -> bytes | Later:
        self.asked.append((query, limit, options))
        return self if self.later else build_reply(query, 0, limit=limit, recursion=True)

    def deliver_to(self, send: Callable[[bytes], None], /) -> None:
        self.send = send


def resolver(somebody: Somebody, counters: list[int] | None = None, **kept: tuple[str, ...]) -> Resolver:
    return Resolver(Store(**kept), Zones(RULES, ("kuma",)), counters or [0] * COUNTS, elsewhere=somebody)


OURS = ["web.mesh", "nosuch.mesh", "MESH", "a.b.c.mesh", "_dns._tcp.mesh", "httpbin.org", "x.wild.mesh", "big.mesh"]


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("qtype", [1, 28, 65, 64, 33, 16, 255, 2, 6, 43, 12, 65280])
@pytest.mark.parametrize("delivered", [("kuma",), ()])
def test_a_name_of_ours_is_never_asked_elsewhere(name: str, qtype: int, delivered: tuple[str, ...]) -> None:
    somebody = Somebody()
    for stream in (False, True):
        reply = resolver(somebody, delivered=delivered).answer_now(named(name, qtype), stream=stream)
        assert isinstance(reply, bytes)
        assert dns.message.from_wire(reply).flags & dns.flags.RA
    assert somebody.asked == []


@pytest.mark.parametrize(
    "message",
    [
        named("a.org", flags=4 << 11),
        named("a.org", flags=5 << 11),
        named("a.org", qclass=3),
        named("a.org", 252),
        named("a.org", 251),
        named("a.org", extra=b"x"),
        named("a.org", extra=opt(version=1), additional=1),
        named("a.org", flags=0x8000),
        b"\0\1",
    ],
)
def test_what_is_no_plain_question_is_never_asked_elsewhere(message: bytes) -> None:
    somebody = Somebody()
    resolver(somebody).answer_now(message)
    assert somebody.asked == []


def test_a_question_goes_as_it_was_read() -> None:
    somebody = Somebody()
    message = named("A.org", 28, flags=0x0110, extra=opt(4000, flags=0x8000), additional=1)
    resolver(somebody).answer_now(message)
    ((query, limit, options),) = somebody.asked
    assert (query.name, query.qtype, limit, options) == (b"\1a\3org\0", 28, 1232, b"")
    assert query.edns is not None
    assert query.edns.dnssec_ok


@given(
    st.one_of(
        st.builds(
            lambda name, qtype, flags, extra: named(name, qtype, flags=flags, extra=extra, additional=bool(extra)),
            st.sampled_from([*NAMES, "b.a.org", "."]),
            st.sampled_from([1, 28, 255, 65, 251]),
            st.sampled_from([0x0100, 0, 0x0120, 0x0110, 0x0780]),
            st.sampled_from(OPTS),
        ),
        st.sampled_from(SEEDS),
    ),
    st.booleans(),
)
def test_the_fast_path_asks_what_the_complete_path_asks(message: bytes, stream: bool) -> None:
    fast, complete = Somebody(), Somebody()
    store = Store()
    asked = resolver(fast)
    reply = asked._usual_answer(message, store.get, asked._endings[stream])
    if reply is not None:
        assert reply == resolver(complete)._answer(message, store.get, stream=stream)
        assert fast.asked == complete.asked


def test_a_later_reply_is_counted_when_it_comes() -> None:
    counters = [0] * COUNTS
    somebody = Somebody(later=True)
    reply: Reply = resolver(somebody, counters).answer_now(named("a.org"))
    assert reply is not None
    assert not isinstance(reply, bytes)
    sent: list[bytes] = []
    reply.deliver_to(sent.append)
    assert sum(counters) == 0
    assert somebody.send is not None
    somebody.send(b"\0\1\x81\x82" + b"\0" * 8)
    assert len(sent) == 1
    assert (counters[Count.SERVFAIL], sum(counters)) == (1, 1)


class Telling(Somebody):
    """Answers with one record."""

    def __call__(self, query: Query, limit: int, options: bytes) -> bytes | Later:
        self.asked.append((query, limit, options))
        records = rrset(1, 60, [bytes((192, 0, 2, len(self.asked)))])
        return build_reply(query, 0, limit=limit, rrset=records, recursion=True)


def test_what_others_say_is_repeated_for_a_moment_and_no_longer() -> None:
    now = [100.0]
    somebody = Telling()
    asking = Resolver(Store(), Zones(RULES, ("kuma",)), [0] * COUNTS, elsewhere=somebody, clock=lambda: now[0])
    replies = [asking.answer_now(named("a.org", id=id)) for id in (1, 2)]
    assert [reply[2:] for reply in replies if isinstance(reply, bytes)] == [replies[0][2:]] * 2  # type: ignore[index]
    assert [reply[:2] for reply in replies if isinstance(reply, bytes)] == [b"\0\1", b"\0\2"]
    assert (len(somebody.asked), asking.repeated) == (1, 1)
    for again in (
        lambda: asking.answer_now(named("a.org"), stream=True),
        lambda: asking.answer_now(named("a.org", flags=0x0110)),
        asking.forget,
        lambda: now.__setitem__(0, now[0] + 1 / TICKS),
    ):
        before = len(somebody.asked)
        again()
        asking.answer_now(named("a.org"))
        assert len(somebody.asked) == before + 1, again


def test_errors_and_denials_of_others_are_not_repeated() -> None:
    somebody = Somebody()
    asking = resolver(somebody)
    for _ in range(3):
        asking.answer_now(named("a.org"))
    assert len(somebody.asked) == 3


@pytest.mark.parametrize(
    ("name", "expected"),
    [("web.mesh", (0, 1)), ("nosuch.mesh", (3, 0)), ("mesh", (0, 0)), ("httpbin.org", (0, 1)), ("a.org", None)],
)
def test_what_we_say_about_the_end_of_a_chain(name: str, expected: tuple[int, int] | None) -> None:
    said = resolver(Somebody()).ours(named(name)[12:-4].lower(), 1)
    assert (said and (said[0], int.from_bytes(said[1][:2], "big"))) == expected
    unready = resolver(Somebody(), delivered=()).ours(b"\6nosuch\4mesh\0", 1)
    assert unready == (2, b"")
