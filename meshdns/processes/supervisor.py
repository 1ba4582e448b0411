"""The process that the operator starts: binds, forks, watches, starts again, drains; nothing else.

It has no thread, no gRPC and no open store, so that forking is safe, and it keeps every socket open, so that what
arrives while a responder is reborn waits in the kernel. It waits for nothing but its own signals and ticks.
"""

import gc
import logging
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from importlib import import_module

from meshdns import __version__
from meshdns import log as logs
from meshdns.config import Config
from meshdns.errors import ConfigError, StoreError
from meshdns.processes.child import Child, execute, fork
from meshdns.processes.closing import SETTLE, seal
from meshdns.processes.crew import Crew
from meshdns.processes.handover import Handover, hand, hand_children
from meshdns.processes.lifeline import Lifeline
from meshdns.processes.lock import DirectoryLock
from meshdns.processes.parts import Parts
from meshdns.processes.restarts import Deaths
from meshdns.processes.signals import Signals
from meshdns.processes.status_file import COUNTS, Number, StatusWriter, directory
from meshdns.processes.succession import Succession
from meshdns.processes.upgrade import Trial, give_way
from meshdns.transport.inherited import Given
from meshdns.transport.sockets import Bound

log = logging.getLogger(__name__)

TICK = 0.5
"""Seconds between two looks at the children."""
EAGER_TICK = 0.02
"""Seconds between two looks while something is awaited: the first readiness, a successor, an end."""

SAME_SIGNAL = 0.1
"""Seconds. timeout(1) and some shells send one SIGTERM twice; only a later one means "at once"."""

SET_ASIDE_AFTER = 600.0
"""Seconds. When children die of a store again so soon after it was found sound, it is set aside all the same."""

FORWARDING_SPACE = 64 << 10
"""Octets for what a responder tells of upstreams."""


class Phase(Enum):
    """RUNNING → DRAINING (serves as before, readiness false) → SEALED (nothing new arrives) → CLOSING (no restart)."""

    RUNNING = auto()
    DRAINING = auto()
    SEALED = auto()
    CLOSING = auto()


