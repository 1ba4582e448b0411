"""How many questions wait at once: bounded in all and for each domain, so that no dead domain keeps the rest out.

At a bound the question that has waited longest is given up for the new one, if it has waited long enough that a living
server would have answered; else the new one is refused at once. Pure.
"""

from collections.abc import Hashable
from typing import Generic, TypeVar

TOTAL = 2_000
"""Questions that wait at once."""

PER_SUFFIX = 200
"""Questions that wait at once in one domain of one forward zone."""

JOSTLE = 0.2
"""Seconds after which a waiting question may be given up for a new one."""

_ARPA = b"\4arpa\0"

T = TypeVar("T", bound=Hashable)


def registered_suffix(name: bytes) -> bytes:
    """Give the domain that *name* (lower-case wire form) probably belongs to, as its registrant would say.

    Two labels, three where the second is as short as those of public suffixes are (``co.uk``) or under ``arpa``. No
    list of suffixes is kept: being wrong makes a bound tighter or wider, no more.
    """
    starts = []
    at = 0
    while length := name[at]:
        starts.append(at)
        at += 1 + length
    if len(starts) <= 2:
        return name
    short = name[starts[-2]] <= 3 or name.endswith(_ARPA)
    return name[starts[-3 if short else -2] :]


class Outstanding(Generic[T]):
    """The questions that wait. total, per_suffix: the bounds."""

    def __init__(self, total: int = TOTAL, per_suffix: int = PER_SUFFIX) -> None:
        self._total = total
        self._per_suffix = per_suffix
        self._all: dict[T, float] = {}
        self._by_suffix: dict[Hashable, dict[T, float]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def admit(self, question: T, suffix: Hashable, now: float) -> tuple[bool, T | None]:
        """Tell whether *question* may wait from *now* on, and which other is to be given up for it."""
        ours = self._by_suffix.get(suffix, {})
        crowd = ours if len(ours) >= self._per_suffix else self._all if len(self._all) >= self._total else None
        given_up: T | None = None
        if crowd is not None:
            oldest = next(iter(crowd))
            if now - crowd[oldest] < JOSTLE:
                return False, None
            given_up = oldest
        self._all[question] = now
        self._by_suffix.setdefault(suffix, {})[question] = now
        return True, given_up

    def release(self, question: T, suffix: Hashable) -> None:
        """Take note that *question* waits no more; nothing happens when it does not."""
        self._all.pop(question, None)
        ours = self._by_suffix.get(suffix)
        if ours is not None:
            ours.pop(question, None)
            if not ours:
                del self._by_suffix[suffix]
