"""The process that the operator starts: binds, forks, watches, starts again, drains; nothing else.

It has no thread, no gRPC and no open store, so that forking is safe, and it keeps every socket open, so that what
arrives while a responder is reborn waits in the kernel. It waits for nothing but its own signals and ticks.
"""

import gc
import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

from meshdns import __version__
from meshdns import log as logs
from meshdns.config import Config
from meshdns.errors import ConfigError, StoreError
from meshdns.processes import responder
from meshdns.processes import status as statuses
from meshdns.processes.child import DEAF_TO, Child, execute, fork
from meshdns.processes.closing import SETTLE, seal
from meshdns.processes.lifeline import Lifeline
from meshdns.processes.lock import DirectoryError, DirectoryLock, InUseError
from meshdns.processes.restarts import Streak, Suspicion, describe
from meshdns.processes.signals import Signals
from meshdns.processes.status_file import COUNTS, Number, StatusError, StatusWriter, read_file
from meshdns.store import integrity
from meshdns.transport.sockets import BindError, Bound, Endpoint, bind

log = logging.getLogger(__name__)

TICK = 0.5
"""Seconds between two looks at the children."""
EAGER_TICK = 0.02
"""Seconds between two looks while something is awaited: the first readiness, a successor, an end."""

HUNG_RESPONDER = 5.0
HUNG_SYNC = 120.0
"""Seconds without a heartbeat after which a child is killed. ``sync`` decodes and commits in one piece, and nothing
that clients see waits for it; a responder is never busy for long."""

LATE = 1.5
"""Seconds. A tick that comes so late means that the machine or this process stood still, and the children with it:
their heartbeats are then old for no fault of theirs."""

ANSWERS = 2.5
"""Seconds. A responder whose heartbeat is older does not count as answering."""

FINISH_TIME = 2.0
"""Seconds that a child has for what it has begun; then it is killed."""

SAME_SIGNAL = 0.1
"""Seconds. timeout(1) and some shells send one SIGTERM twice; only a later one means "at once"."""

SET_ASIDE_AFTER = 600.0
"""Seconds. When children die of a store again so soon after it was found sound, it is set aside all the same."""

CHECK_TIME = 120.0
"""Seconds for the check of the store."""


class Phase(Enum):
    """RUNNING → DRAINING (serves as before, readiness false) → SEALED (nothing new arrives) → CLOSING (no restart)."""

    RUNNING = auto()
    DRAINING = auto()
    SEALED = auto()
    CLOSING = auto()


@dataclass(slots=True)
class Slot:
    """A child that there should always be. The last of ``children`` is the wanted one, others are on their way out."""

    name: str
    start: Callable[[], Child]
    children: list[Child] = field(default_factory=list)
    due: float | None = None
    streak: Streak = field(default_factory=Streak)
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Parts:
    """What the supervisor starts, so that its life can be tried without the rest of the house.

    respond: (configuration, its endpoints, status) → exit code, in a forked child. sync: a module to execute.
    check: data_dir → one line about the store, and whether that is worth a warning; StoreError when it must not run.
    set_aside: data_dir → where the store went.
    """

    respond: Callable[[Config, Sequence[Endpoint], StatusWriter], int]
    sync: str
    check: Callable[[Path], tuple[str, bool]]
    set_aside: Callable[[Path], object]


