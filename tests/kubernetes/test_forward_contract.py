"""What CoreDNS' ``forward`` expects of a server behind it: probes answered, no surprise for what it passes on."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import pytest

from tests.real.asking import wait_until
from tests.real.daemon import free_port
from tests.scale import bound
from tests.serving import Serving, serving

RECORDS = "records:\n  web.mesh: 240.0.0.1\n  dual.mesh: [240.0.0.3, 'fd00:fd00::3']\n"
AT_ONCE = bound(0.1)
"""Seconds; CoreDNS gives a probe half a second to a second."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Run an instance whose one source, a file, has delivered."""
    directory = tmp_path_factory.mktemp("forward")
    (directory / "records.yaml").write_text(RECORDS)
    config = 'listen: ["127.0.0.1:0"]\ndrain: 0s\nsources: [{name: r, type: file, path: records.yaml}]\n'
    with serving(directory, config) as running:
        yield running


def send(server: Serving, query: dns.message.Message, *, tcp: bool = False) -> dns.message.Message:
    ask = dns.query.tcp if tcp else dns.query.udp
    return ask(query, "127.0.0.1", 2, server.port)


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize("recursion", [False, True])
def test_a_health_probe_is_refused_at_once(server: Serving, tcp: bool, recursion: bool) -> None:
    """``. NS``, with or without RD (``health_check no_rec``); any answer is healthy, silence is not."""
    query = dns.message.make_query(".", "NS")
    if not recursion:
        query.flags &= ~dns.flags.RD
    send(server, query, tcp=tcp)  # the first may meet a cold process
    began = time.monotonic()
    reply = send(server, query, tcp=tcp)
    assert time.monotonic() - began < AT_ONCE
    assert reply.rcode() == dns.rcode.REFUSED
    assert reply.question == query.question


def test_a_thousand_probes_in_a_row_are_all_answered(server: Serving) -> None:
    query = dns.message.make_query(".", "NS")
    assert all(send(server, query).rcode() == dns.rcode.REFUSED for _ in range(1_000))


PASSED_ON = [
    ("EDNS", {"use_edns": 0, "payload": 2048}),
    ("EDNS of 512", {"use_edns": 0, "payload": 512}),
    ("DO", {"want_dnssec": True}),
    ("cookie", {"use_edns": 0, "options": [dns.edns.GenericOption(10, b"12345678")]}),
    ("client subnet", {"use_edns": 0, "options": [dns.edns.ECSOption("192.0.2.0", 24)]}),
    ("padding", {"use_edns": 0, "options": [dns.edns.GenericOption(12, bytes(32))]}),
    ("keepalive", {"use_edns": 0, "options": [dns.edns.GenericOption(11, b"")]}),
    ("unknown option", {"use_edns": 0, "options": [dns.edns.GenericOption(65001, b"x")]}),
    ("AD", {"flags": dns.flags.RD | dns.flags.AD}),
    ("CD", {"flags": dns.flags.RD | dns.flags.CD}),
    ("no RD", {"flags": 0}),
]


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize("words", [words for _, words in PASSED_ON], ids=[name for name, _ in PASSED_ON])
def test_what_clients_put_into_a_query_changes_no_answer(server: Serving, words: dict[str, object], tcp: bool) -> None:
    reply = send(server, dns.message.make_query("dual.mesh", "AAAA", **words), tcp=tcp)  # type: ignore[arg-type]
    assert reply.rcode() == dns.rcode.NOERROR
    assert [rdata.to_text() for rrset in reply.answer for rdata in rrset] == ["fd00:fd00::3"]


@pytest.mark.parametrize(
    "rdtype", ["TXT", "MX", "SRV", "HTTPS", "SVCB", "CAA", "DS", "DNSKEY", "NS", "SOA", "TYPE65280"]
)
def test_every_type_of_a_name_is_no_error(server: Serving, rdtype: str) -> None:
    reply = send(server, dns.message.make_query("web.mesh", rdtype))
    assert reply.rcode() == dns.rcode.NOERROR
    assert reply.answer == []
    assert [rrset.rdtype for rrset in reply.authority] == [dns.rdatatype.SOA]


def test_a_name_that_is_not_ours_is_refused_and_never_passed_on(server: Serving) -> None:
    reply = send(server, dns.message.make_query("example.org", "A"))
    assert reply.rcode() == dns.rcode.REFUSED


def test_servfail_is_only_for_what_may_still_come(server: Serving, tmp_path: Path) -> None:
    """A control plane that has not spoken may know the name: not NXDOMAIN, which would be kept."""
    (tmp_path / "records.yaml").write_text(RECORDS)
    config = f"""
listen: ["127.0.0.1:{free_port()}"]
drain: 0s
sources:
  - {{name: kuma, type: kuma, address: "127.0.0.1:1", plaintext: true}}
  - {{name: records, type: file, path: records.yaml}}
"""
    unknown, known = dns.message.make_query("later.mesh", "A", use_edns=0), dns.message.make_query("web.mesh", "A")
    with serving(tmp_path, config, wait=False) as waiting:
        waiting.listen = [("127.0.0.1", int(config.partition("127.0.0.1:")[2].partition('"')[0]))]
        wait_until(lambda: _knows(waiting, known))
        reply = send(waiting, unknown)
        assert reply.rcode() == dns.rcode.SERVFAIL
        assert [option.code for option in reply.extended_errors()] == [dns.edns.EDECode.NOT_READY]
        assert send(waiting, dns.message.make_query(".", "NS")).rcode() == dns.rcode.REFUSED
    assert send(server, unknown).rcode() == dns.rcode.NXDOMAIN


def _knows(server: Serving, known: dns.message.Message) -> bool:
    try:
        return send(server, known).rcode() == dns.rcode.NOERROR
    except (dns.exception.DNSException, OSError):
        return False


def test_one_tcp_connection_carries_many_queries(server: Serving) -> None:
    """CoreDNS takes a connection again for its next queries."""
    with socket.create_connection(("127.0.0.1", server.port), 2) as connection:
        for _ in range(2):
            for number in range(50):
                query = dns.message.make_query("web.mesh", "A", id=number)
                dns.query.send_tcp(connection, query)
            replies = [dns.query.receive_tcp(connection)[0] for _ in range(50)]
            assert sorted(reply.id for reply in replies) == list(range(50))
