"""query: a client with patience, against servers that are scripted, absent, or real."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meshdns.cli import exchange
from meshdns.cli.exchange import parse_server
from meshdns.cli.question import parse_question, to_octets
from meshdns.errors import ConfigError
from tests.cli.conftest import Meshdns
from tests.serving import serving

ANSWER = bytes.fromhex("c00c00010001 0000001e 0004 f0000003")
QUESTION = 12
STOP = b"stop"


def reply_to(query: bytes, *, flags: int = 0x8400, answers: bytes = ANSWER) -> bytes:
    """Give a reply to *query* with its question and no OPT."""
    end = query.index(0, QUESTION) + 5
    head = query[:2] + flags.to_bytes(2, "big") + b"\0\1" + (len(answers) // 16).to_bytes(2, "big") + b"\0\0\0\0"
    return head + query[QUESTION:end] + answers


@contextmanager
def scripted(
    over_udp: Callable[[int, bytes], list[bytes]], over_tcp: Callable[[bytes], bytes] | None = None
) -> Iterator[str]:
    """Serve: over_udp gives the datagrams for the nth query, over_tcp the octets for a framed one."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        port = tcp.getsockname()[1]
        udp.bind(("127.0.0.1", port))
        tcp.listen()
        tcp.settimeout(10)
        udp.settimeout(10)

        def datagrams() -> None:
            try:
                for number in range(exchange.TRIES):
                    query, client = udp.recvfrom(4096)
                    if query == STOP:
                        return
                    for reply in over_udp(number, query):
                        udp.sendto(reply, client)
            except OSError:
                return

        def streams() -> None:
            try:
                connection, _ = tcp.accept()
                with connection:
                    query = connection.recv(4096)
                    if over_tcp is not None:
                        for octet in over_tcp(query[2:]):
                            connection.sendall(bytes((octet,)))
            except OSError:
                return

        threads = [threading.Thread(target=each, daemon=True) for each in (datagrams, streams)]
        for thread in threads:
            thread.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            tcp.shutdown(socket.SHUT_RDWR)
            udp.sendto(STOP, udp.getsockname())
            for thread in threads:
                thread.join(10)


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "PATIENCE", 0.3)


def test_an_answer_is_printed_like_a_zone_file(meshdns: Meshdns) -> None:
    with scripted(lambda _, query: [reply_to(query)]) as server:
        said = meshdns("query", "echo.mesh", "--server", server)
    assert said.code == 0
    assert said.out.splitlines()[0] == "; NOERROR, authoritative"
    assert said.out.splitlines()[1].split() == ["echo.mesh.", "30", "IN", "A", "240.0.0.3"]
    assert f"; {server} over UDP, 43 octets" in said.out


def test_short_prints_addresses_only(meshdns: Meshdns) -> None:
    with scripted(lambda _, query: [reply_to(query)]) as server:
        assert meshdns("query", "--short", "echo.mesh", "--server", server).out == "240.0.0.3\n"


def test_a_truncated_reply_is_asked_for_over_tcp(meshdns: Meshdns) -> None:
    with scripted(
        lambda _, query: [reply_to(query, flags=0x8600, answers=b"")], lambda query: framed(reply_to(query))
    ) as server:
        said = json.loads(meshdns("query", "echo.mesh", "--json", "--server", server).out)
    assert (said["transport"], said["addresses"], said["truncated"]) == ("tcp", ["240.0.0.3"], False)


@pytest.mark.parametrize("flags", [0x8403, 0x8402, 0x8405, 0x8400])
def test_no_such_name_no_data_and_errors_exit_1(meshdns: Meshdns, flags: int) -> None:
    with scripted(lambda _, query: [reply_to(query, flags=flags, answers=b"")]) as server:
        assert meshdns("query", "echo.mesh", "--server", server).code == 1


def test_a_lost_datagram_is_sent_again(meshdns: Meshdns) -> None:
    with scripted(lambda number, query: [reply_to(query)] if number else []) as server:
        assert meshdns("query", "echo.mesh", "--short", "--server", server).out == "240.0.0.3\n"


def test_replies_to_other_questions_are_passed_over(meshdns: Meshdns) -> None:
    def forged(_: int, query: bytes) -> list[bytes]:
        wrong_id = bytes((query[0] ^ 1,)) + reply_to(query)[1:]
        wrong_name = reply_to(query).replace(b"\x04echo", b"\x04ecko")
        return [wrong_id, wrong_name, query, b"", b"\0" * 5, reply_to(query)]

    with scripted(forged) as server:
        assert meshdns("query", "echo.mesh", "--short", "--server", server).out == "240.0.0.3\n"


def test_silence_exits_1_and_says_so(meshdns: Meshdns) -> None:
    with scripted(lambda _, query: []) as server:
        said = meshdns("query", "echo.mesh", "--server", server)
    assert (said.code, said.out) == (1, "")
    assert f"{server} over UDP: no reply" in said.err


def test_nothing_listening_is_said_at_once(meshdns: Meshdns) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as taken:  # bound for TCP by nobody
        taken.bind(("127.0.0.1", 0))
        said = meshdns("query", "echo.mesh", "--tcp", "--server", f"127.0.0.1:{taken.getsockname()[1]}")
    assert said.code == 1
    assert "nothing listens there" in said.err


def test_a_connection_closed_without_a_reply_is_said_to_be_so(meshdns: Meshdns) -> None:
    with scripted(lambda _, query: [], lambda query: b"\0") as server:
        said = meshdns("query", "echo.mesh", "--tcp", "--server", server)
    assert said.code == 1
    assert "closed without a reply" in said.err


