"""What is kept, for how long, and how much of it; on a clock that the tests set."""

import dns.message
import pytest

from meshdns.upstream.cache import FIRST_FAILURE, LONGEST_FAILURE, STALE_TTL, Cache, Entry, cache_key
from meshdns.upstream.checking import Checked
from meshdns.upstream.settings import CacheSettings
from tests.upstream.messages import question
from tests.upstream.test_checking import checked, response


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def cache(clock: Clock, **settings: object) -> Cache:
    return Cache(CacheSettings.model_validate(settings), clock=clock)


def entry(clock: Clock, ttl: int = 60, *, name: str = "a.example", size: int = 1) -> Entry:
    lines = "\n".join(f"{name}. {ttl} A 192.0.{n >> 8}.{n & 255}" for n in range(size))
    verdict = checked(f"{name} A", response(f"{name} A", lines))
    assert isinstance(verdict, Checked)
    return Entry(verdict, server="10.0.0.1:53", authentic=False, now=clock())


def key(name: str = "a.example", rdtype: str = "A", *, dnssec: bool = False, unchecked: bool = False) -> bytes:
    return cache_key(question(name, rdtype), dnssec=dnssec, unchecked=unchecked)


def ttls(body: bytes) -> list[int]:
    whole = b"\0\1\x81\x80\0\1\0\1\0\0\0\0" + question("a.example") + body
    return [rrset.ttl for rrset in dns.message.from_wire(whole).answer]


def test_type_do_and_cd_are_kept_apart_and_case_is_not() -> None:
    keys = {key(), key(rdtype="AAAA"), key(dnssec=True), key(unchecked=True), key(dnssec=True, unchecked=True)}
    assert len(keys) == 5


def test_ttls_count_down_and_never_below_one() -> None:
    kept = entry(Clock())
    assert [ttls(kept.aged(seconds)) for seconds in (0, 1, 59, 60, 61, 0)] == [[60], [59], [1], [1], [1], [60]]
    assert ttls(kept.stale()) == [STALE_TTL]


def test_what_is_past_its_time_stays_to_stand_in_and_then_goes() -> None:
    clock = Clock()
    kept = cache(clock, stale="1h")
    kept.put(key(), entry(clock))
    clock.now += 61
    found = kept.get(key())
    assert found is not None
    assert clock.now >= found.expires
    clock.now += 3_600
    assert kept.get(key()) is None


def test_without_staleness_its_time_is_its_end() -> None:
    clock = Clock()
    kept = cache(clock, stale=0)
    kept.put(key(), entry(clock))
    clock.now += 61
    assert kept.get(key()) is None


@pytest.mark.parametrize("settings", [{}, {"entries": 0}, {"bytes": 0}])
def test_a_ttl_of_zero_and_a_cache_of_no_size_keep_nothing(settings: dict[str, int]) -> None:
    clock = Clock()
    kept = cache(clock, **settings)
    kept.put(key(), entry(clock, 60 if settings else 0))
    assert kept.get(key()) is None


def test_entries_are_bounded_and_the_least_used_goes() -> None:
    clock = Clock()
    kept = cache(clock, entries=10)
    for number in range(10):
        kept.put(key(f"{number}.example"), entry(clock))
    assert kept.get(key("0.example")) is not None
    kept.put(key("new.example"), entry(clock))
    assert kept.statistics.entries == 10
    assert kept.get(key("0.example")) is not None
    assert kept.get(key("1.example")) is None


def test_octets_are_bounded() -> None:
    clock = Clock()
    kept = cache(clock, entries=10_000, bytes=100_000)
    for number in range(1_000):
        kept.put(key(f"{number}.example"), entry(clock, size=20))
    assert kept.statistics.octets <= 100_000
    assert kept.statistics.entries >= 20
    kept.put(key("huge.example"), entry(clock, size=256 * 4))
    assert kept.statistics.octets <= 100_000


def test_a_failure_lasts_longer_each_time_and_ends_with_an_answer() -> None:
    clock = Clock()
    kept = cache(clock)
    waits = []
    for _ in range(6):
        waits.append(kept.fail(key(), 2, "silent").wait)
        assert kept.failure(key()) is not None
        clock.now += waits[-1]
        assert kept.failure(key()) is None
    assert waits == [FIRST_FAILURE, 4.0, 8.0, 16.0, LONGEST_FAILURE, LONGEST_FAILURE]
    clock.now += LONGEST_FAILURE + 1
    assert kept.fail(key(), 2, "silent").wait == FIRST_FAILURE
    kept.put(key(), entry(clock))
    assert kept.failure(key()) is None
    kept.fail(key("b.example"), 2, "silent")
    kept.forget_failures()
    assert kept.failure(key("b.example")) is None


def test_flush_takes_a_name_and_what_is_under_it_on_label_boundaries() -> None:
    clock = Clock()
    kept = cache(clock)
    names = ["example", "a.example", "b.a.example", "xexample", "a.other"]
    for name in names:
        kept.put(key(name), entry(clock))
        kept.fail(key(f"f.{name}"), 2, "silent")
    assert kept.flush(question("a.example")[:-4]) == 2
    assert [name for name in names if kept.get(key(name)) is not None] == ["example", "xexample", "a.other"]
    assert kept.failure(key("f.a.example")) is None
    assert kept.failure(key("f.example")) is not None
    assert kept.flush() == 3
    assert kept.statistics == (0, 0, 0)
