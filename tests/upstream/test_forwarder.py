"""The forwarder against servers that do as they are told: what each client gets, and what others are asked."""

import asyncio
import gc
import logging
import ssl
import time
from pathlib import Path

import dns.flags
import dns.message
import dns.name
import pytest
import trustme

from meshdns.upstream import forwarder as forwarder_module
from meshdns.upstream import tending
from meshdns.upstream.line import PER_SUFFIX, Line
from meshdns.upstream.outstanding import JOSTLE
from meshdns.upstream.questions import BEGINNINGS, LINE_TIME
from meshdns.upstream.selection import PATIENCE
from meshdns.wire.query import parse_query
from tests.scale import scale
from tests.upstream.scripted import (
    GOOD,
    OURS,
    Heard,
    addresses,
    ask,
    extended_error,
    forwarding,
    query,
    rcode,
    reply_to,
    upstream,
)

SOA = "example. 60 SOA ns.example. hm.example. 1 2 3 4 60"


def counting(heard: Heard) -> bytes:
    return heard.answer(f"60 A 192.0.2.{heard.number}")


async def test_one_question_for_all_who_ask_it_each_with_its_own_id_case_edns_and_size() -> None:
    async with upstream(lambda heard: 0.05) as other, forwarding(other) as forwarder:
        names = ["name.example", "NAME.example", "nAmE.eXaMpLe"]
        asked = [query(name, use_edns=edns) for name in names for edns in (-1, 0)] * 5
        for each in asked:
            each.id = len(other.log) + id(each) & 0xFFFF
        replies = await asyncio.gather(*(ask(forwarder, each) for each in asked))
        assert [addresses(reply) for reply in replies] == [[GOOD]] * len(asked)
        assert [reply.edns for reply in replies] == [each.edns for each in asked]
        assert len(other.asked()) == 1


async def test_the_second_is_answered_at_once_from_the_cache() -> None:
    async with upstream(counting) as other, forwarding(other) as forwarder:
        assert addresses(await ask(forwarder, "a.example")) == ["192.0.2.1"]
        before = asyncio.all_tasks()
        assert addresses(await ask(forwarder, "A.example")) == ["192.0.2.1"]
        assert asyncio.all_tasks() == before
        assert forwarder.counts.hits == 1


async def test_ours_is_continued_with_what_we_say_and_never_with_what_others_do() -> None:
    def script(heard: Heard) -> bytes:
        return heard.answer("60 CNAME web.mesh.", "web.mesh. 60 A 6.6.6.6")

    async with upstream(script) as other, forwarding(other) as forwarder:
        for _ in range(2):
            reply = await ask(forwarder, "alias.example")
            assert addresses(reply) == ["240.0.0.1"]
            assert [str(rrset.name) for rrset in reply.answer] == ["alias.example.", "web.mesh."]
        assert len(other.asked()) == 1
        gone = dict(OURS)
        OURS.clear()
        try:
            assert rcode(await ask(forwarder, "alias.example")) == "NXDOMAIN"
        finally:
            OURS.update(gone)


async def test_a_silent_server_costs_no_client_more_than_its_patience() -> None:
    async with upstream(lambda heard: None) as other, forwarding(other) as forwarder:
        began = time.monotonic()
        reply = await ask(forwarder, "drop.example")
        assert time.monotonic() - began < PATIENCE + 0.5
        assert (rcode(reply), extended_error(reply)) == ("SERVFAIL", 22)
        sent = len(other.asked())
        assert sent == 4
        began = time.monotonic()
        assert rcode(await ask(forwarder, "drop.example")) == "SERVFAIL"
        assert time.monotonic() - began < 0.1
        assert len(other.asked()) == sent


async def test_a_closed_port_is_known_at_once_and_costs_few_packets() -> None:
    async with upstream() as closed:
        pass
    async with upstream() as other, forwarding(closed, other) as forwarder:
        began = time.monotonic()
        assert addresses(await ask(forwarder, "a.example")) == [GOOD]
        assert time.monotonic() - began < 0.25
    async with forwarding(closed) as alone:
        began = time.monotonic()
        reply = await ask(alone, "a.example")
        assert (rcode(reply), extended_error(reply)) == ("SERVFAIL", 23)
        assert time.monotonic() - began < 0.25
        assert alone.state()["upstreams"][0]["queries"] <= 4