@pytest.mark.parametrize("damage", [lambda reply: reply[:-1], lambda reply: reply[:12], lambda reply: reply + b"\xc0"])
def test_a_malformed_reply_exits_1_or_is_read_as_far_as_it_goes(
    meshdns: Meshdns, damage: Callable[[bytes], bytes]
) -> None:
    with scripted(lambda _, query: [damage(reply_to(query))]) as server:
        said = meshdns("query", "echo.mesh", "--server", server)
    assert said.code in (0, 1)
    assert "Traceback" not in said.err


def test_control_characters_of_a_reply_do_not_reach_the_terminal(meshdns: Meshdns) -> None:
    evil = b"\x1b[2Jx"
    text = bytes.fromhex("c00c00100001 0000001e") + (len(evil) + 1).to_bytes(2, "big") + bytes((len(evil),)) + evil
    text = text.ljust(16 * 2, b"\0")[: len(text)]

    def reply(_: int, query: bytes) -> list[bytes]:
        message = bytearray(reply_to(query, answers=b""))
        message[6:8] = b"\0\1"
        return [bytes(message) + text]

    with scripted(reply) as server:
        said = meshdns("query", "echo.mesh", "TXT", "--server", server)
    assert "\x1b" not in said.out


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("127.0.0.1", ("127.0.0.1", 53)),
        ("127.0.0.1:15053", ("127.0.0.1", 15053)),
        ("::1", ("::1", 53)),
        ("[::1]", ("::1", 53)),
        ("[::1]:15053", ("::1", 15053)),
    ],
)
def test_a_server_is_an_address_with_or_without_a_port(text: str, server: tuple[str, int]) -> None:
    assert parse_server(text) == server


@pytest.mark.parametrize(
    "text", ["", ":53", "host:53", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "[::1", "1.2.3"]
)
def test_what_is_no_server_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_server(text)


@pytest.mark.parametrize(
    ("typed", "name", "qtype"),
    [
        (("echo.mesh", None), "echo.mesh", 1),
        (("echo.mesh", "aaaa"), "echo.mesh", 28),
        (("echo.mesh", "TYPE65"), "echo.mesh", 65),
        (("240.0.0.3", None), "3.0.0.240.in-addr.arpa", 12),
        (("240.0.0.3", "A"), "3.0.0.240.in-addr.arpa", 1),
        (("::1", None), "1." + "0." * 31 + "ip6.arpa", 12),
    ],
)
def test_an_address_stands_for_its_reverse_name(typed: tuple[str, str | None], name: str, qtype: int) -> None:
    asked, _, asked_type = parse_question(*typed)
    assert (asked, asked_type) == (name, qtype)


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        ("echo.mesh", b"\x04echo\x04mesh\0"),
        ("Echo.mesh.", b"\x04Echo\x04mesh\0"),
        (".", b"\0"),
        (r"a\.b.mesh", b"\x03a.b\x04mesh\0"),
        (r"a\032b\000.mesh", b"\x04a b\0\x04mesh\0"),
        ("bü.mesh", b"\x03b\xc3\xbc\x04mesh\0"),
    ],
)
def test_names_go_to_the_wire_with_their_case_and_escapes(text: str, wire: bytes) -> None:
    assert to_octets(text) == wire


@pytest.mark.parametrize("text", ["", "a..b", ".a", "x" * 64, "a." * 128, "a\\", r"a\300b"])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        to_octets(text)


def test_query_names_explain_and_status_agree_about_a_running_server(meshdns: Meshdns, tmp_path: Path) -> None:
    """One server, every verb, found by its configuration alone."""
    (tmp_path / "records.yaml").write_text(
        "records:\n  web.mesh: 10.0.0.1\n  big.mesh: [" + ", ".join(f"10.1.0.{n}" for n in range(1, 101)) + "]\n"
        '  "*.wild.mesh": 10.0.0.3\n  deep.inside.mesh: "fd00::1"\n'
    )
    config = 'listen: ["127.0.0.1:0"]\ndrain: 0s\nsources: [{name: extra, type: file, path: records.yaml}]\n'
    with serving(tmp_path, config) as server:
        which = ("--config", server.config)
        ready = meshdns("status", *which, "--ready")
        assert (ready.code, ready.out) == (0, "")
        assert meshdns("query", "--short", "web.mesh", *which).out == "10.0.0.1\n"
        big = json.loads(meshdns("query", "--json", "big.mesh", *which).out)
        assert (big["transport"], len(big["addresses"])) == ("tcp", 100)
        for name in ("web.mesh", "x.wild.mesh", "deep.inside.mesh", "inside.mesh", "nope.mesh", "example.com", "mesh"):
            for qtype in ("A", "AAAA", "SOA", "TXT", "AXFR"):
                asked = meshdns("query", "--json", name, qtype, *which)
                told = meshdns("explain", "--json", name, qtype, *which)
                reply, explanation = json.loads(asked.out), json.loads(told.out)
                assert asked.code == told.code, (name, qtype)
                assert (reply["rcode"], reply["answers"]) == (explanation["rcode"], explanation["answers"])
        state = json.loads(meshdns("status", "--json", *which).out)
        assert (state["running"], state["ready"], state["names"]) == (True, True, 4)
        assert [source["name"] for source in state["sources"]] == ["extra"]
        assert "ready, process" in meshdns("status", *which).out
    stopped = meshdns("status", *which)
    assert stopped.code == 1
    assert "not ready: " in stopped.err
    assert meshdns("names", *which).code == 0, "the store is there without a server"
