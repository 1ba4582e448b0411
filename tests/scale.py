"""How much a test runs and how long it may take: ``make test-long`` is strict, ``make test`` short and lenient."""

import os

LONG = bool(os.environ.get("MESHDNS_LONG"))


def scale(count: int) -> int:
    """Give *count* in the long run, a tenth of it (at least 1) otherwise."""
    return count if LONG else max(1, count // 10)


def bound(seconds: float) -> float:
    """Give *seconds* in the long run, which has the machine for itself; five times as many otherwise."""
    return seconds if LONG else 5 * seconds
