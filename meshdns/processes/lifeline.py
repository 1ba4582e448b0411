"""A child must not outlive its supervisor: a second one would then serve and write beside it.

The supervisor holds the writing end of a pipe. When it is gone, however it died, the kernel closes that end and
sends SIGKILL to who holds the reading end (fcntl(2), F_SETSIG and O_ASYNC): also to a child that hangs or was
stopped, without a thread and without a line of its code. Killing is right: a commit is whole or not there.
"""

import fcntl
import os
import select
import signal


class Lifeline:
    """One pipe from the supervisor to one child."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe2(os.O_CLOEXEC)

    @classmethod
    def held(cls, writer: int) -> "Lifeline":
        """Go on holding a child by *writer*, which this process held before it executed another image."""
        self = cls.__new__(cls)
        self.reader, self.writer = -1, writer
        return self

    def keep(self) -> None:
        """In the supervisor, after the child was started: keep only what holds the child."""
        os.close(self.reader)

    def release(self) -> None:
        """In the supervisor, after the child ended; and in every later child, which must not hold it."""
        os.close(self.writer)

    def follow(self) -> None:
        """In a forked child: end with the supervisor from now on."""
        os.close(self.writer)
        follow(self.reader)


def follow(reader: int) -> None:
    """End with the process that holds the other end of the pipe *reader*, which stays open for that."""
    fcntl.fcntl(reader, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(reader, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(reader, fcntl.F_SETFL, fcntl.fcntl(reader, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    if poll.poll(0):  # it was gone before the line was tied
        os.kill(os.getpid(), signal.SIGKILL)