class Supervisor:
    """The life of one instance, from the first fork to the exit code."""

    def __init__(
        self,
        config: Config,
        bound: Bound,
        lock: DirectoryLock,
        signals: Signals,
        *,
        reload: Callable[[], Config],
        parts: Parts,
    ) -> None:
        self._config = config
        self._bound = bound
        self._lock = lock
        self._signals = signals
        self._reload = reload
        self._parts = parts
        self._phase = Phase.RUNNING
        self._until = 0.0
        self._ending_since = 0.0
        self._looked = self._attentive = time.monotonic()
        self._suspicion = Suspicion()
        self._found_sound: float | None = None
        self._handler = logs.setup(config.log_level)
        self._announcement: bytes | None = None
        self._announced = False
        self._ready = False
        self._told: dict[str, object] = {}
        self._status = StatusWriter(statuses.directory(config.data_dir) / "supervisor", space=16 << 10)
        if self._status.hidden:
            log.warning("status cannot be shown: %s", self._status.hidden)
        self._slots = [
            Slot(f"responder-{index}", lambda index=index: self._fork_responder(index))  # type: ignore[misc]
            for index in range(config.responders)
        ]
        self._sync = Slot("sync", self._execute_sync)

    def run(self) -> int:
        """Serve until told to end; give the exit code."""
        gc.collect()
        gc.freeze()  # so that no collection in a child touches, and so copies, the pages that it shares
        for slot in self._all():
            self._start(slot)
        while self._phase is not Phase.CLOSING or any(slot.children for slot in self._all()):
            for number in self._signals.wait(self._patience()):
                self._heed(signal.Signals(number))
            self._look(time.monotonic())
        self._tell(time.monotonic())
        return 0

    def _all(self) -> Iterator[Slot]:
        yield from self._slots
        yield self._sync

    def _patience(self) -> float:
        now = time.monotonic()
        starting = self._phase is Phase.RUNNING and not self._announced and not self._ready
        replacing = any(len(slot.children) > 1 for slot in self._slots)
        eager = starting or replacing or self._phase is Phase.CLOSING
        moments = [now + (EAGER_TICK if eager else TICK)]
        moments += [slot.due for slot in self._all() if slot.due is not None]
        if self._phase in (Phase.DRAINING, Phase.SEALED):
            moments.append(self._until)
        return min(moments) - now

    def _look(self, now: float) -> None:
        if now - self._looked > LATE:
            log.warning("this machine or process stood still for %.1f s", now - self._looked)
            self._attentive = now
        self._looked = now
        if self._reap(now):
            self._check_again()
            now = self._looked = self._attentive = time.monotonic()
        for slot in self._all():
            if slot.due is not None and now >= slot.due and self._phase is not Phase.CLOSING:
                self._start(slot)
        self._watch(now)
        for slot in self._slots:
            if len(slot.children) > 1 and self._serves(slot.children[-1], now):
                for former in slot.children[:-1]:
                    former.finish()
        self._tell(now)
        if self._phase is Phase.DRAINING and now >= self._until:
            seal(self._bound)
            self._phase, self._until = Phase.SEALED, now + SETTLE
        elif self._phase is Phase.SEALED and now >= self._until:
            self._close()

    # ---- children

    def _start(self, slot: Slot) -> None:
        slot.due = None
        try:
            slot.children.append(slot.start())
        except OSError as fault:  # no process, no memory, no descriptor to be had just now
            delay = slot.streak.died(0.0) or 1.0
            slot.due = time.monotonic() + delay
            log.error("%s could not be started: %s; tried again in %.1f s", slot.name, fault, delay)

    def _fork_responder(self, index: int) -> Child:
        name = f"responder-{index}"
        config = self._config
        status = StatusWriter(statuses.directory(config.data_dir) / name, space=0, own=False)

        def body(lifeline: Lifeline) -> int:
            lifeline.follow()
            for sibling in (child for slot in self._all() for child in slot.children):
                sibling.release()
            self._status.close()
            self._signals.release()
            for number, row in enumerate(self._bound.rows):
                for endpoint in row if number != index else ():
                    endpoint.udp.close()
                    endpoint.tcp.close()
            logs.setup(config.log_level)
            status.adopt()
            return self._parts.respond(config, self._bound.rows[index], status)

        try:
            return fork(name, body, status=status)
        except OSError:
            status.close()
            raise

    def _execute_sync(self) -> Child:
        handed = {"config": self._config.model_dump_json().encode()}
        return execute("sync", self._parts.sync, handed, keep=(self._lock.descriptor,))

    def _reap(self, now: float) -> bool:
        """Take note of children that ended; tell whether the store must be checked."""
        suspicious = False
        for slot in self._all():
            for child in slot.children[:]:
                code = child.ended()
                if code is None:
                    continue
                wanted = child is slot.children[-1]
                slot.children.remove(child)
                self._retire(child)
                if child.told is None and self._phase is not Phase.CLOSING:
                    suspicious = self._suspicion.died(code, now) or suspicious
                    delay = slot.streak.died(now - child.born)
                    slot.restarts += 1
                    again = f"started again in {delay:.1f} s" if delay else "started again"
                    log.warning("%s (process %d) ended: %s; %s", slot.name, child.pid, describe(code), again)
                    if wanted:
                        slot.due = now + delay
                elif wanted and self._phase is not Phase.CLOSING:
                    slot.due = now
        return suspicious

    def _retire(self, child: Child) -> None:
        """Keep the counts of a child that ended, so that the instance's only grow."""
        if child.status is not None:
            for place in range(COUNTS):
                self._status.row[place] += child.status.row[place]
        child.release()

    def _watch(self, now: float) -> None:
        for slot in self._all():
            for child in slot.children:
                if child.killed:
                    continue
                silent = now - max(self._heartbeat(child), child.born, self._attentive)
                if child.told is not None and now - child.told > FINISH_TIME:
                    log.warning("%s (process %d) did not finish in %.0f s: killed", slot.name, child.pid, FINISH_TIME)
                elif silent > (HUNG_RESPONDER if child.status is not None else HUNG_SYNC):
                    log.error("%s (process %d) has not moved for %.1f s: killed", slot.name, child.pid, silent)
                else:
                    continue
                child.kill()

    def _heartbeat(self, child: Child) -> float:
        if child.status is not None:
            return child.status.heartbeat
        if time.monotonic() - child.born < HUNG_SYNC:
            return child.born
        try:
            written = read_file(statuses.directory(self._config.data_dir) / child.name)
        except StatusError:  # its disk is full: nothing is known, so nothing is held against it
            return time.monotonic()
        return time.monotonic() - written.age if written.pid == child.pid else time.monotonic()

    def _serves(self, child: Child, now: float) -> bool:
        status = child.status
        return status is not None and bool(status.row[Number.SERVING]) and now - status.heartbeat < ANSWERS

    def _check_again(self) -> None:
        log.error("several processes ended as they do on a damaged store: all are stopped and the store is checked")
        signals_only = self._suspicion.clear()
        children = [(slot, child) for slot in self._all() for child in slot.children]
        for _, child in children:
            child.kill()
        for slot, child in children:
            while child.ended() is None:
                time.sleep(0.005)
            slot.children.remove(child)
            self._retire(child)
        data_dir, now = self._config.data_dir, time.monotonic()
        try:
            if signals_only and self._found_sound is not None and now - self._found_sound < SET_ASIDE_AFTER:
                log.error("the store is set aside all the same: %s", self._parts.set_aside(data_dir))
            text, damaged = self._parts.check(data_dir)
            _tell_store(text, damaged=damaged)
            self._found_sound = None if damaged else time.monotonic()
        except StoreError as fault:
            log.error("%s", fault)
        for slot in self._all():
            slot.streak = Streak()
            slot.due = time.monotonic()

    # ---- what the operator wants

    def _heed(self, number: signal.Signals) -> None:
        now = time.monotonic()
        if number in (signal.SIGTERM, signal.SIGINT):
            if self._phase is Phase.RUNNING:
                log.info("%s: serving on for %g s, then ending", number.name, self._config.drain)
                self._phase, self._ending_since, self._until = Phase.DRAINING, now, now + self._config.drain
            elif now - self._ending_since > SAME_SIGNAL:
                log.warning("%s again: ending at once", number.name)
                self._end_at_once()
        elif number == signal.SIGHUP and self._phase is Phase.RUNNING:
            self._configure_anew()

    def _configure_anew(self) -> None:
        try:
            config = self._reload()
        except ConfigError as fault:
            for each in fault.faults:
                log.error("configuration %s: %s", fault.path, each, extra=logs.EVERY)
            log.error("SIGHUP: the running configuration stays")
            return
        if fixed := self._config.restart_needed(config):
            log.warning("SIGHUP: %s cannot change while running, a restart is needed for that", ", ".join(fixed))
            config = config.model_copy(update={key: getattr(self._config, key) for key in fixed})
        log.info("SIGHUP: the configuration is applied")
        self._config = config
        self._handler = logs.setup(config.log_level)
        for slot in self._slots:
            slot.streak = Streak()
            self._start(slot)
        self._sync.streak = Streak()
        if self._sync.children:
            self._sync.children[-1].finish()
        else:
            self._sync.due = time.monotonic()

    def _close(self) -> None:
        """End the drain: the sockets close, what is in flight is still answered."""
        self._phase = Phase.CLOSING
        self._bound.close()
        for slot in self._all():
            slot.due = None
            for child in slot.children:
                child.finish()

    def _end_at_once(self) -> None:
        self._phase = Phase.CLOSING
        for slot in self._all():
            slot.due = None
            for child in slot.children:
                child.kill()

    # ---- what the operator sees

    def _tell(self, now: float) -> None:
        serving = [
            next((child for child in reversed(slot.children) if self._serves(child, now)), None) for slot in self._slots
        ]
        rows = [child.status.row for child in serving if child is not None and child.status is not None]
        answers = len(rows) == len(serving) and all(row[Number.DELIVERED] for row in rows)
        ready = self._phase is Phase.RUNNING and answers
        if ready != self._ready and self._announced and self._phase is Phase.RUNNING:
            log.log(logging.INFO if ready else logging.WARNING, "ready" if ready else "not ready")
        self._ready = ready
        document: dict[str, object] = {
            "version": __version__,
            "listen": list(self._bound.addresses),
            "ready": ready,
            "draining": self._phase is not Phase.RUNNING,
            "restarts": {slot.name: slot.restarts for slot in self._all()},
        }
        if document != self._told:
            self._status.write(document)
            self._told = document
        self._status.beat()
        if ready and not self._announced:
            names = max(row[Number.NAMES] for row in rows)
            listen = ",".join(self._bound.addresses)
            self._announced = self._handler.outlet.write(f"ready listen={listen} names={names}\n".encode())
        self._handler.tell_left_out()


