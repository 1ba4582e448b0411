"""What a responder has besides when names that are not ours are asked of others: a forwarder, its limits, its state."""

import logging
import resource
from collections.abc import Callable, Iterable

from meshdns.config import Config
from meshdns.errors import UpstreamError
from meshdns.processes.flush import FlushRequests
from meshdns.processes.status_file import Number, StatusWriter
from meshdns.resolver.answer import Resolver
from meshdns.upstream.forwarder import SOCKETS, Forwarder
from meshdns.upstream.replying import Ours
from meshdns.wire.name import to_text

log = logging.getLogger(__name__)

DESCRIPTORS = 65_536
"""Descriptors that a responder asks the machine for, as far as it may."""

RESERVED = 256
"""Descriptors kept for everything that is neither a question to others nor a TCP connection."""

DRAIN_TIME = 1.2
"""Seconds that questions in flight still have when the process ends."""

_COUNTS = {
    Number.CACHE_HITS: "hits",
    Number.CACHE_MISSES: "misses",
    Number.CACHE_STALE: "stale",
    Number.PREFETCHED: "prefetched",
    Number.UPSTREAM_FAILED: "failed",
    Number.CROWDED: "crowded",
    Number.SPECIAL: "special",
    Number.FLUSHED: "flushed",
}


class Forwarding:
    """One responder's forwarder, seen by its status file and told what to forget.

    ours: what we say to a question, None for a name that is not ours. listen: the addresses that we really have.
    """

    def __init__(
        self,
        config: Config,
        status: StatusWriter,
        ours: Callable[[bytes, int], tuple[int, bytes] | None],
        listen: Iterable[tuple[str, int]],
    ) -> None:
        def said(name: bytes, qtype: int) -> Ours | None:
            answer = ours(name, qtype)
            return None if answer is None else Ours(*answer)

        self._status = status
        self._resolver: Resolver | None = None
        self._requests = FlushRequests(config.data_dir)
        self._status.row[Number.FLUSH_READ] = self._requests.position
        self.forwarder = Forwarder(
            config.upstreams,
            config.cache,
            said,
            listen=listen,
            special=config.special_names == "answer",
            sockets=_sockets(config.tcp.connections),
        )

    async def start(self, resolver: Resolver) -> None:
        """Begin, behind *resolver*."""
        self._resolver = resolver
        await self.forwarder.start()

    async def finish(self) -> None:
        """End what is in flight, each with an answer."""
        await self.forwarder.drain(DRAIN_TIME)

    def beat(self) -> None:
        """Forget what was asked to be forgotten, and say how it goes."""
        for name in self._requests.take():
            count = self.forwarder.flush(name)
            if self._resolver is not None:
                self._resolver.forget()
            log.info("flushed %s: %d answers", "everything" if name is None else to_text(name), count)
        row = self._status.row
        row[Number.FLUSH_READ] = self._requests.position
        for place, count_name in _COUNTS.items():
            row[place] = getattr(self.forwarder.counts, count_name)
        if self._resolver is not None:
            row[Number.CACHE_HITS] += self._resolver.repeated
        self._status.write(self.forwarder.state())


def forwarding(
    config: Config,
    status: StatusWriter,
    ours: Callable[[bytes, int], tuple[int, bytes] | None],
    listen: Iterable[tuple[str, int]],
) -> Forwarding | None:
    """Give the forwarding that *config* asks for, None when it cannot be had."""
    try:
        return Forwarding(config, status, ours, listen)
    except UpstreamError as fault:  # a certificate that was there when the configuration was read
        log.error("nothing is forwarded: %s", fault)
        return None


def _sockets(connections: int) -> int:
    """Give how many UDP sockets may wait at once, after asking for as many descriptors as are to be had."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
        except (OSError, ValueError) as fault:
            log.debug("no more than %d descriptors: %s", soft, fault)
    return max(16, min(SOCKETS, soft - connections - RESERVED))
