"""One line an event on stderr, which never waits: a full pipe costs lines (counted and told later), not service.

``2026-11-21T10:20:30.123Z warning meshdns.xds.client: source kuma: …``. Repeats of one message are limited, because
a control plane that flaps or a disk that is full would otherwise write the log full.
"""

import contextlib
import errno
import logging
import os
import select
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

MAX_LINE = 4096
"""Octets of one line with its end: a pipe takes so much in one piece or not at all (PIPE_BUF, pipe(7))."""

BURST = 10
"""Lines of one message template in one window."""

WINDOW = 10.0
"""Seconds; at its end the lines left out are summed up in one."""

MAX_TEMPLATES = 1_000
"""Templates remembered. There are fewer in the program; foreign loggers may pass text instead of a template."""

_OTHERS = ("info", __name__, "(of many kinds)")
"""The template that stands for all beyond ``MAX_TEMPLATES``."""

EVERY = {"every": True}
"""``log.error(…, extra=EVERY)``: a line that the limit must not leave out, such as one of many faults."""

LEVELS = ("debug", "info", "warning", "error")
"""What ``log_level`` may be."""

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {10: "\\n", 0x2028: "\\u2028"}
"""Text of others (a peer's refusal, a pushed name) must not forge a line or drive a terminal."""


class Outlet:
    """A file descriptor that is written to without ever waiting.

    A pipe or terminal is opened anew, because O_NONBLOCK on the descriptor itself would change it for every process
    that shares it; a socket (journald) has a flag for one send; a file is simply written.
    """

    def __init__(self, fd: int = 2) -> None:
        self._fd = fd
        self._own: int | None = None
        self._socket: socket.socket | None = None
        kind = os.fstat(fd).st_mode
        if stat.S_ISSOCK(kind):
            self._socket = socket.socket(fileno=os.dup(fd))
        elif stat.S_ISFIFO(kind) or stat.S_ISCHR(kind):
            with contextlib.suppress(OSError):  # no /proc, or a terminal of another user: asked with poll instead
                self._own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)

    def write(self, line: bytes) -> bool:
        """Write *line* whole, or nothing of it; tell whether it was written."""
        try:
            if self._socket is not None:
                return self._socket.send(line, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) == len(line)
            if self._own is not None:
                return os.write(self._own, line) == len(line)
            poll = select.poll()
            poll.register(self._fd, select.POLLOUT)
            if not any(events & select.POLLOUT for _, events in poll.poll(0)):
                return False
            return os.write(self._fd, line) == len(line)
        except OSError:  # full, closed by its reader, disk full: the service goes on
            return False

    def close(self) -> None:
        """Close what was opened here; the descriptor itself stays."""
        if self._socket is not None:
            self._socket.close()
        if self._own is not None:
            os.close(self._own)
            self._own = None


class RepeatLimit:
    """How many lines of one template may pass; pure, the time is an argument."""

    def __init__(self, burst: int = BURST, window: float = WINDOW) -> None:
        self._burst = burst
        self._window = window
        self._windows: dict[object, tuple[float, int]] = {}

    def permits(self, template: object, now: float) -> bool:
        """Tell whether a line of *template* may be written at *now* (seconds)."""
        if template not in self._windows and len(self._windows) >= MAX_TEMPLATES:
            template = _OTHERS
        began, count = self._windows.get(template, (now, 0))
        self._windows[template] = (began, count + 1)
        return count < self._burst

    def ended(self, now: float) -> Iterator[tuple[object, int]]:
        """Forget every window that is over at *now*; give (template, lines left out) of those that left out any."""
        over = [template for template, (began, _) in self._windows.items() if now - began >= self._window]
        for template in over:
            left_out = self._windows.pop(template)[1] - self._burst
            if left_out > 0:
                yield template, left_out


class LineHandler(logging.Handler):
    """Writes records as single lines, limits repeats, and counts what could not be written."""

    def __init__(
        self,
        outlet: Outlet,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        limit: RepeatLimit | None = None,
    ) -> None:
        super().__init__()
        self.outlet = outlet
        self._clock = clock
        self._wall = wall
        self._limit = limit or RepeatLimit()
        self.lost = 0
        """Lines not written since the last one that was."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write *record*, unless it repeats too often; never raises and never waits."""
        self.tell_left_out()
        template = (record.levelname.lower(), record.name, str(record.msg))
        if not getattr(record, "every", False) and not self._limit.permits(template, self._clock()):
            return
        self._write(_text(record), record.levelname.lower(), record.name, record.created)

    def close(self) -> None:
        """Close what was opened for this handler; the descriptor itself stays."""
        self.outlet.close()
        super().close()

    def tell_left_out(self) -> None:
        """Write the summaries that are due. Processes call it each second; else the next record brings them."""
        for template, count in self._limit.ended(self._clock()):
            level, name, text = template if isinstance(template, tuple) else ("info", __name__, str(template))
            self._write(f"{count} more lines like this were left out: {text}", level, name, self._wall())

    def _write(self, text: str, level: str, name: str, created: float) -> None:
        if self.lost:
            notice = f"{self.lost} log lines were lost: stderr was not read"
            if not self.outlet.write(line(notice, "warning", __name__, self._wall())):
                self.lost += 1
                return
            self.lost = 0
        if not self.outlet.write(line(text, level, name, created)):
            self.lost += 1


def line(text: str, level: str, name: str, created: float) -> bytes:
    """Give one line of the log, at most ``MAX_LINE`` octets. created: unix seconds."""
    seconds, milliseconds = divmod(round(created * 1000), 1000)
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    whole = f"{moment}.{milliseconds:03d}Z {level} {name}: {text.translate(_CONTROL)}"
    octets = whole.encode("utf-8", "backslashreplace")
    if len(octets) >= MAX_LINE:
        octets = octets[: MAX_LINE - 4].decode("utf-8", "ignore").encode() + "…".encode()
    return octets + b"\n"


def _text(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage()
    except Exception as fault:  # a wrong template must not stop what it was to tell about
        text = f"{record.msg!r} {record.args!r} ({fault})"
    if record.exc_info and record.exc_info[1] is not None:
        text += f" [{_fault(record.exc_info[1])}]"
    return text


def _fault(fault: BaseException) -> str:
    """Give *fault* and where it was raised on one line, innermost first."""
    places = []
    trace = fault.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{Path(code.co_filename).name}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    text = f"{type(fault).__name__}: {fault}" + (" at " + " < ".join(reversed(places)) if places else "")
    cause = fault.__cause__ or (None if fault.__suppress_context__ else fault.__context__)
    return text if cause is None else f"{text}; from {_fault(cause)}"


def setup(level: str = "info", *, fd: int = 2) -> LineHandler:
    """Send all logging of this process to *fd*, from *level* (one of ``LEVELS``) up; give the handler.

    May be called again (another level, a forked child): the former handler is replaced.
    """
    root = logging.getLogger()
    for former in root.handlers[:]:
        root.removeHandler(former)
        former.close()
    handler = LineHandler(outlet(fd))
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.raiseExceptions = False  # it would print to stderr, which may wait
    logging.captureWarnings(True)
    return handler


def outlet(fd: int = 2) -> Outlet:
    """Give an outlet on *fd*; on nothing when *fd* is closed, so that a service started without stderr runs too."""
    try:
        return Outlet(fd)
    except OSError as fault:
        if fault.errno != errno.EBADF:
            raise
        return Outlet(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))
