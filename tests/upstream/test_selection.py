"""Which server is asked, when and again: each case a course of one question on a clock of its own."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshdns.upstream.selection import (
    EXPLORE,
    PATIENCE,
    SUSPECT,
    TRIES,
    Health,
    Race,
    Transport,
    Try,
    order,
)


def test_of_unknown_servers_the_first_is_asked_first_and_then_the_fastest() -> None:
    servers = [Health(), Health(), Health()]
    assert order(servers, 0.5) == [0, 1, 2]
    servers[2].answered(0.01)
    assert order(servers, 0.5) == [2, 0, 1]
    servers[0].answered(0.005)
    assert order(servers, 0.5) == [0, 2, 1]


def test_now_and_then_another_than_the_fastest_goes_first() -> None:
    servers = [Health(rtt=0.01), Health(rtt=0.02), Health(rtt=0.03)]
    firsts = [order(servers, draw / 1000)[0] for draw in range(1000)]
    assert firsts.count(0) == 1000 - 1000 * EXPLORE
    assert firsts.count(1) == firsts.count(2) == 500 * EXPLORE


def test_a_server_is_suspect_after_three_timeouts_and_well_with_its_first_answer() -> None:
    health = Health(rtt=0.01)
    assert [health.missed(7.0) for _ in range(SUSPECT + 1)] == [False, False, True, False]
    assert health.suspect_since == 7.0
    assert order([health, Health(rtt=1.0)], 0.0) == [1, 0]
    assert health.answered(0.02)
    assert (health.rtt, health.suspect_since, health.timeouts) == (pytest.approx(0.0125), None, 0)
    assert not health.answered(0.02)


def test_a_timeout_puts_others_before() -> None:
    servers = [Health(rtt=0.01), Health(rtt=0.2), Health()]
    servers[0].missed(1.0)
    assert order(servers, 0.5) == [1, 2, 0]
    servers[0].answered(0.01)
    assert order(servers, 0.5) == [0, 1, 2]


def test_all_suspect_are_all_asked() -> None:
    servers = [Health(rtt=0.2, suspect_since=1.0), Health(rtt=0.1, suspect_since=2.0)]
    assert order(servers, 0.0) == [1, 0]


def test_the_average_follows_what_is_measured() -> None:
    health = Health()
    for _ in range(30):
        health.answered(0.1)
    assert health.rtt == pytest.approx(0.1)
    health.answered(0.5)
    assert health.rtt == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("rtt", "tries", "expected"),
    [(None, 0, 0.4), (0.01, 0, 0.4), (0.01, 1, 0.8), (0.01, 2, 1.6), (0.01, 3, 2.0), (0.5, 0, 1.0), (0.5, 1, 2.0)],
)
def test_the_time_for_a_try_grows_from_twice_the_rtt(rtt: float | None, tries: int, expected: float) -> None:
    assert Health(rtt=rtt).timeout(tries) == pytest.approx(expected)


Happening = Callable[[Race, Try, float], object]


def run(race: Race, react: dict[tuple[int, Transport, int], Happening] | None = None) -> list[tuple[float, int, str]]:
    """Play *race* to its end; give (time, server, transport) of every try.

    react: (server, transport, number of the try) → what happens 10 ms after it was sent.
    """
    made, now, agenda = [], 0.0, []
    for _ in range(100):
        race.expire(now)
        for attempt in race.due(now):
            made.append((round(now, 2), attempt.server, attempt.transport.name))
            happening = (react or {}).get((attempt.server, attempt.transport, attempt.number))
            if happening is not None:
                agenda.append((now + 0.01, happening, attempt))
        if race.is_over(now):
            return made
        wakes = race.wakes()
        agenda.sort(key=lambda each: each[0])
        if agenda and agenda[0][0] <= wakes:
            now, happening, attempt = agenda.pop(0)
            follow = happening(race, attempt, now)
            if isinstance(follow, Try):
                made.append((round(now, 2), follow.server, follow.transport.name))
        else:
            now = wakes
    raise AssertionError("a race without end")


def race(count: int, **options: frozenset[int]) -> Race:
    return Race([Health(rtt=0.001) for _ in range(count)], list(range(count)), 0.0, **options)


def failed(race: Race, attempt: Try, now: float) -> None:
    race.failed(attempt)


def rejected(race: Race, attempt: Try, now: float) -> None:
    race.rejected(attempt, now)


def truncated(race: Race, attempt: Try, now: float) -> Try:
    return race.truncated(attempt, now)


UDP, STREAM = Transport.UDP, Transport.STREAM

COURSES = [
    ("one silent server", 1, {}, [(0.0, 0, "UDP"), (0.4, 0, "UDP"), (1.2, 0, "UDP"), (1.2, 0, "STREAM")]),
    (
        "two silent servers",
        2,
        {},
        [
            (0.0, 0, "UDP"),
            (0.3, 1, "UDP"),
            (0.4, 0, "UDP"),
            (0.7, 1, "UDP"),
            (1.2, 0, "UDP"),
            (1.2, 0, "STREAM"),
            (1.5, 1, "UDP"),
            (1.5, 1, "STREAM"),
        ],
    ),
    (
        "the first cannot be reached",
        2,
        {(0, UDP, 0): failed},
        [(0.0, 0, "UDP"), (0.01, 1, "UDP"), (0.41, 1, "UDP"), (1.21, 1, "UDP"), (1.21, 1, "STREAM")],
    ),
    ("none can be reached", 2, {(0, UDP, 0): failed, (1, UDP, 0): failed}, [(0.0, 0, "UDP"), (0.01, 1, "UDP")]),
    ("one errs, the other too", 2, {(0, UDP, 0): rejected, (1, UDP, 0): rejected}, [(0.0, 0, "UDP"), (0.01, 1, "UDP")]),
    (
        "one errs, the other is silent",
        2,
        {(0, UDP, 0): rejected},
        [(0.0, 0, "UDP"), (0.01, 1, "UDP"), (0.41, 1, "UDP")],
    ),
    ("the only one errs", 1, {(0, UDP, 0): rejected}, [(0.0, 0, "UDP")]),
    (
        "truncated, and the stream fails",
        2,
        {(0, UDP, 0): truncated, (0, STREAM, 0): failed, (1, UDP, 0): truncated, (1, STREAM, 0): failed},
        [(0.0, 0, "UDP"), (0.01, 0, "STREAM"), (0.3, 1, "UDP"), (0.31, 1, "STREAM")],
    ),
    (
        "truncated, and the stream is silent",
        1,
        {(0, UDP, 0): truncated},
        [(0.0, 0, "UDP"), (0.01, 0, "STREAM")],
    ),
]


@pytest.mark.parametrize(("what", "servers", "react", "expected"), COURSES, ids=[course[0] for course in COURSES])
def test_the_course_of_a_question(
    what: str,
    servers: int,
    react: dict[tuple[int, Transport, int], Happening],
    expected: list[tuple[float, int, str]],
) -> None:
    assert run(race(servers), react) == expected


def test_a_server_of_streams_is_never_asked_by_datagrams() -> None:
    made = run(race(2, stream_only=frozenset({0})))
    assert {transport for _, server, transport in made if server == 0} == {"STREAM"}


def test_a_query_in_another_form_waits_beside_the_first() -> None:
    running = race(1)
    (first,) = running.due(0.0)
    follow = running.again(first, 0.1)
    assert set(running.pending()) == {first, follow}
    assert follow.deadline >= 0.5


def test_no_server_is_the_end() -> None:
    nobody = Race([], [], 0.0)
    assert nobody.due(0.0) == []
    assert nobody.is_over(0.0)


@given(
    st.integers(1, 5),
    st.dictionaries(
        st.tuples(st.integers(0, 4), st.sampled_from([UDP, STREAM]), st.integers(0, 2)),
        st.sampled_from([failed, rejected, truncated]),
        max_size=10,
    ),
    st.frozensets(st.integers(0, 4)),
)
def test_every_course_ends_in_time_with_bounded_tries(
    count: int, react: dict[tuple[int, Transport, int], Happening], streams: frozenset[int]
) -> None:
    """Invariant: at most ``TRIES`` datagrams to a server, none after ``PATIENCE`` seconds, and an end."""
    react = {key: what for key, what in react.items() if what is not truncated or key[1] is UDP}
    made = run(race(count, stream_only=frozenset(s for s in streams if s < count)), react)
    assert all(moment < PATIENCE for moment, _, _ in made)
    for server in range(count):
        assert sum(1 for _, each, transport in made if each == server and transport == "UDP") <= TRIES
        assert sum(1 for _, each, transport in made if each == server and transport == "STREAM") <= TRIES + 1
