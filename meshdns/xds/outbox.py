"""From the stream to whoever takes the events: one slot for the table, a short queue for the rest."""

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from meshdns.inventory.event import Connected, Disconnected, Noticed, Unchanged
from meshdns.xds.decode.kuma import Piece

_QUEUE = 100


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the control plane says at one moment, not joined yet. version: of the response that made it so."""

    pieces: Mapping[str, Piece]
    version: str


Item = Connected | Disconnected | Noticed | Unchanged | Snapshot


class Outbox:
    """Events in order. A snapshot that was not taken yet is replaced by the next: only the latest counts."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._filled = asyncio.Event()

    def put(self, item: Item) -> None:
        """Add *item*; never waits."""
        if isinstance(item, Snapshot):
            self._items = deque(old for old in self._items if not isinstance(old, Snapshot | Unchanged))
        elif isinstance(item, Unchanged) and any(isinstance(old, Snapshot | Unchanged) for old in self._items):
            return
        elif len(self._items) >= _QUEUE:
            self._drop_oldest()
        self._items.append(item)
        self._filled.set()

    def _drop_oldest(self) -> None:
        for index, old in enumerate(self._items):
            if not isinstance(old, Snapshot):
                del self._items[index]
                return

    async def take(self) -> Item:
        """Give the next item, waiting for one."""
        while not self._items:
            self._filled.clear()
            await self._filled.wait()
        return self._items.popleft()
