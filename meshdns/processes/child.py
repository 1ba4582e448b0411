"""A child of the supervisor, from birth to its end: forked (a responder) or executed afresh (``sync``)."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from meshdns.processes.lifeline import Lifeline
from meshdns.processes.status_file import COUNTS, StatusWriter

log = logging.getLogger(__name__)

FINISH = signal.SIGUSR1
"""Tells a child to finish what it has begun and to end. Not SIGTERM: service managers and terminals send that to
every process of a service, and then the children must serve on for as long as the supervisor drains."""

DEAF_TO = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)
"""What children ignore, because it is meant for the supervisor."""

BLOCKED = frozenset((*DEAF_TO, FINISH, signal.SIGCHLD))
"""Signals that wait while a child is being born."""


def listen_to_signals() -> None:
    """In a child: be deaf to what is meant for the supervisor; ``FINISH`` ends it until its loop handles that."""
    for number in DEAF_TO:
        signal.signal(number, signal.SIG_IGN)
    for number in (FINISH, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED)


@dataclass(slots=True)
class Child:
    """One living process.

    told: when it was told to finish (CLOCK_MONOTONIC). wanted: whether it, or a successor, should be there. former:
    born of an image of the supervisor that was succeeded since. overtaken: a successor's status file took the place of
    its own. credited: how much of its counts the instance's have by now.
    """

    name: str
    pid: int
    lifeline: Lifeline
    ended: Callable[[], int | None]
    status: StatusWriter | None = None
    born: float = field(default_factory=time.monotonic)
    told: float | None = None
    killed: bool = False
    wanted: bool = True
    former: bool = False
    overtaken: bool = False
    credited: list[int] = field(default_factory=lambda: [0] * COUNTS)

    def finish(self) -> None:
        """Tell it to finish; once is enough."""
        if self.told is None:
            self.told = time.monotonic()
            os.kill(self.pid, FINISH)

    def kill(self) -> None:
        """End it now; it is still to be reaped by ``ended``."""
        self.killed = True
        os.kill(self.pid, signal.SIGKILL)

    def release(self) -> None:
        """Close what the supervisor held for it; a later child does the same with its inherited copies."""
        self.lifeline.release()
        if self.status is not None:
            self.status.close()


def fork(name: str, body: Callable[[Lifeline], int], *, status: StatusWriter) -> Child:
    """Start *body* in a forked child; it ends with what *body* gives as exit code.

    body: closes what it does not need, ties itself to the lifeline that it is given, and never comes back here.
    """
    lifeline = Lifeline()
    # Between fork and the first lines of the child a signal would still run the supervisor's handlers.
    signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
    try:
        pid = os.fork()
    except OSError:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED)
        lifeline.keep()
        lifeline.release()
        raise
    if not pid:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            listen_to_signals()
            code = body(lifeline)
        except BaseException:  # whatever it is: told, and never further up into the supervisor's own frames
            log.exception("%s ended by a fault", name)
        finally:
            os._exit(code)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED)
    lifeline.keep()
    return Child(name, pid, lifeline, reaper(pid), status)


def reaper(pid: int) -> Callable[[], int | None]:
    """Give what reaps the child *pid* of this process: None while it lives, then its exit code, once."""

    def ended() -> int | None:
        reaped, state = os.waitpid(pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(state) if reaped else None

    return ended


def execute(name: str, module: str, handed: Mapping[str, bytes], *, keep: tuple[int, ...] = ()) -> Child:
    """Start *module* as a fresh interpreter: ``python -P -m module --lifeline FD --NAME FD …``.

    handed: name → octets that the child reads from an inherited memory file, so that no configuration lies about on
    disk. keep: further descriptors that it inherits. ``-P``: the working directory is the operator's, not code.
    It is born with the signals of ``BLOCKED`` blocked, and calls :func:`listen_to_signals` when it can take them.
    """
    lifeline = Lifeline()
    given = {"lifeline": lifeline.reader}
    process = None
    try:
        for key, octets in handed.items():
            given[key] = os.memfd_create(key)
            os.write(given[key], octets)
            os.lseek(given[key], 0, os.SEEK_SET)
        arguments = [text for key, descriptor in given.items() for text in (f"--{key}", str(descriptor))]
        signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-P", "-m", module, *arguments],
            pass_fds=(*given.values(), *keep),
            stdin=subprocess.DEVNULL,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED)
        for descriptor in given.values():
            os.close(descriptor)
        if process is None:
            lifeline.release()
    return Child(name, process.pid, lifeline, process.poll)
