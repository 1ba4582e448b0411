"""The care of the servers: which there are, whether they answer again, whether they forward back to us.

Files that name servers are looked at, suspect servers are probed, and each server is asked once for a name that nobody
can guess: if that comes to us, then by a circle.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from meshdns.upstream.asker import Asker
from meshdns.upstream.peer import RECHECK, ForwardZone, ForwardZones, Peer
from meshdns.upstream.resolv_conf import ServerFile
from meshdns.upstream.settings import Server, UpstreamSettings, points_at
from meshdns.upstream.stream import tls_context
from meshdns.wire.name import parents, to_wire

log = logging.getLogger(__name__)

LOOK = 2.0
"""Seconds between two looks at a file that names servers."""

TEND = 1.0
"""Seconds between two probes of a suspect server."""

CIRCLE_TIME = 2.0
"""Seconds for the question that shows whether a server forwards back to us."""

_CIRCLE = b"\x09loop-test"


class Tender:
    """Looks after the servers of each forward zone.

    settings: the zones. listen: our own addresses. clock: monotonic seconds. forget_failures: called when what failed
    may be had by now. Raises UpstreamError for certificates that cannot be read.
    """

    def __init__(
        self,
        settings: Iterable[UpstreamSettings],
        listen: Iterable[tuple[str, int]],
        *,
        clock: Callable[[], float],
        forget_failures: Callable[[], None],
    ) -> None:
        self._listen = tuple(listen)
        self._clock = clock
        self._forget_failures = forget_failures
        self.zones = ForwardZones([self._zone(each) for each in settings])
        self._files = {
            zone: ServerFile(zone.settings.file, port=zone.settings.port, is_own=self._is_own)
            for zone in self.zones
            if zone.settings.file is not None
        }
        self._circles: dict[bytes, bool] = {}
        """Names that show a circle → whether they have come to us."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._looked = float("-inf")

    def start(self, asker: Asker) -> None:
        """Begin, and ask by *asker*."""
        self._look(self._clock())
        self._background(self._tend(asker), "tend upstreams")

    def close(self) -> None:
        """End, and close every connection."""
        for task in self._tasks:
            task.cancel()
        for zone in self.zones:
            for peer in zone.peers:
                peer.streams.close()

    def came_back(self, name: bytes) -> bool:
        """Tell whether *name* is one by which a circle shows; that it came to us is noted."""
        if name not in self._circles:
            return False
        self._circles[name] = True
        return True

    def _zone(self, settings: UpstreamSettings) -> ForwardZone:
        secure = any(server.scheme == "tls" for server in settings.fixed)
        zone = ForwardZone(settings, tls_context(settings.ca_file) if secure else None)
        for server in settings.fixed:
            if self._is_own(server):
                log.error("upstream %s of zone %s is this instance itself and is not asked", server, settings.zone)
        zone.use(server for server in settings.fixed if not self._is_own(server))
        return zone

    def _is_own(self, server: Server) -> bool:
        return points_at(server, self._listen)

    def suspected(self, peer: Peer) -> None:
        """Take note that *peer* does not answer."""
        peer.suspect_wall = time.time()
        log.warning("upstream %s does not answer; others are asked first", peer.server)

    def recovered(self, peer: Peer) -> None:
        """Take note that *peer* answers again."""
        peer.suspect_wall = None
        self._forget_failures()
        log.info("upstream %s answers again", peer.server)

    def _look(self, now: float) -> None:
        """Read the files that name servers, if they are others than before."""
        if now - self._looked < LOOK:
            return
        self._looked = now
        for zone, file in self._files.items():
            if file.look():
                for peer in zone.use(file.servers):
                    # What it was asked it may still answer; its connections end when they idle.
                    log.info("upstream %s of zone %s is not asked any more", peer.server, zone.settings.zone)
                self._forget_failures()

    async def _tend(self, asker: Asker) -> None:
        while True:
            now = self._clock()
            self._look(now)
            for zone in self.zones:
                for peer in zone.peers:
                    if peer.health.suspect_since is not None and not peer.probing:
                        peer.probing = True
                        self._background(_probe(asker, peer), f"probe {peer.server}")
                    if not peer.checked and now >= peer.check_at:
                        peer.check_at = now + (RECHECK if peer.forwards_back else 2 * CIRCLE_TIME)
                        self._background(self._check_circle(asker, zone, peer), f"check {peer.server}")
            await asyncio.sleep(TEND)

    async def _check_circle(self, asker: Asker, zone: ForwardZone, peer: Peer) -> None:
        """Ask *peer* for a name that nobody can guess: if it comes to us, then by a circle (CVE-2026-26018)."""
        name = _circle_name(zone.apex)
        self._circles[name] = False
        try:
            reached = await asker.reach(peer, name + b"\0\1\0\1", CIRCLE_TIME)
        finally:
            came = self._circles.pop(name)
        if came and not peer.forwards_back:
            peer.last_error = "forwards back to this instance"
            log.error("upstream %s forwards back to this instance and is not asked", peer.server)
        elif reached and not came and peer.forwards_back:
            log.info("upstream %s does not forward back to this instance any more", peer.server)
        if came or reached:
            peer.forwards_back, peer.checked = came, not came

    def _background(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            log.error("%s ended by a fault", task.get_name(), exc_info=fault)


async def _probe(asker: Asker, peer: Peer) -> None:
    try:
        await asker.probe(peer)
    finally:
        peer.probing = False


def _circle_name(apex: bytes) -> bytes:
    """Give a name that only we know, in a zone that is forwarded."""
    return b"\x20" + secrets.token_hex(16).encode() + _CIRCLE + (to_wire("invalid") if apex == b"\0" else apex)


def is_circle_name(name: bytes) -> bool:
    """Tell whether *name* is such a name, of ours or of another instance: it must travel on for the circle to show."""
    return name[:1] == b"\x20" and name[33:].startswith(_CIRCLE) and any(parents(name))
