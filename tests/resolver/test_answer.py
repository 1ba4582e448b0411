"""Reply bytes: what each kind of query gets, and that the fast path changes nothing but time."""

import logging
import struct

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshdns.resolver.answer import COUNTS, Count, Resolver
from meshdns.resolver.usual import ENDINGS
from meshdns.wire.name import to_wire
from meshdns.zone.lookup import Zones
from tests.wire.packets import OPT, SEEDS, opt, option, query
from tests.zone.memory import RULES, compile_zone, zone

GENERATION = 7
RECORDS = [
    *zone("""
        web.mesh                  240.0.0.1
        dual.mesh                 240.0.0.3 fd00:fd00::3
        x.ent.mesh                240.0.0.4
        *.wild.mesh               240.0.0.2
        echo_default_svc_80.mesh  240.0.0.8
        echo.default.svc.80.mesh  240.0.0.8
        httpbin.org               240.0.0.11
    """),
    *zone("big.mesh " + " ".join(f"240.1.0.{n}" for n in range(60))),
    *zone("mid.mesh " + " ".join(f"240.2.0.{n}" for n in range(20))),
]


class Store:
    """A store of one push, in a dict."""

    def __init__(self, *, delivered: tuple[str, ...] = ("kuma",)) -> None:
        self.database = compile_zone(RECORDS, delivered=delivered)
        self.open = self.begun = 0

    def begin(self) -> "Store":
        self.open += 1
        self.begun += 1
        return self

    def get(self, key: bytes, /) -> bytes | None:
        return self.database.get(key)

    def abort(self) -> None:
        self.open -= 1

    def generation(self, transaction: object, /) -> int:
        return GENERATION


def resolver(**kept: tuple[str, ...]) -> Resolver:
    return Resolver(Store(**kept), Zones(RULES, ("kuma",)), [0] * COUNTS)


def ask(message: bytes, *, stream: bool = False, **kept: tuple[str, ...]) -> dns.message.Message:
    reply = resolver(**kept).answer_now(message, stream=stream)
    assert reply is not None
    return dns.message.from_wire(reply)


def named(name: str, qtype: int = 1, **fields: object) -> bytes:
    return query(to_wire(name), qtype, **fields)  # type: ignore[arg-type]


WITH_OPT = {"extra": OPT, "additional": 1}


@pytest.mark.parametrize(
    ("message", "rcode", "answers"),
    [
        (named("web.mesh"), "NOERROR", 1),
        (named("web.mesh", 28), "NOERROR", 0),
        (named("mesh", 6), "NOERROR", 1),
        (named("nosuch.mesh"), "NXDOMAIN", 0),
        (named("httpbin.org", 28), "NOERROR", 0),
        (named("example.org"), "REFUSED", 0),
        (named(".", 2), "REFUSED", 0),
        (named("web.mesh", 252), "REFUSED", 0),
        (named("web.mesh", 251), "REFUSED", 0),
        (named("web.mesh", qclass=3), "REFUSED", 0),
        (named("web.mesh", qclass=255), "REFUSED", 0),
        (named("mesh", 6, flags=4 << 11), "NOTIMP", 0),
        (b"\x12\x34\x78\0" + b"\0" * 8, "NOTIMP", 0),
        (named("web.mesh", extra=b"x"), "FORMERR", 0),
        (named("web.mesh", extra=opt(version=1), additional=1), "BADVERS", 0),
    ],
)
def test_rcode_and_answers(message: bytes, rcode: str, answers: int) -> None:
    reply = ask(message)
    assert dns.rcode.to_text(reply.rcode()) == rcode
    assert sum(map(len, reply.answer)) == answers
    assert bool(reply.flags & dns.flags.AA) is (rcode in ("NOERROR", "NXDOMAIN"))


def test_a_denial_carries_the_zones_soa_with_the_generation_and_a_short_ttl() -> None:
    for message in (named("web.mesh", 28), named("nosuch.mesh")):
        (soa,) = ask(message).authority
        assert soa.to_text() == f"mesh. 5 IN SOA ns.mesh. hostmaster.mesh. {GENERATION} 3600 600 86400 5"


def test_a_name_outside_the_zones_denies_for_itself() -> None:
    (soa,) = ask(named("httpbin.org", 28)).authority
    assert str(soa.name) == "httpbin.org."


def test_the_question_comes_back_octet_for_octet() -> None:
    message = query(b"\x03wEb\x04MESH\0", 1)
    reply = resolver().answer_now(message)
    assert reply is not None
    assert reply[12 : len(message)] == message[12:]


@pytest.mark.parametrize("flags", [0x0000, 0x0100, 0x0010, 0x0030, 0x0780, 0x0140])
def test_rd_and_cd_are_copied_and_nothing_else(flags: int) -> None:
    reply = resolver().answer_now(named("web.mesh", flags=flags))
    assert reply is not None
    assert struct.unpack("!H", reply[2:4])[0] == 0x8400 | flags & 0x0110


