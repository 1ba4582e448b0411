"""Children end with their supervisor, whatever they are doing."""

import os
import signal
import time
from collections.abc import Callable

import pytest

from meshdns.processes.lifeline import Lifeline, follow


def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def spin() -> None:
    while True:
        pass


@pytest.mark.parametrize("busy", [stop, spin, signal.pause])
def test_a_child_ends_when_the_other_end_is_gone(busy: Callable[[], object]) -> None:
    line = Lifeline()
    pid = os.fork()
    if not pid:
        line.follow()
        os.write(1, b"")
        busy()
        os._exit(1)
    line.keep()
    if busy is stop:
        os.waitid(os.P_PID, pid, os.WSTOPPED)
    else:
        time.sleep(0.05)  # either order of what follows must end it
    assert os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is None
    line.release()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def test_a_child_ends_when_the_other_end_was_gone_before() -> None:
    line = Lifeline()
    line.release()
    pid = os.fork()
    if not pid:
        follow(line.reader)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    line.keep()