async def test_one_other_opinion_is_heard_on_an_error() -> None:
    def errs(heard: Heard) -> bytes:
        return heard.answer(rcode=2)

    async with upstream(errs) as bad, upstream() as good, upstream(errs) as second, upstream(errs) as third:
        async with forwarding(bad, good) as forwarder:
            for number in range(5):
                assert addresses(await ask(forwarder, f"{number}.example")) == [GOOD]
        async with forwarding(bad, second, third) as forwarder:
            assert rcode(await ask(forwarder, "last.example")) == "SERVFAIL"
        assert sum(len(each.asked("last")) for each in (bad, second, third)) == 2


async def test_a_server_that_cannot_read_an_opt_is_found_out_and_remembered() -> None:
    def old(heard: Heard) -> bytes:
        if heard.message.edns >= 0:
            heard.message.use_edns(-1)
            return heard.answer(rcode=1)
        return heard.answer(f"60 A {GOOD}")

    async with upstream(old) as other, forwarding(other) as forwarder:
        assert addresses(await ask(forwarder, "a.example")) == [GOOD]
        assert len(other.asked()) == 2
        assert addresses(await ask(forwarder, "b.example")) == [GOOD]
        assert len(other.asked()) == 3


async def test_a_bare_refusal_is_no_answer_and_not_remembered() -> None:
    def bare(heard: Heard) -> bytes:
        if heard.message.edns >= 0:
            return heard.octets[:2] + b"\x81\x81" + b"\0" * 8
        return heard.answer(f"60 A {GOOD}")

    async with upstream(bare) as other, forwarding(other) as forwarder:
        for number in range(2):
            assert addresses(await ask(forwarder, f"{number}.example")) == [GOOD]
        assert [heard.message.edns for heard in other.asked()] == [0, -1, 0, -1]


async def test_a_server_that_loses_case_is_found_out_and_remembered() -> None:
    def lowers(heard: Heard) -> bytes:
        heard.message.question[0].name = dns.name.from_text(heard.name)
        return heard.answer(f"60 A {GOOD}")

    async with upstream(lowers) as other, forwarding(other) as forwarder:
        for number in range(3):
            assert addresses(await ask(forwarder, f"A-long-Name-{number}.example")) == [GOOD]
        spelled = [heard.octets[12:] != heard.octets[12:].lower() for heard in other.asked()]
        assert len(other.asked()) == 4
        assert spelled[1:] == [False, False, False]


async def test_truncated_answers_are_fetched_whole_over_a_stream_that_is_kept() -> None:
    whole = [f"60 A 192.0.2.{number}" for number in range(60)]

    def script(heard: Heard) -> bytes:
        return heard.answer(*whole) if heard.stream else heard.answer(*whole[:3], flags=dns.flags.TC)

    async with upstream(script) as other, forwarding(other) as forwarder:
        for number in range(10):
            assert len(addresses(await ask(forwarder, f"{number}.example", stream=True))) == 60
        assert other.connections == 1
        reply = await ask(forwarder, "0.example", use_edns=-1)
        assert reply.flags & dns.flags.TC
        assert not reply.answer


async def test_answers_past_their_time_stand_in_when_nobody_answers() -> None:
    clock = [1000.0]
    async with upstream(counting) as other, forwarding(other, clock=lambda: clock[0] + time.monotonic()) as forwarder:
        await ask(forwarder, "a.example")
        other.silent = True
        clock[0] += 61
        began = time.monotonic()
        reply = await ask(forwarder, "a.example")
        assert 1.5 < time.monotonic() - began < 2.5
        assert (addresses(reply), reply.answer[0].ttl, extended_error(reply)) == (["192.0.2.1"], 30, 3)
        began = time.monotonic()
        assert addresses(await ask(forwarder, "a.example")) == ["192.0.2.1"]
        assert time.monotonic() - began < 0.1  # the question still waits; nobody else does
        other.silent = False
        async with asyncio.timeout(10):
            while forwarder.waiting:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        clock[0] += 40
        assert addresses(await ask(forwarder, "a.example")) != ["192.0.2.1"]


