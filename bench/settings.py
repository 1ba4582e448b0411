"""What every module of rows is told: how long to measure, and which rows are wanted."""

from collections.abc import Iterable
from dataclasses import dataclass

SERVER_CORE, LOAD_CORE = 1, 0
"""Servers are held to the one, load generators and fake upstreams to the other."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to measure. rounds: counted ones, after one that warms up. seconds: of load in a round.

    quick: look only whether everything works; whatever is repeated many times may be repeated less. only: prefixes of
    the keys that are wanted, none for all.
    """

    rounds: int = 5
    seconds: float = 3.0
    quick: bool = False
    only: tuple[str, ...] = ()

    def wants(self, key: str) -> bool:
        """Tell whether the row *key* is to be measured, or a row whose key begins with it."""
        return not self.only or key.startswith(self.only) or any(each.startswith(key) for each in self.only)

    def wants_any(self, keys: Iterable[str]) -> bool:
        """Tell whether any of *keys* is to be measured: what they need is started only then."""
        return any(self.wants(key) for key in keys)
