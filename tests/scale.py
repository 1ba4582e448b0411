"""How much of a count a test runs: all of it for ``make test-long``, a tenth for ``make test``."""

import os

LONG = bool(os.environ.get("MESHDNS_LONG"))


def scale(count: int) -> int:
    """Give *count* in the long run, a tenth of it (at least 1) otherwise."""
    return count if LONG else max(1, count // 10)
