"""What the supervisor starts, as values, so that its life can be tried without the rest of the house."""

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from meshdns.config import Config
from meshdns.processes import responder
from meshdns.processes.child import DEAF_TO
from meshdns.processes.status_file import StatusWriter
from meshdns.store import integrity
from meshdns.store.reader import Reader
from meshdns.store.schema import store_path
from meshdns.transport.sockets import Endpoint

CHECK_TIME = 120.0
"""Seconds for the check of the store."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of an instance.

    respond: (configuration, its endpoints, status) → exit code, in a forked child. sync: a module to execute.
    check: data_dir → one line about the store, and whether that is worth a warning; StoreError when it must not run.
    look: data_dir → nothing; StoreError when the store in use cannot be read. set_aside: data_dir → where the store
    went.
    """

    respond: Callable[[Config, Sequence[Endpoint], StatusWriter], int]
    sync: str
    check: Callable[[Path], tuple[str, bool]]
    look: Callable[[Path], None]
    set_aside: Callable[[Path], object]


def _check(data_dir: Path) -> tuple[str, bool]:
    """Check the store in a child that no signal reaches which is meant for all of the instance: it would look hurt."""
    signal.pthread_sigmask(signal.SIG_BLOCK, DEAF_TO)
    try:
        outcome = integrity.check_in_child(data_dir, timeout=CHECK_TIME)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, DEAF_TO)
    return str(outcome), outcome.condition is integrity.Condition.DAMAGED


def _look(data_dir: Path) -> None:
    Reader(store_path(data_dir)).close()


PARTS = Parts(
    respond=responder.run, sync="meshdns.processes.sync", check=_check, look=_look, set_aside=integrity.set_aside
)