@pytest.mark.parametrize("message", [named("web.mesh"), named("x.mesh"), named("mesh", flags=0x7800)])
def test_no_opt_is_sent_to_who_sent_none_and_one_to_who_did(message: bytes) -> None:
    assert ask(message).edns == -1
    with_opt = message[:10] + b"\0\1" + message[12:] + OPT
    assert (ask(with_opt).edns, ask(with_opt).payload) == (0, 1232)


def test_do_is_copied_and_unknown_flags_are_not() -> None:
    assert ask(named("web.mesh", extra=opt(flags=0xFFFF), additional=1)).ednsflags & 0xFFFF == 0x8000


def test_options_are_not_echoed() -> None:
    reply = ask(named("web.mesh", extra=opt(options=option(10, b"clientck") + option(65001, b"x")), additional=1))
    assert reply.options == ()


@pytest.mark.parametrize(("stream", "timeout"), [(True, b"\0\x64"), (False, None)])
def test_keepalive_is_told_over_tcp_only(stream: bool, timeout: bytes | None) -> None:
    reply = ask(named("web.mesh", extra=opt(options=option(11, b"")), additional=1), stream=stream)
    told = [each.to_wire() for each in reply.options]
    assert told == ([] if timeout is None else [timeout])


@pytest.mark.parametrize(
    ("name", "size", "limit", "truncated"),
    [
        ("big.mesh", None, 512, True),
        ("big.mesh", 1232, 1232, False),
        ("big.mesh", 600, 600, True),
        ("big.mesh", 65535, 1232, False),
        ("mid.mesh", 0, 512, False),
        ("mid.mesh", 100, 512, False),
    ],
)
def test_a_reply_keeps_to_the_clients_size(name: str, size: int | None, limit: int, truncated: bool) -> None:
    extra = {} if size is None else {"extra": opt(size), "additional": 1}
    message = named(name, **extra)
    reply = resolver().answer_now(message)
    assert reply is not None
    assert len(reply) <= limit
    parsed = dns.message.from_wire(reply)
    assert bool(parsed.flags & dns.flags.TC) is truncated
    assert bool(parsed.answer) is not truncated


def test_tcp_gives_the_whole_rrset() -> None:
    reply = ask(named("big.mesh"), stream=True)
    assert len(reply.answer[0]) == 60
    assert not reply.flags & dns.flags.TC


def test_any_says_little() -> None:
    reply = resolver().answer_now(named("big.mesh", 255))
    assert reply is not None
    assert len(reply) < 100


def test_before_the_first_push_a_mesh_name_is_not_denied() -> None:
    reply = ask(named("nosuch.mesh", **WITH_OPT), delivered=())
    assert reply.rcode() == dns.rcode.SERVFAIL
    (ede,) = reply.options
    assert isinstance(ede, dns.edns.EDEOption)
    assert ede.code == 14
    assert ask(named("nosuch.mesh"), delivered=()).edns == -1


def test_a_refusal_says_that_the_name_is_not_ours() -> None:
    (ede,) = ask(named("example.org", **WITH_OPT)).options
    assert isinstance(ede, dns.edns.EDEOption)
    assert ede.code == 20


def test_a_client_that_may_not_ask_is_told_so() -> None:
    reply = resolver().refuse(named("web.mesh", **WITH_OPT))
    assert reply is not None
    parsed = dns.message.from_wire(reply)
    (ede,) = parsed.options
    assert isinstance(ede, dns.edns.EDEOption)
    assert (parsed.rcode(), ede.code) == (dns.rcode.REFUSED, 18)
    assert resolver().refuse(b"\0") is None


def test_an_error_is_never_larger_than_the_query_and_an_opt() -> None:
    for message in SEEDS:
        reply = resolver().answer_now(message)
        if reply is not None and reply[3] & 15 in (1, 4, 5):
            ede = 4 + 2 + 64
            assert len(reply) <= len(message) + 11 + ede


def test_a_fault_of_ours_costs_one_query_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Store):
        def get(self, key: bytes, /) -> bytes | None:
            raise RuntimeError("disk gone")

    counters = [0] * COUNTS
    store = Broken()
    broken = Resolver(store, Zones(RULES), counters)
    with caplog.at_level(logging.ERROR):
        reply = broken.answer_now(named("web.mesh"))
    assert reply is not None
    assert dns.message.from_wire(reply).rcode() == dns.rcode.SERVFAIL
    assert "no answer to the query" in caplog.text
    assert counters[Count.FAILED] == 1
    assert store.open == 0


