"""Who of those that wait for their question to be asked is next: doors in turn, domains in turn behind each. Pure.

To ask costs ten times what a refusal does. Were everything asked at once that clients can send, the process
would do nothing else: it would hear neither answers nor anybody who has less to ask. So a few questions begin in one
turn of the event loop, and the others stand in line. A door is where a question came in: a listen address and a
transport. Whoever floods one keeps nobody waiting at another, and whoever asks much of one domain keeps nobody
waiting who asks of another. Lines are bounded.
"""

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

PER_DOOR = 1_000
"""Questions in line behind one door: what a machine begins to ask in a fraction of a second, a busy one in a second."""

PER_SUFFIX = 200
"""Questions of one domain in line behind one door."""

T = TypeVar("T")


class Line(Generic[T]):
    """Questions in line. per_door, per_suffix: the bounds."""

    def __init__(self, per_door: int = PER_DOOR, per_suffix: int = PER_SUFFIX) -> None:
        self._per_door = per_door
        self._per_suffix = per_suffix
        self._doors: dict[Hashable, dict[Hashable, deque[T]]] = {}
        """Doors with somebody in line → domains → questions; whose turn it is stands first."""
        self._lengths: dict[Hashable, int] = {}

    def __bool__(self) -> bool:
        return bool(self._doors)

    def is_full(self, door: Hashable) -> bool:
        """Tell whether nobody more can stand in line behind *door*."""
        return self._lengths.get(door, 0) >= self._per_door

    def join(self, question: T, door: Hashable, suffix: Hashable) -> bool:
        """Put *question* in line; tell whether there was room for it."""
        if self.is_full(door):
            return False
        domains = self._doors.setdefault(door, {})
        line = domains.setdefault(suffix, deque())
        if len(line) >= self._per_suffix:
            return False
        line.append(question)
        self._lengths[door] = self._lengths.get(door, 0) + 1
        return True

    def next(self) -> T:
        """Give the question whose turn it is. Raises LookupError when there is none."""
        if not self._doors:
            raise LookupError("nobody stands in line")
        door = next(iter(self._doors))
        domains = self._doors.pop(door)
        suffix = next(iter(domains))
        line = domains.pop(suffix)
        question = line.popleft()
        if line:
            domains[suffix] = line  # behind the others, as the door is
        if domains:
            self._doors[door] = domains
            self._lengths[door] -= 1
        else:
            del self._lengths[door]
        return question
