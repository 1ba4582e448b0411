"""When to try again: jittered, bounded, never more than one attempt in ``first`` seconds."""

from collections.abc import Callable


class Backoff:
    """Waits that double from *first* to *limit* seconds, each shortened by up to a half by *random* (0 … 1).

    The jitter keeps the instances of a fleet from returning to a restarted control plane in one moment.
    """

    def __init__(self, first: float, limit: float, random: Callable[[], float]) -> None:
        self._first = first
        self._limit = limit
        self._random = random
        self._failures = 0

    def reset(self) -> None:
        """Begin anew: something was received."""
        self._failures = 0

    def wait(self, since_attempt: float) -> float:
        """Give the seconds to wait now; *since_attempt*: seconds since the last attempt began."""
        ceiling = min(self._limit, self._first * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return max(ceiling * (1.0 - self._random() / 2.0), self._first - since_attempt)
