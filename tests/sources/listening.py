"""Hear a source: its events one by one, within a time that only a fault exceeds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from types import TracebackType
from typing import Self, TypeVar

from meshdns.inventory.event import Source, SourceEvent

Kind = TypeVar("Kind")

PATIENCE = 30.0
"""Seconds; a source here is asked every few milliseconds."""


class Listening:
    """``async with Listening(source) as heard``: then ``await heard.next(Pushed)``."""

    def __init__(self, source: Source) -> None:
        self._events: AsyncIterator[SourceEvent] = source.events()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with aclosing(self._events):  # type: ignore[type-var]  # it is a generator
            pass

    async def next(self, kind: type[Kind]) -> Kind:
        """Give the next event, which must be of *kind*."""
        async with asyncio.timeout(PATIENCE):
            event = await anext(self._events)
        assert isinstance(event, kind), event
        return event