async def test_a_denial_past_its_time_says_so() -> None:
    clock = [1000.0]
    async with (
        upstream(lambda heard: heard.answer(rcode=3, authority=[SOA])) as other,
        forwarding(other, clock=lambda: clock[0] + time.monotonic()) as forwarder,
    ):
        await ask(forwarder, "a.example")
        clock[0] += 61
        other.script = lambda heard: heard.answer(rcode=2)
        reply = await ask(forwarder, "a.example")
        assert (rcode(reply), extended_error(reply)) == ("NXDOMAIN", 19)


async def test_what_is_asked_often_is_renewed_before_its_time_is_over() -> None:
    clock = [1000.0]
    async with upstream(counting) as other, forwarding(other, clock=lambda: clock[0] + time.monotonic()) as forwarder:
        for _ in range(4):
            await ask(forwarder, "a.example")
        clock[0] += 55
        assert addresses(await ask(forwarder, "a.example")) == ["192.0.2.1"]
        async with asyncio.timeout(5):
            while forwarder.waiting:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        reply = await ask(forwarder, "a.example")
        assert (addresses(reply), reply.answer[0].ttl) == (["192.0.2.2"], 60)
        assert forwarder.counts.prefetched == 1


async def test_a_dead_domain_does_not_keep_others_waiting() -> None:
    def script(heard: Heard) -> bytes | None:
        return None if heard.kind == "drop" else heard.answer(f"60 A {GOOD}")

    frozen: list[float] = [time.monotonic()]
    async with (
        upstream(script) as other,
        forwarding(other, clock=lambda: frozen[0] if frozen else time.monotonic()) as forwarder,
    ):
        dead = [asyncio.create_task(ask(forwarder, f"drop.x{number}.dead.example")) for number in range(300)]
        await asyncio.sleep(0)
        frozen.clear()
        crowded = [task.result() for task in dead if task.done()]
        assert len(crowded) == 300 - PER_SUFFIX - BEGINNINGS
        assert {(rcode(reply), extended_error(reply)) for reply in crowded} == {("SERVFAIL", 0)}
        assert addresses(await ask(forwarder, "ok.living.example2")) == [GOOD]
        await asyncio.sleep(2 * JOSTLE)
        assert addresses(await ask(forwarder, "ok.dead.example")) == [GOOD]
        assert {rcode(reply) for reply in await asyncio.gather(*dead)} == {"SERVFAIL"}


async def test_few_questions_begin_in_one_turn_and_doors_take_turns() -> None:
    room = 100
    async with upstream() as server, forwarding(server) as forwarder:
        forwarder._questions._line = Line(per_door=room)
        forwarder.door = "flooded"
        flood = [asyncio.create_task(ask(forwarder, f"www.flood{number}.example")) for number in range(2 * room)]
        await asyncio.sleep(0)
        refused = [task.result() for task in flood if task.done()]
        assert len(refused) == len(flood) - room - BEGINNINGS
        assert {(rcode(reply), extended_error(reply)) for reply in refused} == {("SERVFAIL", 0)}
        forwarder.door = "quiet"
        assert addresses(await ask(forwarder, "www.quiet.example")) == [GOOD]
        assert [heard.name for heard in server.asked()].index("www.quiet.example") <= 2 * BEGINNINGS
        assert set(map(rcode, await asyncio.gather(*flood))) <= {"NOERROR", "SERVFAIL"}


async def test_who_stood_in_line_too_long_is_refused_and_asked_nowhere() -> None:
    late: list[float] = []
    async with (
        upstream() as server,
        forwarding(server, clock=lambda: time.monotonic() + sum(late)) as forwarder,
    ):
        asked = [asyncio.create_task(ask(forwarder, f"n{number}.l{number}.example")) for number in range(50)]
        await asyncio.sleep(0)
        late.append(2 * LINE_TIME)
        replies = await asyncio.gather(*asked)
        assert [rcode(reply) for reply in replies[BEGINNINGS:]] == ["SERVFAIL"] * (50 - BEGINNINGS)
        assert forwarder.counts.crowded == 50 - BEGINNINGS


