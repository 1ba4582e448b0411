"""The rest of an upgrade, in the new image: the former children serve on until each has a successor that answers."""

import logging
from collections.abc import Sequence
from enum import Enum, auto

from meshdns.processes.closing import SETTLE, seal_sockets
from meshdns.processes.crew import Crew
from meshdns.transport.inherited import Given, unshared
from meshdns.transport.sockets import Bound

log = logging.getLogger(__name__)


class _Phase(Enum):
    """AWAITING successors → SEALING what nobody will read any more → LEAVING of the former → OVER."""

    AWAITING = auto()
    SEALING = auto()
    LEAVING = auto()
    OVER = auto()


class Succession:
    """One upgrade's rest. unused: sockets of the former image that are not in *bound*."""

    def __init__(self, crew: Crew, bound: Bound, unused: Sequence[Given]) -> None:
        self._crew = crew
        self._bound = bound
        self.unused = tuple(unused)
        self._phase = _Phase.AWAITING
        self._until = 0.0

    @property
    def is_sealing(self) -> bool:
        """Whether sockets are between use and end: what is true of them now is not in a moment."""
        return self._phase is _Phase.SEALING

    @property
    def is_over(self) -> bool:
        """Whether all that was there before is gone."""
        return self._phase is _Phase.OVER

    def look(self, now: float) -> None:
        """Go on as far as it is time to."""
        if self._phase is _Phase.AWAITING and self._crew.successors_answer(now):
            if self.seal():
                self._phase, self._until = _Phase.SEALING, now + SETTLE
            else:
                self._let_go()
        elif self._phase is _Phase.SEALING and now >= self._until:
            self._let_go()
        elif self._phase is _Phase.LEAVING and self._crew.succeeded:
            self._phase = _Phase.OVER

    def seal(self) -> bool:
        """Let nobody into what is unused any more; tell whether there was anything."""
        sealed = unshared(self.unused, self._bound)
        seal_sockets(each.socket for each in sealed)
        for address in dict.fromkeys(each.address for each in sealed if each.address not in self._bound.addresses):
            log.info("upgrade: %s is not listened on any more", address)
        return bool(sealed)

    def close(self) -> None:
        """Close this process' copies of what is unused."""
        for each in self.unused:
            each.socket.close()
        self.unused = ()

    def _let_go(self) -> None:
        self.close()
        self._crew.let_go()
        self._phase = _Phase.LEAVING
