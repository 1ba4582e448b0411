"""Signals as something to wait for, not as something that interrupts."""

import os
import selectors
import signal

HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2, signal.SIGCHLD)


class Signals:
    """From its making until ``close`` the signals of ``HEARD`` wait here."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._reader, selectors.EVENT_READ)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._former = {number: signal.signal(number, lambda *_: None) for number in HEARD}
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)  # what waited while this image was executed comes now

    def wait(self, timeout: float) -> bytes:
        """Wait until a signal comes or *timeout* seconds are over; give the numbers of those that came."""
        if not self._selector.select(max(0.0, timeout)):
            return b""
        try:
            return os.read(self._reader, 4096)
        except BlockingIOError:
            return b""

    def hold_back(self) -> None:
        """Have all that was not given yet, and all that comes, wait in the kernel: for the image executed next."""
        signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
        for number in self.wait(0):
            os.kill(os.getpid(), number)

    def let_in(self) -> None:
        """Undo :meth:`hold_back`."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)

    def close(self) -> None:
        """Put back what was, in the process that made it."""
        signal.set_wakeup_fd(-1)
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self.release()

    def release(self) -> None:
        """Close the descriptors only: for a forked child, whose signals are its own affair."""
        self._selector.close()
        os.close(self._reader)
        os.close(self._writer)
