"""The one writer of the store: each source's table in, one commit out, and a commit is a publish.

A push is compared with what is kept (octets against octets), the guard says which missing names stay for now, and
what is left is written in one transaction together with the compiled entries and the journal row. A push that
changes nothing opens no write transaction. What cannot be written changes nothing, neither on disk nor here.
"""

import logging
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import lmdb

from meshdns.errors import StoreError
from meshdns.inventory.body import Bodies, bodies_of
from meshdns.inventory.record import Table
from meshdns.store.batch import Batch
from meshdns.store.collector import collector_paused
from meshdns.store.compiled import closure, rebuild, update
from meshdns.store.delivered import add_delivered, put_delivered, read_delivered
from meshdns.store.difference import Difference, compare
from meshdns.store.guard import Guard, taken_over
from meshdns.store.journal import HOLD_OVER, NO_LONGER_CONFIGURED, JournalRow, append_row
from meshdns.store.merge import Winner, all_served, find_conflicts, records_of, winner_of
from meshdns.store.progress import Progress, read_progress, write_progress
from meshdns.store.push import Push, Pushed, put_held, put_records, read_held
from meshdns.store.schema import (
    MAP_SIZE,
    ReadTransaction,
    SourceState,
    entries_of,
    open_store,
    source_prefix,
    translated,
)
from meshdns.zone.entries import Rules

log = logging.getLogger(__name__)

ANEW = 0.2
"""From this share of all names on, compiling everything anew is cheaper than compiling before and after."""

PROGRESS_EVERY = 5.0
"""Seconds between two notes of how long a source with held names has been heard."""


