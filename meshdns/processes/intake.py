"""What happens to what a source says: its tables go to the store, the rest into the log and the status.

No waiting and no tasks here: ``sync`` hands events in, and calls ``tick`` each second.
"""

import logging
import time
from collections.abc import Callable

from meshdns.errors import StoreError
from meshdns.inventory.event import Connected, Disconnected, Noticed, Pushed, SourceEvent, Unchanged
from meshdns.processes.status import SHOWN, LastError, SourceState
from meshdns.store.push import Push
from meshdns.store.writer import Writer

log = logging.getLogger(__name__)

NAMED = 5
"""Names of one kind in a line of the log."""

LONGEST_RETRY = 30.0
"""Seconds between two attempts to store a table that could not be stored; the first is after one."""


class Intake:
    """One source's way into the store. clock: monotonic seconds. wall: unix seconds."""

    def __init__(
        self,
        name: str,
        kind: str,
        writer: Writer,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.state = SourceState(name, kind, delivered=name in writer.delivered())
        self._writer = writer
        self._clock = clock
        self._wall = wall
        self._waiting: Pushed | None = None
        self._retry_at = 0.0
        self._retry_after = 1.0
        self._skipped: tuple[str, ...] = ()
        self._notices: tuple[str, ...] = ()
        self._conflicts: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The source's name."""
        return self.state.name

    def take(self, event: SourceEvent) -> None:
        """Do what *event* asks for; never raises because of the store."""
        match event:
            case Connected(peer, detail):
                self._connected(peer, detail)
            case Disconnected(reason, remedy):
                self.disconnected(reason, remedy)
            case Pushed():
                self._waiting = event
                self._heard()
                self._store()
            case Unchanged():
                self._heard()
                self._confirm()
            case Noticed(problem, remedy):
                log.warning("source %s: %s", self.name, _with_remedy(problem, remedy))
                self._failed(problem, remedy)

    def tick(self) -> None:
        """Try again what could not be stored; bring the state of held names up to date."""
        if self._waiting is not None and self._clock() >= self._retry_at:
            self._store()
        self._note_held()

    def ended_holds(self, push: Push) -> None:
        """Take note of a push that the guard made when a hold was over."""
        self._note_push(push)
        self.state.names = None if self.state.names is None else self.state.names - len(push.removed)

    def disconnected(self, reason: str, remedy: str = "") -> None:
        """Note that the source cannot be heard."""
        log.warning("source %s: %s", self.name, _with_remedy(reason, remedy))
        self.state.connected, self.state.connected_since = False, None
        self._failed(reason, remedy)
        self._writer.disconnected(self.name)

    def _connected(self, peer: str, detail: str) -> None:
        log.info("source %s: connected to %s%s", self.name, peer, f" ({detail})" if detail else "")
        state = self.state
        state.connected, state.connected_since = True, self._wall()
        state.peer, state.protocol = peer, detail
        self._writer.connected(self.name)

    def _heard(self) -> None:
        self.state.heard, self.state.heard_monotonic = self._wall(), self._clock()

    def _store(self) -> None:
        event = self._waiting
        if event is None:
            return
        try:
            push = self._writer.apply(self.name, event.table, version=event.version)
        except StoreError as fault:
            self._not_stored(fault)
            return
        self._waiting, self._retry_after = None, 1.0
        state = self.state
        state.pushed, state.version, state.delivered = self._wall(), event.version, True
        state.last_error = None
        state.skipped, state.skipped_count = event.skipped[:SHOWN], len(event.skipped)
        state.notices = event.notices[:SHOWN]
        state.names = len(event.table.records) + len(push.held)
        self._note_push(push)
        if event.skipped != self._skipped and event.skipped:
            log.warning("source %s: %d left out: %s", self.name, len(event.skipped), _some(event.skipped, "; "))
        if event.notices != self._notices and event.notices:
            log.warning("source %s: %s", self.name, _some(event.notices, "; "))
        self._skipped, self._notices = event.skipped, event.notices

    def _confirm(self) -> None:
        if self._waiting is not None:  # what holds is a table that is not stored yet
            return
        try:
            push = self._writer.confirm(self.name)
        except StoreError as fault:
            log.error("source %s: the table it confirmed could not be marked as delivered: %s", self.name, fault)
            self._failed(str(fault), "")
            return
        self.state.delivered = True
        self.state.last_error = None
        if push is not None:
            log.info("source %s: the stored table still holds, generation %d", self.name, push.generation)

    def _not_stored(self, fault: StoreError) -> None:
        log.error(
            "source %s: its table could not be stored, the one before stays; tried again in %g s: %s",
            self.name, self._retry_after, fault,
        )  # fmt: skip
        self._failed(str(fault), "free space in data_dir; the latest table is tried again by itself")
        self._retry_at = self._clock() + self._retry_after
        self._retry_after = min(self._retry_after * 2, LONGEST_RETRY)

    def _failed(self, problem: str, remedy: str) -> None:
        last = self.state.last_error
        since = last.since if last is not None and last.problem == problem else self._wall()
        self.state.last_error = LastError(problem, remedy, since)

    def _note_push(self, push: Push) -> None:
        self._note_held()
        if push.changed_anything:
            log.info("source %s: %s", self.name, describe(push))
        else:
            log.debug("source %s: push %s changed nothing", self.name, push.version or "(no version)")
        if push.conflicts and push.conflicts != self._conflicts:
            count = len(push.conflicts)
            log.warning("source %s: %d names are given differently: %s", self.name, count, _some(push.conflicts, "; "))
        self._conflicts = push.conflicts

    def _note_held(self) -> None:
        held = self._writer.held(self.name)
        state = self.state
        state.held, state.held_count = held[:SHOWN], len(held)
        state.hold_ends_in = self._writer.hold_ends_in(self.name)


def describe(push: Push) -> str:
    """Give a push on one line: ``push v2: +1 -0 ~3, held 0, generation 7; added a.mesh; changed b.mesh, …``."""
    kinds = {"added": push.added, "removed": push.removed, "changed": push.changed, "held": push.held}
    counts = f"+{len(push.added)} -{len(push.removed)} ~{len(push.changed)}"
    text = f"push{f' {push.version}' if push.version else ''}: {counts}, held {len(push.held)}"
    named = "".join(f"; {kind} {_some(names, ', ')}" for kind, names in kinds.items() if names)
    return f"{text}, generation {push.generation}{named}"


def _some(items: tuple[str, ...], between: str) -> str:
    """Give the first few of *items* and how many more there are."""
    more = len(items) - NAMED
    return between.join(items[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _with_remedy(problem: str, remedy: str) -> str:
    return f"{problem} ({remedy})" if remedy else problem