def _check(data_dir: Path) -> tuple[str, bool]:
    """Check the store in a child that no signal reaches which is meant for all of the instance: it would look hurt."""
    signal.pthread_sigmask(signal.SIG_BLOCK, DEAF_TO)
    try:
        outcome = integrity.check_in_child(data_dir, timeout=CHECK_TIME)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, DEAF_TO)
    return str(outcome), outcome.condition is integrity.Condition.DAMAGED


PARTS = Parts(respond=responder.run, sync="meshdns.processes.sync", check=_check, set_aside=integrity.set_aside)


def _tell_store(text: str, *, damaged: bool) -> None:
    log.log(logging.WARNING if damaged else logging.INFO, "%s", text)


def serve(config: Config, *, reload: Callable[[], Config], parts: Parts = PARTS) -> int:
    """Run an instance until it is told to end; give the exit code of ``meshdns serve``.

    reload: reads the configuration again (SIGHUP); raises ConfigError. Exit codes: 0 ended as told, 2 the data
    directory or the store cannot be used, 3 an address or the data directory is in use.
    """
    logs.setup(config.log_level)
    signals = Signals()
    try:
        lock = DirectoryLock(config.data_dir)
        for former in statuses.directory(config.data_dir).glob("*"):
            former.unlink(missing_ok=True)
        bound = bind(config.listen, config.responders)
        text, damaged = parts.check(config.data_dir)
        _tell_store(text, damaged=damaged)
        return Supervisor(config, bound, lock, signals, reload=reload, parts=parts).run()
    except (InUseError, BindError) as fault:
        log.error("%s", fault)
        return 3
    except (DirectoryError, StoreError) as fault:
        log.error("%s", fault)
        return 2
    finally:
        signals.close()
