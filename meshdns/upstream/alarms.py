"""Who is woken when, many at once: one timer of the event loop for all whose time comes in the same moment.

Nearly every question is answered long before its first patience ends, so to set an alarm and to take it back must cost
nothing; a timer of the loop for each was a tenth of what a question costs.
"""

import asyncio
import logging
from typing import Protocol

log = logging.getLogger(__name__)

MOMENT = 0.01
"""Seconds that count as the same time; nobody is woken early."""


class Sleeper(Protocol):
    """Somebody who wants to be woken."""

    def wake(self) -> None:
        """Take note that the time has come."""


class Alarms:
    """The alarms of one event loop."""

    def __init__(self) -> None:
        self._moments: dict[int, set[Sleeper]] = {}

    def put(self, sleeper: Sleeper, seconds: float) -> set[Sleeper]:
        """Wake *sleeper* in *seconds*; until then it is in the set that is given, unless it leaves."""
        loop = asyncio.get_running_loop()
        moment = int((loop.time() + seconds) / MOMENT) + 1
        sleepers = self._moments.get(moment)
        if sleepers is None:
            sleepers = self._moments[moment] = set()
            loop.call_at(moment * MOMENT, self._ring, moment)
        sleepers.add(sleeper)
        return sleepers

    def _ring(self, moment: int) -> None:
        sleepers = self._moments.pop(moment)
        while sleepers:
            try:
                sleepers.pop().wake()
            except Exception:  # a fault of ours must not let the others sleep for ever; it is logged
                log.exception("somebody was woken in vain")
