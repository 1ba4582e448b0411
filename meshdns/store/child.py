"""Work in a child process that may die of it or never end, when what it reads cannot be trusted."""

import faulthandler
import gc
import json
import os
import resource
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from meshdns.errors import StoreError


@dataclass(frozen=True, slots=True)
class Told:
    """What became of a child: what it returned, or (failure) how it ended without returning."""

    value: object = None
    failure: str = ""


def run_in_child(work: Callable[[], object], timeout: float) -> Told:
    """Fork, do *work* in the child, and give what it returns, by way of JSON.

    timeout: seconds after which the child is killed. A StoreError is raised here as it was there. To be called from a
    process without other threads.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _work_and_exit(work, writing)
    os.close(writing)
    told = None
    try:
        told = _read_until_end(reading, time.monotonic() + timeout)
    finally:
        os.close(reading)
        if told is None:
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    if told is None:
        return Told(failure=f"reading it did not end within {timeout:g} s")
    if os.WIFSIGNALED(status):
        return Told(failure=f"reading it ended the check with {signal.Signals(os.WTERMSIG(status)).name}")
    try:
        value, refusal = json.loads(told)
    except ValueError:
        return Told(failure=f"the check ended with status {os.waitstatus_to_exitcode(status)}")
    if refusal is not None:
        raise StoreError(refusal)
    return Told(value)


def _read_until_end(descriptor: int, deadline: float) -> bytes | None:
    """Give all that the child writes, None when it has not ended by the *deadline* (monotonic seconds)."""
    told = b""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while True:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return None
        piece = os.read(descriptor, 65_536)
        if not piece:
            return told
        told += piece


def _work_and_exit(work: Callable[[], object], into: int) -> NoReturn:
    """Do *work*, write what it returns, and end the process without any of the parent's clean-up."""
    try:
        faulthandler.disable()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # LMDB's own last words; ours go through the pipe
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        gc.disable()
        try:
            told = [work(), None]
        except StoreError as error:
            told = [None, str(error)]
        os.write(into, json.dumps(told).encode())
        os._exit(0)
    finally:
        os._exit(1)
