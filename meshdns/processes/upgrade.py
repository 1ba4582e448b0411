"""An upgrade: another image of the supervisor takes the place of this one, in the same process.

First the image that is to come is tried, in a child that serves nobody; only one that could read its configuration,
the store and what it will be left is executed. No socket is closed on the way, and no child ends.
"""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from meshdns import log as logs
from meshdns.processes.child import BLOCKED
from meshdns.processes.handover import Handover, environment
from meshdns.processes.restarts import describe
from meshdns.processes.signals import Signals

log = logging.getLogger(__name__)

TRIAL_TIME = 60.0
"""Seconds after which a trial that has not ended counts as failed."""

LAST_LINES = 20
"""Lines of a failed trial that are logged: the last ones, where the fault stands."""


def command() -> list[str]:
    """Give what this process was started with, by the interpreter's own path; that may lead to another one by now."""
    return [sys.executable, *sys.orig_argv[1:]]


class Trial:
    """A run of the image that is to come. Raises OSError when it cannot be started."""

    def __init__(self, handover: Handover, now: float) -> None:
        self._until = now + TRIAL_TIME
        self._late = False
        self._told = os.memfd_create("config")
        self._said = os.memfd_create("said")
        left = handover.write()
        sockets = [each.descriptor for each in handover.sockets]
        signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)  # and so they stay in the trial, which ends by itself
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                [*command(), "--trial", str(self._told)],
                pass_fds=(left, self._told, *sockets),
                env=environment(os.environ, os.getpid(), left),
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=self._said,
            )
        except BaseException:
            self._close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED)
            os.close(left)

    def outcome(self, now: float) -> str | None:
        """Give None while it runs; then the configuration of the next image, as JSON; empty when it failed."""
        if now > self._until and not self._late:
            self._late = True
            self._process.kill()
        code = self._process.poll()
        if code is None:
            return None
        config = _content(self._told).decode()
        said = _content(self._said).decode(errors="replace").splitlines()
        self._close()
        if code == 0 and config:
            return config
        for line in said[-LAST_LINES:]:
            log.error("upgrade: %s", line, extra=logs.EVERY)
        why = f"no end after {TRIAL_TIME:.0f} s" if self._late else describe(code)
        log.error("upgrade: its trial failed (%s); the running version and configuration stay", why)
        return ""

    def cancel(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._close()

    def _close(self) -> None:
        os.close(self._told)
        os.close(self._said)


def _content(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def give_way(handover: Handover, signals: Signals) -> None:
    """Become the next image of this process; comes back only when that cannot be had, with the fault logged."""
    signals.hold_back()
    left = handover.write()
    kept: Sequence[int] = [left, *handover.descriptors()]
    for descriptor in kept:
        os.set_inheritable(descriptor, True)
    words = command()
    try:
        os.execve(words[0], words, environment(os.environ, os.getpid(), left))  # noqa: S606 - our own command line
    except OSError as fault:
        log.error("upgrade: %s cannot be executed: %s; the running version stays", words[0], fault.strerror)
    for descriptor in kept:
        os.set_inheritable(descriptor, False)
    os.close(left)
    signals.let_in()