def test_what_is_answered_and_dropped_is_counted() -> None:
    counters = [0] * COUNTS
    counted = Resolver(Store(), Zones(RULES, ("kuma",)), counters)
    badvers = named("web.mesh", extra=opt(version=1), additional=1)
    odd = (b"", named("web.mesh", flags=0x8000), badvers)
    for message in (named("web.mesh"), named("web.mesh"), named("big.mesh"), named("x.mesh"), *odd):
        counted.answer_now(message)
    assert (counters[Count.NOERROR], counters[Count.NXDOMAIN], counters[Count.BADVERS]) == (3, 1, 1)
    assert (counters[Count.TRUNCATED], counters[Count.DROPPED]) == (1, 2)


NAMES = ["web.mesh", "WeB.mesh", "dual.mesh", "big.mesh", "mid.mesh", "foo.wild.mesh", "nosuch.mesh", "mesh", "a.org"]
OPTS = [b"", OPT, opt(0), opt(512), opt(4096, flags=0x8000), opt(version=1), opt(flags=1), opt(options=option(3, b""))]


@given(
    st.one_of(
        st.builds(
            lambda name, qtype, qclass, flags, extra, id: named(
                name, qtype, qclass=qclass, flags=flags, extra=extra, additional=1 if extra else 0, id=id
            ),
            st.sampled_from(NAMES),
            st.sampled_from([1, 28, 6, 255, 65, 12, 41, 251, 252]),
            st.sampled_from([1, 1, 1, 3]),
            st.sampled_from([0x0100, 0x0000, 0x0120, 0x0130, 0x0110, 0x0010, 0x0780, 0x2100]),
            st.sampled_from(OPTS),
            st.integers(0, 65535),
        ),
        st.sampled_from(SEEDS),
        st.binary(max_size=80),
    ),
    st.integers(0, 200),
    st.binary(max_size=3),
    st.booleans(),
)
def test_the_fast_path_gives_the_bytes_of_the_complete_path(
    message: bytes, at: int, mutation: bytes, stream: bool
) -> None:
    for each in (message, message[:at] + mutation + message[at + len(mutation) :]):
        both = resolver()
        get = Store().get
        fast = both._usual_answer(each, get, both._endings[stream])
        if fast is not None:
            assert fast == both._answer(each, get, stream=stream)


@pytest.mark.parametrize("key", [b"", *Store().database])
@pytest.mark.parametrize("between", [b"", b"\0", b"\0\1", b"\0\0\1", b"\1\0", b"\1\1"], ids=bytes.hex)
def test_what_is_stored_for_others_than_clients_is_no_answer(key: bytes, between: bytes) -> None:
    """A query may have any octets in the place of a name: those of a mark, or none (no key of LMDB)."""
    store = Store()

    def get(key: bytes) -> bytes | None:
        assert key
        return store.get(key)

    both = resolver()
    for extra in (b"", OPT):
        for qclass in (b"\0\1", b"\0\1\0\1"):
            message = b"\x12\x34\1\0\0\1\0\0\0\0\0" + bytes((len(extra) and 1,)) + key + between + qclass + extra
            fast = both._usual_answer(message, get, both._endings[False])
            if fast is not None:
                assert fast == both._answer(message, get, stream=False)


def test_the_endings_that_are_remembered_are_bounded() -> None:
    asked = resolver()
    for size in range(3 * ENDINGS):
        for name in ("web.mesh", "dual.mesh"):
            asked.answer_now(named(name, extra=opt(size), additional=1))
        assert len(asked._endings[False]) <= ENDINGS
    assert not asked._endings[True]


def test_the_fast_path_takes_the_usual_queries() -> None:
    for message in (
        named("web.mesh"),
        named("WEB.mesh", flags=0x0120),
        named("dual.mesh", 28, **WITH_OPT),
        named("web.mesh", 28),
        named("nosuch.mesh", 65, **WITH_OPT),
    ):
        took = resolver()
        assert took._usual_answer(message, Store().get, took._endings[False]) is not None


def test_a_batch_is_answered_from_one_transaction() -> None:
    store = Store()
    both = Resolver(store, Zones(RULES, ("kuma",)), [0] * COUNTS)
    replies = both.answer_batch([named("web.mesh"), b"", named("x.mesh")])
    assert [None if reply is None else reply[3] & 15 for reply in replies] == [0, None, 3]
    assert (store.begun, store.open) == (1, 0)


def test_a_store_that_cannot_be_read_is_servfail_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Gone(Store):
        def begin(self) -> "Store":
            raise OSError("disk gone")

    with caplog.at_level(logging.ERROR):
        reply = Resolver(Gone(), Zones(RULES), [0] * COUNTS).answer_now(named("web.mesh"))
    assert reply is not None
    assert reply[3] & 15 == 2
    assert "cannot be read" in caplog.text