@pytest.mark.parametrize("at_once", [False, True])
async def test_who_was_answered_leaves_nothing_to_the_collector(at_once: bool) -> None:
    """Its pauses grow with what goes in circles: under a flood they were a tenth of a second."""
    answered: list[bytes] = []

    def ask_one(number: int) -> None:
        question = parse_query(query(f"n{number}.example").to_wire())
        assert question is not None
        waiter = forwarder.answer(question, 512)
        assert isinstance(waiter, forwarder_module.Waiter)

        def send(reply: bytes, _: object = waiter) -> None:  # as a listener's does, by way of the resolver's counting
            answered.append(reply)

        if at_once:
            waiter.answer(b"early")
        waiter.deliver_to(send)

    async with upstream() as other, forwarding(other) as forwarder:
        gc.collect()
        gc.disable()
        try:
            for number in range(20):
                ask_one(number)
            async with asyncio.timeout(10):
                while forwarder.waiting:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0)
            assert len(answered) == 20
            assert [each for each in gc.get_objects() if isinstance(each, forwarder_module.Waiter)] == []
        finally:
            gc.enable()


async def test_zones_have_their_own_servers_and_the_longest_counts() -> None:
    async with upstream() as every, upstream() as corp, upstream() as below:
        zones = [
            {"zone": zone, "servers": [f"127.0.0.1:{server.port}"]}
            for zone, server in ((".", every), ("corp.example", corp), ("b.corp.example", below))
        ]
        async with forwarding(zones=zones) as forwarder:
            for name in (
                "a.example",
                "corp.example",
                "x.CORP.example",
                "b.corp.example",
                "a.b.corp.example",
                "xcorp.example",
            ):
                await ask(forwarder, name)
            await ask(forwarder, "b.corp.example", "DS")
        assert [heard.name for heard in every.asked()] == ["a.example", "xcorp.example"]
        assert [heard.name for heard in corp.asked()] == ["corp.example", "x.corp.example", "b.corp.example"]
        assert [heard.name for heard in below.asked()] == ["b.corp.example", "a.b.corp.example"]
        async with forwarding(zones=zones[1:]) as forwarder:
            reply = await ask(forwarder, "a.example")
            assert (rcode(reply), extended_error(reply)) == ("REFUSED", 20)


@pytest.mark.parametrize(
    ("name", "rdtype", "flags", "expected"),
    [
        ("a.example", "A", "", "REFUSED"),
        ("localhost", "A", "", "REFUSED"),
        ("localhost", "A", "RD", "NOERROR"),
        ("x.onion", "A", "RD", "NXDOMAIN"),
        ("1.0.0.10.in-addr.arpa", "PTR", "RD", "NXDOMAIN"),
        ("a.example", "TYPE250", "RD", "REFUSED"),
        ("a.example", "TYPE0", "RD", "FORMERR"),
        ("a.example", "TYPE41", "RD", "FORMERR"),
    ],
)
async def test_some_questions_are_never_forwarded(name: str, rdtype: str, flags: str, expected: str) -> None:
    async with upstream() as other, forwarding(other) as forwarder:
        reply = await ask(forwarder, query(name, rdtype, flags=dns.flags.from_text(flags)))
        assert rcode(reply) == expected
        assert reply.flags & dns.flags.RA
        assert not other.asked()


async def test_special_names_go_where_the_operator_says() -> None:
    async with upstream() as other, forwarding(other, special=False) as forwarder:
        assert addresses(await ask(forwarder, "localhost")) == [GOOD]


async def test_options_of_clients_stay_here_and_do_and_cd_go_on() -> None:
    async with upstream() as other, forwarding(other) as forwarder:
        options = [dns.edns.GenericOption(10, b"SECRETCK"), dns.edns.GenericOption(65001, b"zz")]
        await ask(forwarder, query("a.example", options=options, payload=4000, want_dnssec=True))
        await ask(forwarder, query("a.example", flags=dns.flags.from_text("RD CD")))
        (first, second) = other.asked()
        assert (first.message.options, first.message.payload) == ((), 1232)
        assert first.message.ednsflags & dns.flags.DO
        assert not first.message.flags & dns.flags.CD
        assert second.message.flags & dns.flags.CD


