"""The guard: each malformed class is told by its defect, and nothing makes it work long."""

import struct
import time

import dns.exception
import dns.message
import dns.name
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meshdns.wire.query import Edns, Query, parse_query
from tests.wire.packets import OPT, SEEDS, opt, option, query

WEB = b"\x03web\x04mesh\0"


def test_a_plain_query_is_read_whole() -> None:
    assert parse_query(query(b"\x03WeB\x04mesh\0", 28, flags=0x0130)) == Query(
        b"\x12\x34", 0x0130, WEB, b"\x03WeB\x04mesh\0\0\x1c\0\x01", 28, 1, None, None
    )


def test_only_the_name_is_folded_not_the_type() -> None:
    parsed = parse_query(query(WEB, 65))
    assert parsed is not None
    assert parsed.qtype == 65


def test_an_opt_is_read_with_its_options() -> None:
    parsed = parse_query(query(WEB, 1, extra=opt(4096, flags=0x8000, options=option(10, b"clientck")), additional=1))
    assert parsed is not None
    assert parsed.edns == Edns(4096, 0, True, ((10, b"clientck"),))
    assert parsed.fault is None


@pytest.mark.parametrize(
    "message",
    [b"", b"\0", b"\x12\x34\1\0\0\1\0\0\0\0\0", query(WEB, 1, flags=0x8000), query(WEB, 1, flags=0x8180)],
)
def test_what_is_no_query_gets_no_answer(message: bytes) -> None:
    assert parse_query(message) is None


LONG = (b"\x3f" + b"a" * 63) * 4 + b"\0"
DEFECTS = {
    "two questions": (query(WEB, 1, questions=2, extra=WEB + b"\0\1\0\1"), "2 questions"),
    "no question": (b"\x12\x34\1\0" + b"\0" * 8, "0 questions"),
    "65535 questions": (b"\x12\x34\1\0\xff\xff" + b"\xc0\xff" * 17, "65535 questions"),
    "nothing behind the header": (b"\x12\x34\1\0\0\1" + b"\0" * 6, "cut short"),
    "name cut": (query(b"\x3fweb", 1)[:16], "cut short"),
    "type cut": (query(WEB, 1)[:-1], "cut short"),
    "pointer to itself": (query(b"\xc0\x0c", 1), "pointer or unknown label type"),
    "pointer backwards": (query(b"\x03web\xc0\x0c", 1), "pointer or unknown label type"),
    "pointer forwards": (query(b"\xc0\x20", 1, extra=b"\0" * 20), "pointer or unknown label type"),
    "label type 01": (query(b"\x41a\0", 1), "pointer or unknown label type"),
    "label type 10": (query(b"\x80a\0", 1), "pointer or unknown label type"),
    "name of 257 octets": (query(LONG, 1), "255 octets"),
    "an answer record": (query(WEB, 1, answers=1, extra=WEB + b"\0\1\0\1\0\0\0\1\0\4aaaa"), "answer or authority"),
    "an authority record": (query(WEB, 1, authorities=1), "answer or authority"),
    "octets behind": (query(WEB, 1, extra=b"garbage!"), "after the last record"),
    "record announced, absent": (query(WEB, 1, additional=1), "cut short"),
    "two OPT": (query(WEB, 1, extra=OPT * 2, additional=2), "two OPT"),
    "OPT of an owner": (query(WEB, 1, extra=b"\1a" + OPT, additional=1), "owner"),
    "option too long": (query(WEB, 1, extra=opt(options=b"\0\x0a\xea\x60abcdefgh"), additional=1), "option runs past"),
    "half an option": (query(WEB, 1, extra=opt(options=b"\0\x0a\0"), additional=1), "option runs past"),
    "OPT past the end": (query(WEB, 1, extra=OPT[:-2] + b"\x01\xf4", additional=1), "cut short"),
    "pointer loop in additional": (query(WEB, 1, extra=b"\xc0\x1a\xc0\x1a" + OPT[1:], additional=1), "leads nowhere"),
    "pointer into the header": (query(WEB, 1, extra=b"\xc0\x00" + OPT[1:], additional=1), "leads nowhere"),
    "too many records": (query(WEB, 1, extra=OPT * 9, additional=9), "9 additional records"),
}


@pytest.mark.parametrize("case", DEFECTS)
def test_a_malformed_query_is_told_by_its_first_defect(case: str) -> None:
    message, fault = DEFECTS[case]
    parsed = parse_query(message)
    assert parsed is not None
    assert parsed.fault is not None
    assert fault in parsed.fault


def test_what_was_readable_before_the_defect_is_kept() -> None:
    parsed = parse_query(query(WEB, 1, extra=OPT * 2, additional=2))
    assert parsed is not None
    assert parsed.name == WEB
    assert parsed.edns is not None


def test_a_name_of_255_octets_is_read() -> None:
    name = (b"\x3f" + b"a" * 63) * 3 + b"\x3d" + b"a" * 61 + b"\0"
    assert len(name) == 255
    parsed = parse_query(query(name, 1))
    assert parsed is not None
    assert (parsed.name, parsed.fault) == (name, None)


def test_the_largest_message_of_empty_options_is_read_in_bounded_time() -> None:
    message = query(WEB, 1, extra=opt(options=option(65001, b"") * 16_000), additional=1)
    began = time.process_time()
    parsed = parse_query(message)
    assert time.process_time() - began < 0.5  # about 10 ms; the bound is for slow machines
    assert parsed is not None
    assert parsed.edns is not None
    assert len(parsed.edns.options) == 16_000


@given(st.one_of(st.binary(max_size=600), st.sampled_from(SEEDS)), st.data())
@example(query(WEB, 1), None)
def test_any_octets_are_read_without_an_exception(message: bytes, data: st.DataObject | None) -> None:
    """Invariant of the guard: a result, and where it says well-formed, dnspython reads the same question."""
    if data is not None and message:
        at = data.draw(st.integers(0, len(message) - 1))
        message = message[:at] + data.draw(st.binary(max_size=4)) + message[at + 1 :]
    parsed = parse_query(message)
    if parsed is None or parsed.fault is not None or parsed.opcode:
        return
    try:
        other = dns.message.from_wire(message)
    except (dns.exception.DNSException, NotImplementedError, struct.error):
        return  # dnspython knows types that a server need not read; it must only never read another question
    question = other.question[0]
    assert question.name.to_wire().lower() == parsed.name
    assert (question.rdtype, question.rdclass) == (parsed.qtype, parsed.qclass)
