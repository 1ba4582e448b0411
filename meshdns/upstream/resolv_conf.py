"""resolv.conf(5): the servers that a machine or a pod was told to ask; looked at again and again.

What is worse than the former list never replaces it: an empty file, one without servers, or one that names only us.
"""

import logging
import os
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

from meshdns.upstream.settings import MAX_SERVERS, Server

log = logging.getLogger(__name__)

MAX_SIZE = 64 << 10
"""Octets of such a file that are looked at."""


def parse_resolv_conf(text: str, *, port: int = 53) -> tuple[Server, ...]:
    """Give the servers that *text* names, in order, each once; lines that say nothing to us are passed over."""
    servers: dict[Server, None] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver":
            continue
        try:
            host = ip_address(words[1])
        except ValueError:
            continue
        if not (host.is_unspecified or host.is_multicast):
            servers[Server("udp", str(host), port)] = None
    return tuple(servers)[:MAX_SERVERS]


class ServerFile:
    """The servers of one file. port: theirs. is_own: whether a server is this very instance.

    ``look`` is cheap enough for every second or two; ``servers`` is empty until the file has named any.
    """

    def __init__(self, path: Path, *, port: int, is_own: Callable[[Server], bool]) -> None:
        self._path = path
        self._port = port
        self._is_own = is_own
        self._seen: tuple[int, ...] | None = None
        self._problem = ""
        self.servers: tuple[Server, ...] = ()

    def look(self) -> bool:
        """Read the file if it is another than before; tell whether the servers are others than before."""
        try:
            state = self._path.stat()
            seen = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
            if seen == self._seen:
                return False
            with self._path.open("rb") as file:
                text = file.read(MAX_SIZE).decode("utf-8", "replace")
                read = os.fstat(file.fileno())
        except OSError as fault:
            self._seen = None
            self._complain(f"cannot be read: {fault.strerror}")
            return False
        # What was written while it was read shows itself by its time at the next look.
        self._seen = seen if (read.st_ino, read.st_mtime_ns) == (seen[1], seen[3]) else None
        named = parse_resolv_conf(text, port=self._port)
        others = tuple(server for server in named if not self._is_own(server))
        if not others:
            self._complain("names no server but this one" if named else "names no server")
            return False
        if len(others) < len(named):
            log.warning("%s: names this instance itself, which is left out", self._path)
        self._problem = ""
        if others == self.servers:
            return False
        log.info("%s: forwarding to %s", self._path, ", ".join(map(str, others)))
        self.servers = others
        return True

    def _complain(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            kept = f"; {', '.join(map(str, self.servers))} stay" if self.servers else ""
            log.warning("%s: %s%s", self._path, problem, kept)