@pytest.mark.parametrize(("flags", "told"), [("RD", False), ("RD AD", True)])
async def test_ad_is_told_to_who_asked_for_it(flags: str, told: bool) -> None:
    async with (
        upstream(lambda heard: heard.answer(f"60 A {GOOD}", flags=dns.flags.AD)) as other,
        forwarding(other) as forwarder,
    ):
        for _ in range(2):
            reply = await ask(forwarder, query("a.example", flags=dns.flags.from_text(flags)))
            assert bool(reply.flags & dns.flags.AD) is told


async def test_flush_forgets_a_name_or_everything() -> None:
    async with upstream(counting) as other, forwarding(other) as forwarder:
        for name in ("a.example", "b.example"):
            await ask(forwarder, name)
        assert forwarder.flush(b"\1a\7example\0") == 1
        assert addresses(await ask(forwarder, "a.example")) == ["192.0.2.2"]
        assert addresses(await ask(forwarder, "b.example")) == ["192.0.2.1"]
        assert forwarder.flush() == 2
        assert addresses(await ask(forwarder, "b.example")) == ["192.0.2.2"]


async def test_ending_answers_everybody_who_waits() -> None:
    async with (
        upstream(lambda heard: 0.2 if heard.kind == "slow" else None) as other,
        forwarding(other) as forwarder,
    ):
        waiting = [asyncio.create_task(ask(forwarder, f"{kind}.example")) for kind in ("slow", "drop")]
        await asyncio.sleep(0)
        await forwarder.drain(0.5)
        replies = await asyncio.gather(*waiting)
        assert [rcode(reply) for reply in replies] == ["NOERROR", "SERVFAIL"]
        assert rcode(await ask(forwarder, "late.example")) == "SERVFAIL"


async def test_two_that_forward_to_each_other_send_few_packets_and_find_out(caplog: pytest.LogCaptureFixture) -> None:
    """Two real instances' forwarders, each the other's only server, behind relays that count."""
    others: list[object] = [None, None]
    counts = [0, 0]

    class Relay(asyncio.DatagramProtocol):
        def __init__(self, to: int) -> None:
            self.to = to

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport: asyncio.DatagramTransport = transport  # type: ignore[assignment]

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            counts[self.to] += b"loop-test" not in data.lower()
            task = asyncio.create_task(self.answer(data, addr))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        async def answer(self, data: bytes, addr: tuple[str, int]) -> None:
            self.transport.sendto(await reply_to(others[self.to], data), addr)  # type: ignore[arg-type]

    tasks: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()
    relays = [
        await loop.create_datagram_endpoint(lambda to=to: Relay(to), local_addr=("127.0.0.1", 0)) for to in (0, 1)
    ]  # type: ignore[misc]
    ports = [transport.get_extra_info("sockname")[1] for transport, _ in relays]
    with caplog.at_level(logging.ERROR):
        async with forwarding(f"127.0.0.1:{ports[1]}") as one, forwarding(f"127.0.0.1:{ports[0]}") as two:
            others[:] = [one, two]
            began = time.monotonic()
            replies = await asyncio.gather(*(ask(one, f"n{number}.example") for number in range(100)))
            assert time.monotonic() - began < PATIENCE + 1
            assert {rcode(reply) for reply in replies} == {"SERVFAIL"}
            assert max(counts) <= 300
            async with asyncio.timeout(10):
                while not all(each.state()["upstreams"][0]["forwards_back"] for each in (one, two)):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            counts[:] = [0, 0]
            assert rcode(await ask(one, "afterwards.example")) == "SERVFAIL"
            assert counts == [0, 0]
    assert "forwards back to this instance" in caplog.text
    for transport, _ in relays:
        transport.close()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_list_of_servers_that_changes_under_load_loses_no_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tending, "LOOK", 0.05)
    monkeypatch.setattr(tending, "TEND", 0.05)
    path = tmp_path / "resolv.conf"
    async with (
        upstream(lambda heard: 0.02, host="127.0.0.1") as one,
        upstream(lambda heard: 0.02, host="127.0.0.2", port=one.port) as two,
    ):
        path.write_text("nameserver 127.0.0.1\n")
        zones = [{"servers": str(path), "port": one.port}]
        async with forwarding(zones=zones) as forwarder:
            lost = 0

            async def load(worker: int) -> None:
                nonlocal lost
                for number in range(scale(1000)):
                    reply = await ask(forwarder, f"n{worker}-{number}.x{number % 7}.example")
                    lost += addresses(reply) != [GOOD]

            async def swap() -> None:
                for text in ("nameserver 127.0.0.2\n", "", "rubbish", "nameserver 127.0.0.1\n") * 2:
                    fresh = tmp_path / "fresh"
                    fresh.write_text(text)
                    fresh.replace(path)
                    await asyncio.sleep(0.2)

            await asyncio.gather(swap(), *(load(worker) for worker in range(10)))
        assert lost == 0
        assert one.asked()
        assert two.asked()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(context)
    context.set_alpn_protocols(["dot"])
    return context


