"""The children that there should always be: started, started again, watched, replaced, ended.

Decides nothing about the service as a whole (``supervisor`` does); the time is an argument.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, MutableSequence, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from meshdns.processes.child import Child
from meshdns.processes.restarts import Deaths, Streak, Suspicion, describe
from meshdns.processes.status_file import COUNTS, Number, StatusError, read_file

log = logging.getLogger(__name__)

HUNG_RESPONDER = 5.0
HUNG_SYNC = 120.0
"""Seconds without a heartbeat after which a child is killed. ``sync`` decodes and commits in one piece, and nothing
that clients see waits for it; a responder is never busy for long."""

LATE = 1.5
"""Seconds. A look that comes so long after the last means that the machine or this process stood still, and the
children with it: their heartbeats are then old for no fault of theirs."""

ANSWERS = 2.5
"""Seconds. A responder whose heartbeat is older does not count as answering."""

FINISH_TIME = 2.0
"""Seconds that a child has for what it has begun; then it is killed."""


@dataclass(slots=True)
class Slot:
    """A child that there should always be. The last of ``children`` is the wanted one, others are on their way out.

    due: when the next one is to be started (CLOCK_MONOTONIC). restarts: deaths that nobody asked for.
    """

    name: str
    begin: Callable[[], Child]
    children: list[Child] = field(default_factory=list)
    due: float | None = None
    streak: Streak = field(default_factory=Streak)
    restarts: int = 0


class Crew:
    """Some responders and one ``sync``.

    responders, sync: name and what starts it. counts: where the counts of responders that ended, or whose status file
    was overtaken, are kept. folder: where ``sync`` keeps its status file.
    """

    def __init__(
        self,
        responders: Sequence[tuple[str, Callable[[], Child]]],
        sync: Callable[[], Child],
        *,
        counts: MutableSequence[int],
        folder: Path,
    ) -> None:
        self._responders = [Slot(name, begin) for name, begin in responders]
        self._sync = Slot("sync", sync)
        self._leaving: list[Child] = []
        self._held = False
        self._counts = counts
        self._folder = folder
        self._suspicion = Suspicion()
        self._looked = self._attentive = time.monotonic()

    def _slots(self) -> Iterator[Slot]:
        yield from self._responders
        yield self._sync

    @property
    def children(self) -> list[Child]:
        """Every child that was not reaped yet."""
        return [*(child for slot in self._slots() for child in slot.children), *self._leaving]

    @property
    def restarts(self) -> dict[str, int]:
        """How often each was started again."""
        return {slot.name: slot.restarts for slot in self._slots()}

    @property
    def replacing(self) -> bool:
        """Whether a successor is on its way."""
        return any(len(slot.children) > 1 for slot in self._responders)

    @property
    def next_due(self) -> float | None:
        """When the next start is due."""
        return min((slot.due for slot in self._slots() if slot.due is not None), default=None)

    @property
    def succeeded(self) -> bool:
        """Whether none is left of those that :meth:`adopt` took, ``sync`` included."""
        return not any(child.former for child in self.children)

    def start(self) -> None:
        """Start all; of those that were adopted ``sync`` is succeeded later, it writes alone."""
        for slot in self._slots():
            if slot is not self._sync or not slot.children:
                self._start(slot)

    def adopt(self, children: Sequence[Child], restarts: Mapping[str, int]) -> None:
        """Take over the *children* of the image before this one; :meth:`start` brings their successors.

        They serve on until :meth:`let_go`, and ``sync`` with them. Who never answered is told to finish at once.
        """
        slots = {slot.name: slot for slot in self._slots()}
        for child in children:
            if slot := slots.get(child.name):
                slot.children.append(child)
            else:
                self._leaving.append(child)
            if child.status is not None and not child.status.row[Number.SERVING]:
                child.finish()
        for slot in slots.values():
            slot.restarts = restarts.get(slot.name, 0)
        self._held = True

    def successors_answer(self, now: float) -> bool:
        """Tell whether the adopted responders can be let go: each has a successor that answers."""
        return all(
            slot.children and not slot.children[-1].former and _answers(slot.children[-1], now)
            for slot in self._responders
        )

    def let_go(self) -> None:
        """Tell those that were adopted to finish, now that they have successors."""
        self._held = False
        for child in self.children:
            if child.former:
                child.finish()

    def renew(self) -> None:
        """Have every child succeeded by a fresh one: a responder when that answers, ``sync`` by one after it."""
        for slot in self._responders:
            slot.streak = Streak()
            self._start(slot)
        self._sync.streak = Streak()
        if self._sync.children:
            self._sync.children[-1].finish()
        else:
            self._sync.due = time.monotonic()

    def look(self, now: float) -> Deaths | None:
        """Reap, start what is due, kill who hangs; give deaths for which the store must be suspected."""
        if now - self._looked > LATE:
            log.warning("this machine or process stood still for %.1f s", now - self._looked)
            self._attentive = now
        self._looked = now
        deaths = None
        for child in self._leaving[:]:
            if child.ended() is not None:
                self._leaving.remove(child)
                self._retire(child)
        for slot in self._slots():
            for child in slot.children[:]:
                code = child.ended()
                if code is not None:
                    deaths = self._take_leave(slot, child, code, now) or deaths
            if slot.due is not None and now >= slot.due:
                self._start(slot)
        self._watch(now)
        for child in self.children:
            if child.overtaken:
                self._credit(child)
        for slot in self._responders if not self._held else ():
            if len(slot.children) > 1 and _answers(slot.children[-1], now):
                for former in slot.children[:-1]:
                    former.finish()
        return deaths

    def answering(self, now: float) -> list[MutableSequence[int]]:
        """Give the row of numbers of each responder that answers, or nothing when one does not."""
        rows = []
        for slot in self._responders:
            child = next((child for child in reversed(slot.children) if _answers(child, now)), None)
            if child is None or child.status is None:
                return []
            rows.append(child.status.row)
        return rows

    def finish(self) -> None:
        """Tell all to finish; none is started again."""
        for child in self._dismissed():
            child.finish()

    def kill(self) -> None:
        """End all now; none is started again."""
        for child in self._dismissed():
            child.kill()

    def kill_and_wait(self) -> None:
        """End all now and wait until they are gone; ``start_anew`` brings others."""
        self.kill()
        for slot in self._slots():
            for child in slot.children:
                while child.ended() is None:
                    time.sleep(0.005)
                self._retire(child)
            slot.children.clear()
        for child in self._leaving:
            while child.ended() is None:
                time.sleep(0.005)
            self._retire(child)
        self._leaving.clear()

    def start_anew(self) -> None:
        """Start all at the next look, as if none had ever died."""
        for slot in self._slots():
            slot.streak = Streak()
            slot.due = time.monotonic()
        self._looked = self._attentive = time.monotonic()

    def _dismissed(self) -> list[Child]:
        """Give all children, expected to end."""
        for slot in self._slots():
            slot.due = None
        for child in self.children:
            child.wanted = False
        return self.children

    def _start(self, slot: Slot) -> None:
        slot.due = None
        try:
            begun = slot.begin()
        except OSError as fault:  # no process, no memory, no descriptor to be had just now
            delay = slot.streak.died(0.0) or 1.0
            slot.due = time.monotonic() + delay
            log.error("%s could not be started: %s; tried again in %.1f s", slot.name, fault, delay)
            return
        with self._moving():
            for former in slot.children:
                former.overtaken = True
                self._credit(former)
            if begun.status is not None:
                begun.status.show()
        slot.children.append(begun)

    def _take_leave(self, slot: Slot, child: Child, code: int, now: float) -> Deaths | None:
        """Have *child*, which ended, succeeded if it should be."""
        last = child is slot.children[-1]
        slot.children.remove(child)
        self._retire(child)
        if not child.wanted:
            return None
        if child.told is not None:
            if last:
                slot.due = now
            return None
        answered = any(_answers(other, now) for other in slot.children)
        delay = slot.streak.died(now - child.born)
        slot.restarts += 1
        again = f"started again in {delay:.1f} s" if delay else "started again"
        log.warning("%s (process %d) ended: %s; %s", slot.name, child.pid, describe(code), again)
        if last:
            slot.due = now + delay
        if answered:  # by the same store: it is not the store that this one died of
            return None
        return self._suspicion.died(code, now, responder=slot is not self._sync)

    def _retire(self, child: Child) -> None:
        """Keep the counts of a child that ended, so that the instance's only grow."""
        with self._moving():
            self._credit(child)
            if child.status is not None:
                for place in range(COUNTS):  # its file stays where it is until a successor's takes its place
                    child.status.row[place] = 0
        child.release()

    @contextmanager
    def _moving(self) -> Iterator[None]:
        """Have readers of the status wait while counts move from one file to another."""
        self._counts[Number.MOVES] += 1
        try:
            yield
        finally:
            self._counts[Number.MOVES] += 1

    def _credit(self, child: Child) -> None:
        """Add to the instance's counts what *child*, whose own are not read any more, has counted since the last."""
        if child.status is None:
            return
        for place, before in enumerate(child.credited):
            counted = child.status.row[place]
            if counted != before:
                self._counts[place] += counted - before
                child.credited[place] = counted

    def _watch(self, now: float) -> None:
        for child in self.children:
            if child.killed:
                continue
            silent = now - max(self._heartbeat(child, now), child.born, self._attentive)
            if child.told is not None and now - child.told > FINISH_TIME:
                log.warning("%s (process %d) did not finish in %.0f s: killed", child.name, child.pid, FINISH_TIME)
            elif silent > (HUNG_RESPONDER if child.status is not None else HUNG_SYNC):
                log.error("%s (process %d) has not moved for %.1f s: killed", child.name, child.pid, silent)
            else:
                continue
            child.kill()

    def _heartbeat(self, child: Child, now: float) -> float:
        if child.status is not None:
            return child.status.heartbeat
        if now - child.born < HUNG_SYNC:
            return now
        try:
            written = read_file(self._folder / child.name)
        except StatusError:  # its disk is full: nothing is known, so nothing is held against it
            return now
        return now - written.age if written.pid == child.pid else now


def _answers(child: Child, now: float) -> bool:
    status = child.status
    return status is not None and bool(status.row[Number.SERVING]) and now - status.heartbeat < ANSWERS
