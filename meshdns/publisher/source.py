"""The ``publisher`` source: files and joined data planes → views of the mesh, for our own store and for Envoys.

``events`` drives everything: whoever publishes must follow it, also where its tables go nowhere. Reading files,
computing and keeping VIPs happen in threads; ``current`` is replaced as a whole.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from meshdns.errors import ResourceError, StoreError
from meshdns.inventory.event import Connected, Disconnected, Noticed, Pushed, SourceEvent, Unchanged
from meshdns.inventory.record import IPAddress, Table
from meshdns.publisher.collection import Collection, collect
from meshdns.publisher.files import Files, PathError
from meshdns.publisher.mesh_view import MeshView, build_view
from meshdns.publisher.model import Dataplane
from meshdns.publisher.names import Entries, entries_of
from meshdns.publisher.reading import read_joining_dataplane
from meshdns.publisher.settings import PublisherSettings
from meshdns.publisher.vip_store import SqliteVipStore, VipStore
from meshdns.publisher.vips import Allocation, EntryKey, Leases, allocate

log = logging.getLogger(__name__)

VIP_FILE = "vips.sqlite"
"""In ``data_dir``."""

INTERVAL = 0.03
"""Seconds between two looks at the files; longer where a look takes long (``LOOK_SHARE``)."""

LOOK_SHARE = 0.03
"""Part of the time that looking at files may take."""

LINGER = 10.0
"""Seconds for which a data plane that joined stays after its stream (Kuma's ``dataplaneDeregistrationDelay``)."""

GONE_FOR = 0.3
"""Seconds for which the path must be missing before it is told: an editor replaces a file within less."""

CONFIRM_EVERY = 10.0
RETRY_EVERY = 2.0
_REMEDY_GONE = "put it back, or take the source out of the configuration; what was published stays"
_REMEDY_STORE = "free space in data_dir, or let meshdns write there; what was published stays"


def read_once(settings: PublisherSettings) -> MeshView:
    """Give the view of the files as they are now, VIPs as if given out anew; blocking, and nothing is kept.

    Raises ResourceError when there is nothing at the path. What is wrong with single resources is in ``skipped``.
    """
    files = Files(settings.path, now=lambda: 0)  # a clock before every change: nothing is waited for
    try:
        files.look()
    except PathError as error:
        raise ResourceError(str(error)) from None
    collection = collect(files.readings, (), settings.mesh)
    entries = entries_of(collection.resources)
    allocation = allocate({}, _wanted(entries), settings.network, now=0, quarantine=0, reserved=_reserved(entries))
    return _view(collection, entries, allocation, settings)


def _wanted(entries: Entries) -> list[EntryKey]:
    return [entry.key for entry in entries.entries if entry.address is None]


def _reserved(entries: Entries) -> list[IPAddress]:
    return [entry.address for entry in entries.entries if entry.address is not None]


def _view(collection: Collection, entries: Entries, allocation: Allocation, settings: PublisherSettings) -> MeshView:
    exhausted = [
        f"no VIP is left in {settings.network} for {key}: it has no name (widen ranges.services)"
        for key in allocation.exhausted
    ]
    return build_view(
        collection.resources,
        entries,
        allocation.addresses,
        settings,
        skipped=[*collection.faults, *exhausted],
        notices=collection.notices,
    )


class PublisherSource:
    """One mesh, published from files. ``name`` and ``events`` are those of any source.

    data_dir: where VIPs are kept (``vips``: something else that keeps them). clock: monotonic seconds, wall: unix
    seconds, linger: seconds, all for tests.
    """

    def __init__(
        self,
        settings: PublisherSettings,
        *,
        data_dir: Path,
        vips: VipStore | None = None,
        interval: float = INTERVAL,
        linger: float = LINGER,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self._files = Files(settings.path)
        self._vips = vips if vips is not None else SqliteVipStore(data_dir / VIP_FILE)
        self._interval = interval
        self._linger = linger
        self._clock = clock
        self._wall = wall
        self._joined: dict[str, Dataplane] = {}
        self._leaving: dict[str, float] = {}
        self._collection: Collection | None = None
        self._allocation: Allocation | None = None
        self._current: MeshView | None = None
        self._changed = asyncio.Event()
        self._wake = asyncio.Event()
        self._stale = True
        self._retry_at = float("inf")

    @property
    def name(self) -> str:
        """The configured name."""
        return self.settings.name

    @property
    def current(self) -> MeshView | None:
        """The mesh as it is published now; None until the files were read for the first time.

        The very same object as long as no data plane is to be sent anything else.
        """
        return self._current

    async def changed(self, seen: MeshView | None) -> MeshView:
        """Wait until ``current`` is another than *seen*; gives it."""
        while self._current is None or self._current is seen:
            await self._changed.wait()
        return self._current

    def join(self, text: str, mesh: str, name: str) -> Dataplane:
        """Take the Dataplane that node ``<mesh>.<name>`` brought along in its metadata; ``changed`` tells of it.

        Raises ResourceError when it cannot be used; then nothing was changed.
        """
        dataplane = read_joining_dataplane(text, mesh, name)
        self._leaving.pop(name, None)
        if self._joined.get(name) != dataplane:
            self._joined[name] = dataplane
            self._touch()
        return dataplane

    def leave(self, name: str) -> None:
        """Note that the stream of the data plane *name* ended: what it brought along goes ``linger`` seconds later."""
        if name in self._joined:
            self._leaving[name] = self._clock() + self._linger
            self._wake.set()

    def close(self) -> None:
        """Let go of the kept VIPs; ``events`` must have been ended."""
        self._vips.close()

    async def events(self) -> AsyncIterator[SourceEvent]:
        """Publish until cancelled; a second call begins anew, with the whole table."""
        teller = _Teller(self._clock, str(self.settings.path))
        self._stale = True
        while True:
            began = self._clock()
            try:
                read = await asyncio.to_thread(self._files.look)
            except PathError as error:
                for event in teller.gone(str(error)):
                    yield event
            else:
                for event in teller.heard():
                    yield event
                self._stale = self._stale or read
            took = self._clock() - began
            self._remove_left()
            if self._clock() >= self._retry_at:
                self._stale = True
            if self._stale and self._files.ready:
                for event in teller.told(await self._publish()):
                    yield event
            else:
                for event in teller.confirmed():
                    yield event
            await self._pause(max(self._interval, took / LOOK_SHARE))

    async def _pause(self, seconds: float) -> None:
        deadlines = [*self._leaving.values(), self._retry_at]
        seconds = max(0.0, min(seconds, min(deadlines) - self._clock()))
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    def _touch(self) -> None:
        self._stale = True
        self._wake.set()

    def _remove_left(self) -> None:
        now = self._clock()
        for name in [name for name, at in self._leaving.items() if at <= now]:
            del self._leaving[name], self._joined[name]
            self._stale = True

    async def _publish(self) -> "MeshView | StoreError":
        """Compute the view and make it the current one, if it is another for data planes."""
        self._stale, self._retry_at = False, float("inf")
        try:
            view = await asyncio.to_thread(self._compute, tuple(self._joined.values()))
        except StoreError as error:
            self._retry_at = self._clock() + RETRY_EVERY
            return error
        if not view.same_mesh(self._current):
            self._current = view
            told, self._changed = self._changed, asyncio.Event()
            told.set()
        return view

    def _compute(self, joined: tuple[Dataplane, ...]) -> MeshView:
        collection = collect(self._files.readings, joined, self.settings.mesh, self._collection)
        entries = entries_of(collection.resources)
        view = _view(collection, entries, self._allocate(entries), self.settings)
        self._collection = collection
        return view

    def _allocate(self, entries: Entries) -> Allocation:
        """Give every entry its VIP; without a transaction where the same entries are there as before."""
        settings = self.settings
        wanted = _wanted(entries)
        last = self._allocation
        if last is not None and not last.exhausted and last.addresses.keys() == set(wanted):
            return last
        reserved = _reserved(entries)
        now = self._wall()

        def change(leases: Leases) -> Allocation:
            return allocate(
                leases, wanted, settings.network, now=now, quarantine=settings.quarantine, reserved=reserved
            )

        self._allocation = allocation = self._vips.update(f"{settings.mesh}/{settings.vips}", change)
        if allocation.exhausted and allocation.next_free is not None:
            self._retry_at = self._clock() + max(RETRY_EVERY, allocation.next_free - now)
        return allocation


class _Teller:
    """What was told of the source last, so that it is told once."""

    def __init__(self, clock: Callable[[], float], peer: str) -> None:
        self._clock = clock
        self._peer = peer
        self._heard: bool | None = None
        self._gone_since: float | None = None
        self._problem = ""
        self._last: tuple[Table, tuple[str, ...], tuple[str, ...]] | None = None
        self._confirmed = 0.0
        self.ever_heard = False

    def gone(self, reason: str) -> Iterator[SourceEvent]:
        """The path cannot be read."""
        now = self._clock()
        if self._gone_since is None:
            self._gone_since = now
        if self._heard is not False and (now - self._gone_since >= GONE_FOR or not self.ever_heard):
            self._heard = False
            yield Disconnected(reason, _REMEDY_GONE)

    def heard(self) -> Iterator[SourceEvent]:
        """The path can be read."""
        self._gone_since = None
        self.ever_heard = True
        if not self._heard:
            self._heard = True
            self._confirmed = self._clock()
            yield Connected(self._peer)

    def told(self, outcome: MeshView | StoreError) -> Iterator[SourceEvent]:
        """A view was computed, or could not be."""
        if isinstance(outcome, StoreError):
            if str(outcome) != self._problem:
                self._problem = str(outcome)
                yield Noticed(self._problem, _REMEDY_STORE)
            return
        self._problem = ""
        said = (outcome.table, outcome.skipped, outcome.notices)
        if said == self._last:
            yield from self.confirmed()
            return
        self._last = said
        self._confirmed = self._clock()
        yield Pushed(outcome.table, outcome.version, skipped=outcome.skipped, notices=outcome.notices)

    def confirmed(self) -> Iterator[SourceEvent]:
        """Say that the last table still holds, but not at every look."""
        now = self._clock()
        if self._heard and self._last is not None and not self._problem and now - self._confirmed >= CONFIRM_EVERY:
            self._confirmed = now
            yield Unchanged()
