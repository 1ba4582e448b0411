"""What one image of the supervisor leaves to the next, which is executed in the same process (``upgrade``).

A JSON document in a memory file; ``MESHDNS_HANDOVER=PID:DESCRIPTOR`` says where, and for which process. Descriptors
keep their numbers when a process executes another program, and its children stay its children.
"""

import os
import socket
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence

from pydantic import BaseModel, ConfigDict, ValidationError

from meshdns.errors import MeshdnsError
from meshdns.processes.child import Child, reaper
from meshdns.processes.lifeline import Lifeline
from meshdns.processes.status_file import MAGIC, StatusWriter
from meshdns.transport.inherited import Given
from meshdns.transport.sockets import Bound

VARIABLE = "MESHDNS_HANDOVER"

VERSION = f"1 {MAGIC.hex()}"
"""Of this document, and of the status files that are handed over with it."""


class HandoverError(MeshdnsError):
    """What was left cannot be taken over; the message says why."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HandedSocket(_Part):
    """A listening socket. listen: the address of ``listen`` that it is for. lent: see ``transport.inherited``."""

    descriptor: int
    listen: str
    lent: bool

    def given(self) -> Given:
        """Take it."""
        os.set_inheritable(self.descriptor, False)
        return Given(socket.socket(fileno=self.descriptor), self.listen, self.lent)


class HandedChild(_Part):
    """A child that was not reaped; see ``Child``. lifeline, status: descriptors."""

    name: str
    pid: int
    lifeline: int
    status: int | None
    born: float
    told: float | None
    killed: bool
    wanted: bool
    overtaken: bool
    credited: list[int]

    def child(self) -> Child:
        """Take it."""
        os.set_inheritable(self.lifeline, False)
        status = None
        if self.status is not None:
            os.set_inheritable(self.status, False)
            status = StatusWriter.inherited(self.status)
        return Child(
            self.name,
            self.pid,
            Lifeline.held(self.lifeline),
            reaper(self.pid),
            status,
            born=self.born,
            told=self.told,
            killed=self.killed,
            wanted=self.wanted,
            former=True,
            overtaken=self.overtaken,
            credited=self.credited,
        )


class Handover(_Part):
    """All of it. config: the next image's, as JSON; empty while that is still tried.

    lock: the descriptor that locks the data directory. sockets: in the order of the responders. counts: of the
    instance, without those that responders still keep themselves. restarts: how often each child was started again.
    announced: ``ready`` was said.
    """

    version: str = VERSION
    config: str = ""
    data_dir: str
    lock: int
    sockets: list[HandedSocket]
    children: list[HandedChild]
    counts: list[int]
    restarts: dict[str, int]
    announced: bool

    def descriptors(self) -> Iterator[int]:
        """Give every descriptor that the next image needs."""
        yield self.lock
        yield from (each.descriptor for each in self.sockets)
        for child in self.children:
            yield child.lifeline
            if child.status is not None:
                yield child.status

    def write(self) -> int:
        """Give the descriptor of a memory file that holds this."""
        descriptor = os.memfd_create("handover")
        with open(descriptor, "wb", closefd=False) as file:
            file.write(self.model_dump_json().encode())
        return descriptor


def hand(bound: Bound, unused: Iterable[Given]) -> list[HandedSocket]:
    """Give all sockets of *bound*, and those *unused* that are not closed yet, as they are handed over."""
    handed = []
    for row in bound.rows:
        for endpoint in row:
            for each, lent in ((endpoint.udp, endpoint.udp_lent), (endpoint.tcp, endpoint.tcp_lent)):
                handed.append(HandedSocket(descriptor=each.fileno(), listen=endpoint.listen, lent=lent))
    handed += [HandedSocket(descriptor=each.socket.fileno(), listen=each.listen, lent=each.lent) for each in unused]
    return handed


def hand_children(children: Sequence[Child]) -> list[HandedChild]:
    """Give *children* as they are handed over."""
    return [
        HandedChild(
            name=each.name,
            pid=each.pid,
            lifeline=each.lifeline.writer,
            status=None if each.status is None else each.status.descriptor,
            born=each.born,
            told=each.told,
            killed=each.killed,
            wanted=each.wanted,
            overtaken=each.overtaken,
            credited=each.credited,
        )
        for each in children
    ]


def receive(environ: MutableMapping[str, str], *, of: int) -> Handover | None:
    """Take what was left for process *of* out of *environ*; None when nothing was.

    Raises HandoverError when it is of a version of meshdns that this one cannot follow.
    """
    pid, _, descriptor = environ.pop(VARIABLE, "").partition(":")
    if pid != str(of):
        return None
    with open(int(descriptor), "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        file.seek(0)
        text = file.read()
    try:
        handover = Handover.model_validate_json(text)
    except ValidationError:
        handover = None
    if handover is None or handover.version != VERSION:
        raise HandoverError("the running version of meshdns cannot be succeeded by this one without a restart")
    return handover


def environment(environ: Mapping[str, str], pid: int, descriptor: int) -> dict[str, str]:
    """Give *environ* with the word where process *pid* finds what it is left."""
    return {**environ, VARIABLE: f"{pid}:{descriptor}"}
