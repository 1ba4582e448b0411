"""Who is woken: everybody once, none early, none who has left, whatever becomes of the others."""

import asyncio
import logging

import pytest

from meshdns.upstream.alarms import MOMENT, Alarms


class Sleeper:
    def __init__(self, *, raises: bool = False) -> None:
        self.woken: list[float] = []
        self._raises = raises

    def wake(self) -> None:
        self.woken.append(asyncio.get_running_loop().time())
        if self._raises:
            raise ValueError("a bad dream")


async def wait_for(*sleepers: Sleeper) -> None:
    async with asyncio.timeout(10):
        while not all(sleeper.woken for sleeper in sleepers):  # noqa: ASYNC110
            await asyncio.sleep(MOMENT)


async def test_everybody_is_woken_once_and_nobody_early() -> None:
    alarms, began = Alarms(), asyncio.get_running_loop().time()
    waits = [0.0, 0.001, 3 * MOMENT, 3 * MOMENT, 5.5 * MOMENT]
    sleepers = [Sleeper() for _ in waits]
    for sleeper, wait in zip(sleepers, waits, strict=True):
        assert sleeper in alarms.put(sleeper, wait)
    await wait_for(*sleepers)
    assert all(sleeper.woken[0] >= began + wait for sleeper, wait in zip(sleepers, waits, strict=True))
    await asyncio.sleep(3 * MOMENT)
    assert [len(sleeper.woken) for sleeper in sleepers] == [1] * len(waits)


async def test_who_leaves_sleeps_on_and_a_fault_wakes_the_others_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    alarms, gone = Alarms(), Sleeper()
    others = [Sleeper(raises=number % 2 == 0) for number in range(6)]
    with caplog.at_level(logging.ERROR):
        for sleeper in others:
            alarms.put(sleeper, 2 * MOMENT)
        alarms.put(gone, 2 * MOMENT).discard(gone)
        await wait_for(*others)
    assert not gone.woken
    assert caplog.text.count("ValueError: a bad dream") == 3
