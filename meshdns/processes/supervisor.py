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
from pathlib import Path

from meshdns import __version__
from meshdns import log as logs
from meshdns.config import Config
from meshdns.errors import ConfigError, StoreError
from meshdns.processes import responder
from meshdns.processes import status as statuses
from meshdns.processes.child import DEAF_TO, Child, execute, fork
from meshdns.processes.closing import SETTLE, seal
from meshdns.processes.crew import Crew
from meshdns.processes.lifeline import Lifeline
from meshdns.processes.lock import DirectoryError, DirectoryLock, InUseError
from meshdns.processes.restarts import Deaths
from meshdns.processes.signals import Signals
from meshdns.processes.status_file import Number, StatusWriter
from meshdns.store import integrity
from meshdns.transport.sockets import BindError, Bound, Endpoint, bind

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

CHECK_TIME = 120.0
"""Seconds for the check of the store."""


class Phase(Enum):
    """RUNNING → DRAINING (serves as before, readiness false) → SEALED (nothing new arrives) → CLOSING (no restart)."""

    RUNNING = auto()
    DRAINING = auto()
    SEALED = auto()
    CLOSING = auto()


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
        self._found_sound: float | None = None
        self._handler = logs.setup(config.log_level)
        self._announced = False
        self._ready = False
        self._told: dict[str, object] = {}
        folder = statuses.directory(config.data_dir)
        self._status = StatusWriter(folder / "supervisor", space=16 << 10)
        if self._status.hidden:
            log.warning("status cannot be shown: %s", self._status.hidden)
        responders = [
            (f"responder-{index}", partial(self._fork_responder, index)) for index in range(config.responders)
        ]
        self._crew = Crew(responders, self._execute_sync, counts=self._status.row, folder=folder)

    def run(self) -> int:
        """Serve until told to end; give the exit code."""
        gc.collect()
        gc.freeze()  # so that no collection in a child touches, and so copies, the pages that it shares
        self._crew.start()
        while self._phase is not Phase.CLOSING or self._crew.children:
            for number in self._signals.wait(self._patience()):
                self._heed(signal.Signals(number))
            self._look(time.monotonic())
        return 0

    def _patience(self) -> float:
        now = time.monotonic()
        starting = self._phase is Phase.RUNNING and not self._announced and not self._ready
        eager = starting or self._crew.replacing or self._phase is Phase.CLOSING
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
        if self._phase is Phase.DRAINING and now >= self._until:
            seal(self._bound)
            self._phase, self._until = Phase.SEALED, now + SETTLE
        elif self._phase is Phase.SEALED and now >= self._until:
            self._phase = Phase.CLOSING
            self._bound.close()
            self._crew.finish()

    def _fork_responder(self, index: int) -> Child:
        name, config = f"responder-{index}", self._config
        status = StatusWriter(
            statuses.directory(config.data_dir) / name, space=FORWARDING_SPACE if config.upstreams else 0, own=False
        )

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
        log.error("several processes ended as they do on a damaged store: all are stopped and the store is checked")
        self._crew.kill_and_wait()
        data_dir = self._config.data_dir
        try:
            if again and deaths.by_signal:
                log.error("the store is set aside although it looked sound: %s", self._parts.set_aside(data_dir))
            text, damaged = self._parts.check(data_dir)
            _tell_store(text, damaged=damaged)
            self._found_sound = None if damaged else time.monotonic()
        except StoreError as fault:
            log.error("%s", fault)
        self._crew.start_anew()

    def _heed(self, number: signal.Signals) -> None:
        now = time.monotonic()
        if number in (signal.SIGTERM, signal.SIGINT):
            if self._phase is Phase.RUNNING:
                log.info("%s: serving on for %g s, then ending", number.name, self._config.drain)
                self._phase, self._ending_since, self._until = Phase.DRAINING, now, now + self._config.drain
            elif now - self._ending_since > SAME_SIGNAL:
                log.warning("%s again: ending at once", number.name)
                self._phase = Phase.CLOSING
                self._crew.kill()
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
