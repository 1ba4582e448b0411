"""Who died is started at once, then ever later; three deaths that smell of a damaged store have it checked."""

import signal

import pytest

from meshdns.processes.restarts import EXIT_STORE_DAMAGED, Deaths, Streak, Suspicion, describe


@pytest.mark.parametrize(
    ("lives", "delays"),
    [
        ([60.0], [0.0]),
        ([0.1], [0.0]),
        ([0.1] * 10, [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]),
        ([60.0, 9.9, 9.9, 9.9], [0.0, 0.1, 0.2, 0.4]),
        ([60.0, 60.0, 60.0], [0.0, 0.0, 0.0]),
        ([1.0, 1.0, 1.0, 10.0, 1.0], [0.0, 0.1, 0.2, 0.0, 0.1]),
        ([1.0] * 5000, [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2] + [5.0] * 4993),
    ],
)
def test_delay_follows_how_long_it_lived(lives: list[float], delays: list[float]) -> None:
    streak = Streak()
    assert [streak.died(lived) for lived in lives] == delays


BUS, SEGV, ABRT, KILL = (-getattr(signal, f"SIG{name}") for name in ("BUS", "SEGV", "ABRT", "KILL"))


@pytest.mark.parametrize(
    ("deaths", "verdicts"),
    [
        ([(BUS, 0.0), (SEGV, 1.0), (ABRT, 2.0)], [False, False, True]),
        ([(EXIT_STORE_DAMAGED, 0.0)] * 3, [False, False, True]),
        ([(BUS, 0.0), (BUS, 5.0), (BUS, 10.1)], [False, False, False]),
        ([(BUS, 0.0), (BUS, 5.0), (BUS, 10.0)], [False, False, True]),
        ([(BUS, 0.0)] * 7, [False, False, True, False, False, True, False]),
        ([(KILL, 0.0), (1, 0.1), (0, 0.2), (KILL, 0.3), (BUS, 0.4)], [False] * 5),
    ],
)
def test_three_suspicious_deaths_in_ten_seconds_mean_damage(
    deaths: list[tuple[int, float]], verdicts: list[bool]
) -> None:
    suspicion = Suspicion()
    assert [suspicion.died(code, now, responder=True) is not None for code, now in deaths] == verdicts


@pytest.mark.parametrize(
    ("deaths", "found"),
    [
        ([(BUS, True)] * 3, Deaths(by_signal=True, of_responders=True)),
        ([(ABRT, False)] * 3, Deaths(by_signal=True, of_responders=False)),
        ([(ABRT, False), (SEGV, False), (BUS, True)], Deaths(by_signal=True, of_responders=True)),
        ([(BUS, True), (BUS, True), (EXIT_STORE_DAMAGED, True)], Deaths(by_signal=False, of_responders=True)),
    ],
)
def test_who_died_and_how_decides_what_is_done(deaths: list[tuple[int, bool]], found: Deaths) -> None:
    suspicion = Suspicion()
    assert [suspicion.died(code, 0.0, responder=each) for code, each in deaths] == [None, None, found]


@pytest.mark.parametrize(
    ("code", "text"),
    [(0, "exit code 0"), (3, "exit code 3"), (-9, "SIGKILL"), (65, "found the store damaged"), (-99, "signal 99")],
)
def test_exit_codes_in_words(code: int, text: str) -> None:
    assert describe(code) == text
