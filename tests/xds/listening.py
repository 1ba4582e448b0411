"""Taking the events of a source as the process that serves does, in tests."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from meshdns.inventory.event import Pushed, SourceEvent
from meshdns.xds.client import KumaSource
from meshdns.xds.settings import KumaSettings
from meshdns.xds.timing import Timing

ZONES = ("mesh", "mesh.local")
DATA = Path(__file__).parent.parent / "data" / "kuma"

FAST = Timing(
    keepalive=20.0, patience=5.0, patience_limit=20.0, retry_first=0.02, retry_limit=0.05, handover=5.0, farewell=1.0
)
"""Waits between attempts too short to be waited for; patience long enough for a loaded machine."""

E = TypeVar("E")


def source(
    address: str, *, timing: Timing = FAST, memory: Path | None = None, random: float = 0.5, **settings: Any
) -> KumaSource:
    """A source called ``kuma`` for the control plane at *address*."""
    if "ca_file" not in settings:
        settings["plaintext"] = True
    known = KumaSettings.model_validate({"name": "kuma", "type": "kuma", "address": address, **settings})
    return KumaSource(known, zones=ZONES, memory=memory, timing=timing, random=lambda: random)


class Listening:
    """Events of *source*, kept in ``heard``."""

    def __init__(self, source: KumaSource) -> None:
        self._events: AsyncIterator[SourceEvent] = source.events()
        self.heard: list[SourceEvent] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._events.aclose()  # type: ignore[attr-defined]

    async def next(self, kind: type[E], seconds: float = 30.0) -> E:
        """The next event of *kind* within *seconds* in all; others before it are kept in ``heard``."""
        before = len(self.heard)
        try:
            async with asyncio.timeout(seconds):
                while True:
                    event = await anext(self._events)
                    self.heard.append(event)
                    if isinstance(event, kind):
                        return event
        except TimeoutError:
            heard = "; ".join(_line(event) for event in self.heard[before:][-10:]) or "nothing"
            raise AssertionError(f"no {kind.__name__} within {seconds:g} s, but {heard}") from None

    def of(self, kind: type[E]) -> list[E]:
        """Every event of *kind* heard so far."""
        return [event for event in self.heard if isinstance(event, kind)]


def _line(event: SourceEvent) -> str:
    return f"Pushed {event.version}" if isinstance(event, Pushed) else str(event)


def names(push: Pushed) -> dict[str, tuple[str, ...]]:
    """Name as pushed → addresses as text."""
    return {record.name: tuple(str(address) for address in record.addresses) for record in push.table.records.values()}
