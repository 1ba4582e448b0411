"""When something that died is started again, and when deaths mean that the store is damaged. Pure: time is given."""

import signal
from collections import deque
from dataclasses import dataclass, field

STEADY = 10.0
"""Seconds. Who lived so long was well; a death before that belongs to the same row of deaths as the one before."""

FIRST_DELAY = 0.1
LONGEST_DELAY = 5.0
"""Seconds. The first restart is at once, then the delay doubles from the first of these up to the second."""

DAMAGE_DEATHS = 3
DAMAGE_WINDOW = 10.0
"""So many suspicious deaths within so many seconds, of whichever children, and the store is checked again."""

EXIT_STORE_DAMAGED = 65
"""Exit code (EX_DATAERR, sysexits.h) of a child that found the store damaged."""

_SUSPICIOUS = frozenset((-signal.SIGBUS, -signal.SIGSEGV, -signal.SIGABRT, EXIT_STORE_DAMAGED))
"""How a child dies of a damaged store: LMDB reads its map unchecked, so truncation is SIGBUS, nonsense SIGSEGV."""


@dataclass(slots=True)
class Streak:
    """The deaths of one child that followed each other closely."""

    deaths: int = 0

    def died(self, lived: float) -> float:
        """Give the seconds to wait before it is started again. lived: seconds from its birth to its death."""
        self.deaths = 1 if lived >= STEADY else self.deaths + 1
        if self.deaths == 1:
            return 0.0
        return float(min(FIRST_DELAY * 2 ** min(self.deaths - 2, 10), LONGEST_DELAY))


@dataclass(frozen=True, slots=True)
class Deaths:
    """Several that came together. by_signal: none could say what it found. of_responders: one of them answered."""

    by_signal: bool
    of_responders: bool


@dataclass(slots=True)
class Suspicion:
    """Whether the deaths of the last seconds say that the store is damaged."""

    _deaths: deque[tuple[float, int, bool]] = field(default_factory=deque)

    def died(self, code: int, now: float, *, responder: bool) -> Deaths | None:
        """Take note of a death; give the deaths that say that the store must be checked, and forget them, or None.

        code: as of ``subprocess``, -9 for SIGKILL. now: seconds.
        """
        if code not in _SUSPICIOUS:
            return None
        self._deaths.append((now, code, responder))
        while now - self._deaths[0][0] > DAMAGE_WINDOW:
            self._deaths.popleft()
        if len(self._deaths) < DAMAGE_DEATHS:
            return None
        found = Deaths(all(code < 0 for _, code, _ in self._deaths), any(each for _, _, each in self._deaths))
        self._deaths.clear()
        return found


def describe(code: int) -> str:
    """Give an exit code in words: ``exit code 1``, ``SIGKILL``."""
    if code == EXIT_STORE_DAMAGED:
        return "found the store damaged"
    try:
        return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