@dataclass(frozen=True, slots=True)
class Former:
    """What the image before this one left: the document, and the children and unused sockets in it."""

    left: Handover
    children: Sequence[Child]
    unused: Sequence[Given]


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
        self._found_sound: float | None = None
        self._handler = logs.setup(config.log_level)
        self._announced = False
        self._trial: Trial | None = None
        self._succession: Succession | None = None
        self._ready = False
        self._told: dict[str, object] = {}
        folder = directory(config.data_dir)
        self._status = StatusWriter(folder / "supervisor", space=16 << 10, shown=False)
        if self._status.hidden:
            log.warning("status cannot be shown: %s", self._status.hidden)
        responders = [
            (f"responder-{index}", partial(self._fork_responder, index)) for index in range(config.responders)
        ]
        self._crew = Crew(responders, self._execute_sync, counts=self._status.row, folder=folder)

    def run(self, former: Former | None = None) -> int:
        """Serve until told to end, from the beginning or from where *former* stopped; give the exit code."""
        gc.freeze()  # so that no collection in a child touches, and so copies, the pages that it shares
        if former is None:
            self._status.show()
            self._crew.start()
        else:
            self._succeed(former)
        while self._phase is not Phase.CLOSING or self._crew.children:
            for number in self._signals.wait(self._patience()):
                self._heed(signal.Signals(number))
            self._look(time.monotonic())
        return 0

    def _succeed(self, former: Former) -> None:
        self._announced = self._ready = former.left.announced
        for place, count in enumerate(former.left.counts):
            self._status.row[place] = count
        self._succession = Succession(self._crew, self._bound, former.unused)
        self._crew.adopt(former.children, former.left.restarts)
        self._tell(time.monotonic())  # before the file is seen: the instance was ready all the time
        self._status.show()
        self._crew.start()

    def _patience(self) -> float:
        now = time.monotonic()
        starting = self._phase is Phase.RUNNING and not self._announced and not self._ready
        sealing = self._succession is not None and self._succession.is_sealing
        eager = starting or sealing or self._crew.replacing or self._phase is Phase.CLOSING
        moments = [now + (EAGER_TICK if eager else TICK)]
        if (due := self._crew.next_due) is not None:
            moments.append(due)
        if self._phase in (Phase.DRAINING, Phase.SEALED):
            moments.append(self._until)
        return min(moments) - now

    def _look(self, now: float) -> None:
        deaths = self._crew.look(now)
        if deaths is not None:
            self._suspect_store(deaths)
        self._tell(now)
        if self._phase is Phase.RUNNING:
            self._look_at_upgrade(now)
        if self._phase is Phase.DRAINING and now >= self._until:
            seal(self._bound)
            if self._succession is not None:
                self._succession.seal()
            self._phase, self._until = Phase.SEALED, now + SETTLE
        elif self._phase is Phase.SEALED and now >= self._until:
            self._phase = Phase.CLOSING
            self._bound.close()
            if self._succession is not None:
                self._succession.close()
            self._crew.finish()

    def _look_at_upgrade(self, now: float) -> None:
        if self._succession is not None:
            self._succession.look(now)
            if self._succession.is_over:
                self._succession = None
                log.info("upgrade: done, version %s", __version__)
        if self._trial is None or (self._succession is not None and self._succession.is_sealing):
            return
        config = self._trial.outcome(now)
        if config is None:
            return
        self._trial = None
        if config:
            log.info("upgrade: the next image of this process is executed")
            give_way(self._handover().model_copy(update={"config": config}), self._signals)

    def _handover(self) -> Handover:
        return Handover(
            data_dir=str(self._config.data_dir),
            lock=self._lock.descriptor,
            sockets=hand(self._bound, () if self._succession is None else self._succession.unused),
            children=hand_children(self._crew.children),
            counts=[self._status.row[place] for place in range(COUNTS)],
            restarts=self._crew.restarts,
            announced=self._announced,
        )

    def _fork_responder(self, index: int) -> Child:
        name, config = f"responder-{index}", self._config
        if config.upstreams:
            import_module("meshdns.processes.forwarding")  # now, so that responders share it
        space = FORWARDING_SPACE if config.upstreams else 0
        status = StatusWriter(directory(config.data_dir) / name, space=space, own=False, shown=False)

        def body(lifeline: Lifeline) -> int:
            lifeline.follow()
            for sibling in self._crew.children:
                sibling.release()
            self._status.close()
            self._signals.release()
            for number, row in enumerate(self._bound.rows):
                for endpoint in row if number != index else ():
                    endpoint.udp.close()
                    endpoint.tcp.close()
            if self._succession is not None:
                self._succession.close()
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

    def _suspect_store(self, deaths: Deaths) -> None:
        """Stop all, check the store, start again; queries wait in the kernel meanwhile.

        A store that was found sound a while ago is set aside when responders die of it again. When only ``sync``
        does, the fault may be in gRPC, and DNS is served on from what the store has.
        """
        again = self._found_sound is not None and time.monotonic() - self._found_sound < SET_ASIDE_AFTER
        if again and not deaths.of_responders:
            log.error("sync keeps ending like that though the store is sound; the last tables are served on")
            return
        self._cancel_trial()
        log.error("several processes ended as they do on a damaged store: all are stopped and the store is checked")
        self._crew.kill_and_wait()
        data_dir = self._config.data_dir
        try:
            if again and deaths.by_signal:
                log.error("the store is set aside although it looked sound: %s", self._parts.set_aside(data_dir))
            text, damaged = self._parts.check(data_dir)
            tell_store(text, damaged=damaged)
            self._found_sound = None if damaged else time.monotonic()
        except StoreError as fault:
            log.error("%s", fault)
        self._crew.start_anew()

    def _heed(self, number: signal.Signals) -> None:
        now = time.monotonic()
        if number in (signal.SIGTERM, signal.SIGINT):
            self._cancel_trial()
            if self._phase is Phase.RUNNING:
                log.info("%s: serving on for %g s, then ending", number.name, self._config.drain)
                self._phase, self._ending_since, self._until = Phase.DRAINING, now, now + self._config.drain
            elif now - self._ending_since > SAME_SIGNAL:
                log.warning("%s again: ending at once", number.name)
                self._phase = Phase.CLOSING
                self._crew.kill()
        elif number == signal.SIGHUP and self._phase is Phase.RUNNING:
            self._configure_anew()
        elif number == signal.SIGUSR2 and self._phase is Phase.RUNNING:
            self._upgrade(now)
        elif number in (signal.SIGHUP, signal.SIGUSR2):
            log.warning("%s comes too late: this instance is ending", number.name)

    def _upgrade(self, now: float) -> None:
        """Try the image that is to come; if that goes well, a later look executes it."""
        self._cancel_trial()  # what was tried may not be what is there by now
        try:
            self._trial = Trial(self._handover(), now)
            log.info("SIGUSR2: an upgrade is tried")
        except OSError as fault:
            log.error("SIGUSR2: an upgrade cannot be tried: %s; the running version stays", fault)

    def _cancel_trial(self) -> None:
        if self._trial is not None:
            log.info("upgrade: the trial is broken off")
            self._trial.cancel()
            self._trial = None

    def _configure_anew(self) -> None:
        try:
            config = self._reload()
        except ConfigError as fault:
            for each in fault.faults:
                log.error("configuration %s: %s", fault.path, each, extra=logs.EVERY)
            log.error("SIGHUP: the running configuration stays")
            return
        if fixed := self._config.restart_needed(config):
            log.warning(
                "SIGHUP: %s cannot change while running; an upgrade (SIGUSR2) changes listen and responders, "
                "a restart all",
                ", ".join(fixed),
            )
            config = config.model_copy(update={key: getattr(self._config, key) for key in fixed})
        log.info("SIGHUP: the configuration is applied")
        self._config = config
        self._handler = logs.setup(config.log_level)
        self._crew.renew()

    def _tell(self, now: float) -> None:
        """Bring the status up to date, and say ``ready`` the first time."""
        rows = self._crew.answering(now)
        ready = self._phase is Phase.RUNNING and bool(rows) and all(row[Number.DELIVERED] for row in rows)
        if ready != self._ready and self._announced and self._phase is Phase.RUNNING:
            log.log(logging.INFO if ready else logging.WARNING, "ready" if ready else "not ready")
        self._ready = ready
        document: dict[str, object] = {
            "version": __version__,
            "listen": list(self._bound.addresses),
            "ready": ready,
            "draining": self._phase is not Phase.RUNNING,
            "restarts": self._crew.restarts,
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


def tell_store(text: str, *, damaged: bool) -> None:
    """Log what the check of the store found."""
    log.log(logging.WARNING if damaged else logging.INFO, "%s", text)
