"""Who is answered, and how often."""

from ipaddress import ip_network

import pytest

from meshdns.resolver.admission import Admission
from meshdns.resolver.rate_limit import RateLimit, cut
from meshdns.resolver.settings import RateLimitSettings
from meshdns.wire.name import to_wire
from tests.resolver.test_answer import named, resolver


@pytest.mark.parametrize(
    ("allow", "loopback", "host", "permitted"),
    [
        ([], True, "127.0.0.1", True),
        ([], True, "203.0.113.9", True),
        ([], False, "127.0.0.1", True),
        ([], False, "10.9.8.7", True),
        ([], False, "100.64.0.1", True),
        ([], False, "203.0.113.9", False),
        ([], False, "fd00::1", True),
        ([], False, "fe80::1%eth0", True),
        ([], False, "2001:db8::1", False),
        (["203.0.113.0/24"], False, "203.0.113.9", True),
        (["203.0.113.0/24"], False, "10.9.8.7", False),
        (["203.0.113.0/24"], True, "127.0.0.1", False),
        (["2001:db8::/32"], False, "2001:db8::1", True),
    ],
)
def test_who_may_ask(allow: list[str], loopback: bool, host: str, permitted: bool) -> None:
    admission = Admission([ip_network(each) for each in allow], loopback=loopback)
    assert admission.permits(host) is permitted
    assert admission.permits(host) is permitted  # remembered


def test_the_verdicts_remembered_are_bounded() -> None:
    admission = Admission([], loopback=False)
    for number in range(10_000):
        assert admission.permits(f"10.0.{number >> 8}.{number & 255}")
    assert len(admission._verdicts) <= 4_096


def reply_to(name: str) -> bytes:
    reply = resolver().answer_now(named(name))
    assert reply is not None
    return reply


def exceeded(limit: RateLimit, host: str, name: str, times: int, now: float = 0.0) -> int:
    reply = reply_to(name)
    return sum(limit.exceeded(host, reply, now) for _ in range(times))


def test_replies_to_one_question_and_errors_are_limited_per_network_and_second() -> None:
    limit = RateLimit(RateLimitSettings(errors=20, identical=200))
    assert exceeded(limit, "203.0.113.1", "web.mesh", 250) == 50
    assert exceeded(limit, "203.0.113.2", "WEB.mesh", 1) == 1  # the same network, the same question
    assert exceeded(limit, "203.0.113.1", "dual.mesh", 200) == 0
    assert exceeded(limit, "198.51.100.1", "web.mesh", 200) == 0
    assert exceeded(limit, "203.0.113.1", "a.mesh", 150) == 0
    assert exceeded(limit, "203.0.113.1", "b.mesh", 100) == 50
    assert exceeded(limit, "203.0.113.1", "a.example.org", 15) == 0
    assert exceeded(limit, "203.0.113.1", "b.example.org", 15) == 10
    assert exceeded(limit, "203.0.113.1", "web.mesh", 200, now=1.0) == 0
    assert exceeded(limit, "2001:db8:0:1::1", "web.mesh", 150) == 0
    assert exceeded(limit, "2001:db8:0:1:ffff::1", "web.mesh", 100) == 50


def test_zero_is_no_limit() -> None:
    limit = RateLimit(RateLimitSettings(errors=0, identical=0))
    assert exceeded(limit, "203.0.113.1", "web.mesh", 1_000) == 0
    assert exceeded(limit, "203.0.113.1", "x.mesh", 1_000) == 0


def test_counts_are_bounded() -> None:
    limit = RateLimit(RateLimitSettings())
    reply = reply_to("web.mesh")
    for number in range(70_000):
        limit.exceeded(f"{number >> 16}.{number >> 8 & 255}.{number & 255}.1", reply, 0.0)
    assert len(limit._counts) <= 65_536


def test_a_cut_reply_is_no_larger_than_its_query_and_says_truncated() -> None:
    query = named("big.mesh")
    short = cut(reply_to("big.mesh"))
    assert len(short) <= len(query)
    assert short[2] & 2
    assert short[4:12] == b"\0\1\0\0\0\0\0\0"
    assert short[12:] == to_wire("big.mesh") + b"\0\1\0\1"
    assert len(cut(b"\x12\x34\x81\x01" + b"\0" * 8)) == 12