class Writer:
    """Opens the store in the directory *path*, creating it if need be, and is the only one to write it.

    rules: how records compile. sources: the configured ones, first wins. shrink_hold: seconds of connected time for
    which the guard keeps doubted removals, 0: off. clock: monotonic seconds. wall: Unix seconds. map_size: octets.
    Raises StoreError when the store cannot be opened or is of a newer format. Open it once per process.
    """

    def __init__(
        self,
        path: Path,
        *,
        rules: Rules,
        sources: Sequence[str],
        shrink_hold: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        map_size: int = MAP_SIZE,
    ) -> None:
        self._rules = rules
        self._clock = clock
        self._wall = wall
        self._noted = clock()
        self._map_size = map_size
        self._guards: dict[str, Guard] = {}
        self._last: dict[str, weakref.ref[Bodies]] = {}
        """Of each source whose records are just those of its last table: that, as long as the source holds it."""
        self._closed = False
        self._store = open_store(path, map_size=map_size)
        try:
            with translated(path):
                self._store.env.reader_check()
                with self._store.env.begin() as txn:
                    self._state = self._store.state(txn)
                self._configure(tuple(sources))
                self._guards = self._load_guards(shrink_hold)
        except BaseException:
            self._store.env.close()
            raise

    def __repr__(self) -> str:
        return f"<Writer {self._store.path} generation={self.generation} names={self.names_count()}>"

    @property
    def generation(self) -> int:
        """The generation of the last commit."""
        return self._state.generation

    def names_count(self) -> int:
        """Give how many names are served."""
        return self._state.names

    def delivered(self) -> frozenset[str]:
        """Give the sources that have delivered at least once."""
        self._open_again()
        with translated(self._store.path), self._store.env.begin() as txn:
            return read_delivered(self._store, txn)

    def held(self, source: str) -> tuple[str, ...]:
        """Give the names of *source* that the guard keeps, sorted."""
        return tuple(sorted(self._guards[source].until))

    def hold_ends_in(self, source: str) -> float | None:
        """Give the seconds of connected time until the next held name of *source* goes, None when none is held."""
        return self._guards[source].ends_in(self._clock())

    def connected(self, source: str) -> None:
        """Note that *source* has (re)connected: for a while the guard doubts tables that shrink."""
        self._guards[source] = self._guards[source].connected(self._clock())

    def disconnected(self, source: str) -> None:
        """Note that *source* cannot be heard: its holds stop running."""
        self._guards[source] = self._guards[source].disconnected(self._clock())

    def apply(self, source: str, table: Table, *, version: str = "") -> Push:
        """Take *table* as all that *source* says; version: its own word for this push.

        Raises StoreError when it cannot be written; the last table then stays.
        """
        with collector_paused():
            return self._apply(source, table, version)

    def _apply(self, source: str, table: Table, version: str) -> Push:
        self._open_again()
        now = self._clock()
        slot = self._slot(source)
        bodies = bodies_of(table.records)
        with translated(self._store.path), self._store.env.begin() as txn:
            difference = compare(self._store, txn, slot.number, bodies, table.listeners, kept=self._kept(source))
            guard = self._judge(txn, slot, table, difference, now)
            first = source not in read_delivered(self._store, txn)
            conflicts: tuple[str, ...] = ()
            if len(self._state.sources) > 1:
                touched = {name: bodies[name] for name in (*difference.added, *difference.changed)}
                conflicts = find_conflicts(self._store, txn, self._state.sources, slot, touched)
        before = self._guards[source]
        removed = tuple(name for name in difference.missing if name not in guard.until)
        push = Push(
            self.generation,
            source,
            version,
            difference.added,
            removed,
            difference.changed,
            tuple(sorted(guard.until)),
            tuple(sorted(before.until.keys() - guard.until.keys())),
            conflicts,
            bool(difference.added or difference.changed or removed or difference.listeners or difference.gone),
        )
        if push.changed_anything or first or before.until != guard.until or slot.lenient != table.lenient:
            pushed = Pushed(table.records, bodies, difference)
            push = self._commit(push, slot._replace(lenient=table.lenient), guard, pushed)
        new = guard.until.keys() - before.until.keys()
        if new:
            log.warning(
                "source %s: push %s lacks %d of %d names shortly after a connect; they are kept for at most %.0f s",
                source, version or "without version", len(new), difference.listed, guard.hold,
            )  # fmt: skip
        self._guards[source] = guard
        if isinstance(table.records, Bodies) and not guard.until:
            self._last[source] = weakref.ref(table.records)
        return push

    def _kept(self, source: str) -> Mapping[str, bytes] | None:
        """Give all the bodies that are kept of *source*, None when they must be read. To be asked once."""
        last = self._last.pop(source, None)
        records = last() if last is not None else None
        return None if records is None else records.octets

    def confirm(self, source: str) -> Push | None:
        """Note that *source* said its last table still holds: it has delivered. None when that was known."""
        if source in self.delivered():
            return None
        slot = self._slot(source)
        with self._batch() as batch:
            add_delivered(batch, source)
            self._finish(batch, self._state.sources)
        return Push(self.generation, slot.name, held=self.held(source))

    def tick(self) -> tuple[Push, ...]:
        """Remove the names whose hold is over; to be called about each second. One push for each source that had some.

        Raises StoreError when a removal cannot be written; it is tried again at the next call.
        """
        now = self._clock()
        pushes = []
        for source, guard in self._guards.items():
            over = tuple(sorted(guard.ended(now)))
            if over:
                left = guard.keeping(guard.until.keys() - set(over), now)
                push = Push(
                    self.generation, source, HOLD_OVER, removed=over, held=tuple(sorted(left.until)), released=over,
                    changed_anything=True,
                )  # fmt: skip
                pushes.append(self._commit(push, self._slot(source), left))
                self._guards[source] = left
                log.warning("source %s: %d names are removed, they did not come back", source, len(over))
        if now - self._noted >= PROGRESS_EVERY and any(guard.until for guard in self._guards.values()):
            self._note_progress()
        return tuple(pushes)

    @contextmanager
    def closed_for_now(self) -> Iterator[None]:
        """Have the store closed while the block runs: until then LMDB keeps the memory of its largest commit.

        That is 60 MiB for 100,000 names. A store that cannot be opened again is tried again at its next use.
        """
        self._close_for_now()
        try:
            yield
        finally:
            try:
                self._open_again()
            except StoreError as error:
                log.warning("the store cannot be opened again yet: %s", error)

    def close(self) -> None:
        """Close the store. Nothing may be called after."""
        if any(guard.until for guard in self._guards.values()):
            self._note_progress()
        self._store.env.close()

    def _slot(self, source: str) -> SourceState:
        return next(each for each in self._state.sources if each.name == source)

    def _judge(
        self, txn: ReadTransaction, slot: SourceState, table: Table, difference: Difference, now: float
    ) -> Guard:
        """Give the guard as it is after the push: which of the missing names it keeps."""
        guard = self._guards[slot.name]
        listed = difference.listed - len(guard.until)
        candidates = guard.candidates(difference.missing, listed, now)
        if not candidates:
            return guard.keeping((), now)
        own = [slot]
        records = [found.record for name in candidates for found in records_of(self._store, txn, name, own)]
        return guard.keeping(candidates - taken_over(records, table), now)

    def _commit(
        self,
        push: Push,
        slot: SourceState,
        guard: Guard,
        pushed: Pushed | None = None,
    ) -> Push:
        """Write *push* and what follows from it in one transaction; give it with its generation."""
        prefix = source_prefix(slot.number)
        old_slot = self._slot(slot.name)
        sources = tuple(slot if each.number == slot.number else each for each in self._state.sources)
        names = (*push.added, *push.changed, *push.removed)
        anew = slot.lenient != old_slot.lenient or len(names) > ANEW * max(self._state.names, 100)
        with self._batch() as batch:
            together = set() if anew else closure(self._store, batch.txn, names, self._rules)
            before = {} if anew else self._winners(batch.txn, together, sources)
            put_records(batch, prefix, push, pushed, anew=anew)
            put_held(batch, prefix, guard.until)
            served = self._state.names
            if anew:
                served = self._rebuild(
                    batch, sources, {slot.number: pushed.bodies} if pushed and not guard.until else {}
                )
            elif names:
                lenient = {each.number for each in sources if each.lenient}
                after = self._winners(batch.txn, together, sources)
                served += update(batch, self._rules, lenient, before=before, after=after, names=together)
            add_delivered(batch, slot.name)
            push = replace(push, generation=self._state.base + batch.txn.id())
            row = JournalRow(
                push.generation, self._wall(), push.source, push.version, push.added, push.removed, push.changed
            )
            octets = append_row(batch, row, self._state.journal_octets)
            self._finish(batch, sources, names=served, journal_octets=octets)
        return push

    def _winners(self, txn: ReadTransaction, names: Iterable[str], sources: Sequence[SourceState]) -> dict[str, Winner]:
        found = ((name, winner_of(self._store, txn, name, sources)) for name in names)
        return {name: winner for name, winner in found if winner is not None}

    def _rebuild(self, batch: Batch, sources: Sequence[SourceState], at_hand: Mapping[int, Mapping[str, bytes]]) -> int:
        """Compile everything anew; give how many names are served."""
        served = all_served(self._store, batch.txn, sources, at_hand)
        rebuild(batch, self._rules, served)
        return sum(len(each.bodies) for each in served)

    def _configure(self, names: tuple[str, ...]) -> None:
        """Bring the store to the configured sources and rules; one commit, or none when nothing differs."""
        state = self._state
        known = {each.name: each for each in state.sources}
        rules = self._rules.digest().hex()
        if state.rules == rules and tuple(known) == names:
            return
        next_number = state.next_number
        sources = []
        for name in names:
            if name in known:
                sources.append(known[name])
            else:
                sources.append(SourceState(name, next_number))
                next_number += 1
        gone = [each for each in state.sources if each.name not in names]
        kept = [each.name for each in sources if each.name in known]
        with self._batch() as batch:
            octets = state.journal_octets
            for each in gone:
                octets = self._forget(batch, each, octets)
            served = state.names
            if gone or state.rules != rules or kept != [each.name for each in state.sources]:
                served = self._rebuild(batch, sources, {})
            delivered = read_delivered(self._store, batch.txn)
            if not delivered <= set(names):
                put_delivered(batch, delivered & set(names))
            self._finish(
                batch, tuple(sources), names=served, journal_octets=octets, rules=rules, next_number=next_number
            )

    def _forget(self, batch: Batch, source: SourceState, octets: int) -> int:
        """Remove all that *source* said, and note it in the journal."""
        prefix = source_prefix(source.number)
        keys = [key for key, _ in entries_of(batch.txn, self._store.databases["records"], prefix)]
        for key in keys:
            batch.delete("records", key)
        for database in ("listeners", "held"):
            for key in [key for key, _ in entries_of(batch.txn, self._store.databases[database], prefix)]:
                batch.delete(database, key)
        log.warning("source %s is no longer configured: its %d names are removed", source.name, len(keys))
        removed = tuple(key[2:].decode() for key in keys)
        generation = self._state.base + batch.txn.id()
        row = JournalRow(generation, self._wall(), source.name, NO_LONGER_CONFIGURED, removed=removed)
        return append_row(batch, row, octets)

    def _load_guards(self, hold: float) -> dict[str, Guard]:
        """Give the guards as the last process left them; a hold never lasts longer than *hold* from now."""
        progress = read_progress(self._store.path)
        guards = {}
        with self._store.env.begin() as txn:
            for source in self._state.sources:
                heard = max(source.heard, progress.heard.get(source.name, 0.0))
                held = read_held(self._store, txn, source_prefix(source.number))
                until = {name: min(end, heard + hold) for name, end in held.items()}
                guards[source.name] = Guard(hold, heard, None, until)
        return guards

    @contextmanager
    def _batch(self) -> Iterator[Batch]:
        """Open the write transaction; it is committed when the block ends well, else nothing has happened."""
        self._open_again()
        store, state = self._store, self._state
        try:
            with translated(store.path):
                store.env.reader_check()
                with store.env.begin(write=True) as txn:
                    yield Batch(store, txn)
        except BaseException as error:
            self._state = state
            if isinstance(error.__cause__, lmdb.PanicError):
                self._reopen()
            raise
        self._note_progress()

    def _finish(self, batch: Batch, sources: Iterable[SourceState], **changes: Any) -> None:
        """End the transaction's work: the state and the digest, as they are from this commit on."""
        now = self._clock()
        timed = (
            each._replace(heard=self._guards[each.name].heard_at(now)) if each.name in self._guards else each
            for each in sources
        )
        self._state = replace(self._state, commit=batch.txn.id(), sources=tuple(timed), **changes)
        batch.finish(self._state)

    def _reopen(self) -> None:
        """Open the store again: after a failed write of its meta page LMDB refuses all else."""
        log.warning("%s: the disk failed while a commit was written; the store is opened again", self._store.path)
        self._close_for_now()
        self._open_again()
        with self._store.env.begin() as txn:
            self._state = self._store.state(txn)

    def _close_for_now(self) -> None:
        self._store.env.close()
        self._closed = True

    def _open_again(self) -> None:
        """Open the store if it was closed for now. Raises StoreError; it is tried again at its next use."""
        if self._closed:
            self._store = open_store(self._store.path, map_size=self._map_size)
            self._closed = False

    def _note_progress(self) -> None:
        now = self._noted = self._clock()
        heard = {source: guard.heard_at(now) for source, guard in self._guards.items() if guard.until}
        try:
            write_progress(self._store.path, Progress(self.generation, heard))
        except OSError as error:
            log.warning("%s: how far the store has come cannot be noted beside it (%s)", self._store.path, error)