@pytest.mark.parametrize(
    ("names", "suffix", "trusted", "answered"),
    [
        (("127.0.0.1",), "", True, True),
        (("dns.example",), "#dns.example", True, True),
        (("dns.example",), "", True, False),
        (("other.example",), "#dns.example", True, False),
        (("127.0.0.1",), "", False, False),
    ],
)
async def test_a_tls_server_is_asked_only_under_its_name(
    tmp_path: Path, authority: trustme.CA, names: tuple[str, ...], suffix: str, *, trusted: bool, answered: bool
) -> None:
    ca = tmp_path / "ca.pem"
    (authority if trusted else trustme.CA()).cert_pem.write_to_path(str(ca))
    async with upstream(context=server_context(authority, *names)) as other:
        zones = [{"servers": [f"tls://127.0.0.1:{other.port}{suffix}"], "ca_file": str(ca)}]
        async with forwarding(zones=zones) as forwarder:
            replies = await asyncio.gather(*(ask(forwarder, f"{number}.example") for number in range(20)))
            assert {rcode(reply) for reply in replies} == {"NOERROR" if answered else "SERVFAIL"}
            assert bool(other.asked()) is answered
            if answered:
                assert other.connections == 1
                assert all(heard.stream for heard in other.log)
            else:
                assert "certificate" in forwarder.state()["upstreams"][0]["last_error"]


async def test_very_many_questions_over_one_connection_are_each_answered_right() -> None:
    """More than there are ids; each client's answer is that of its own question."""

    def script(heard: Heard) -> bytes:
        number = int(heard.kind[1:])
        return heard.answer(f"60 A 10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}")

    total = scale(70_000)
    async with upstream(script) as other, forwarding(f"tcp://127.0.0.1:{other.port}") as forwarder:
        other.log = _Nothing()

        async def some(worker: int) -> None:
            for number in range(worker, total, 50):
                got = addresses(await ask(forwarder, f"n{number}.x{number % 97}.example"))
                assert got == [f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"]

        await asyncio.gather(*(some(worker) for worker in range(50)))
        assert other.connections == 1


class _Nothing(list[Heard]):
    def append(self, _: Heard) -> None:
        pass


async def test_a_connection_that_the_server_closed_is_replaced_without_a_lost_question() -> None:
    def script(heard: Heard) -> list[bytes]:
        return [heard.answer(f"60 A {GOOD}"), b"close"]

    async with upstream(script) as other, forwarding(f"tcp://127.0.0.1:{other.port}") as forwarder:
        for number in range(20):
            assert addresses(await ask(forwarder, f"{number}.example")) == [GOOD]


async def test_a_suspect_server_is_asked_again_when_it_answers_a_probe() -> None:
    draws = [0.5]
    async with (
        upstream() as first,
        upstream() as second,
        forwarding(first, second, draw=lambda: draws[0]) as forwarder,
    ):
        await ask(forwarder, "a.example")
        first.silent = True
        assert addresses(await ask(forwarder, "0.example")) == [GOOD]
        draws[0] = 0.0  # the first is not the best any more, and asked first as one of the few
        for number in range(1, 6):
            assert addresses(await ask(forwarder, f"{number}.example")) == [GOOD]
        (state, _) = forwarder.state()["upstreams"]
        assert state["suspect_since"] is not None
        asked = len(first.asked())
        began = time.monotonic()
        await ask(forwarder, "quick.example")
        assert time.monotonic() - began < 0.25
        assert len(first.asked()) == asked
        first.silent = False
        async with asyncio.timeout(10):
            while forwarder.state()["upstreams"][0]["suspect_since"] is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
