"""What a test of floods needs: a flooder compiled from ``flood.c``, an upstream quick or silent, cores apart."""

import contextlib
import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.parts import which
from tests.serving import Serving

SOURCE = Path(__file__).parent.parent / "conformance" / "tools" / "flood.c"
HIT = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\1"


@dataclass(frozen=True)
class Flooded:
    """What came of a flood, by its own count. received: replies; noerror: of these, those that say so."""

    seconds: float
    sent: int
    received: int
    noerror: int

    @property
    def pressure(self) -> float:
        """Queries a second."""
        return self.sent / self.seconds

    @property
    def rate(self) -> float:
        """Replies a second."""
        return self.received / self.seconds


class Flooder:
    """Asks *where* on a core of its own, if there are two. binary: of ``flood.c``."""

    def __init__(self, binary: Path, where: tuple[str, int]) -> None:
        self._binary = binary
        self._where = where
        cores = sorted(os.sched_getaffinity(0))
        self._core, self.others = cores[-1], cores[:-1] or cores

    def capacity(self, kind: str, seconds: float) -> Flooded:
        """Keep 200 queries waiting for replies: as many as a server can do."""
        return self._run(kind, seconds, "window", 200)

    def flood(self, kind: str, seconds: float, rate: float) -> Flooded:
        """Send *rate* queries a second, whatever comes back."""
        return self._run(kind, seconds, "rate", rate)

    def _run(self, kind: str, seconds: float, mode: str, number: float) -> Flooded:
        host, port = self._where
        words = [str(self._binary), host, str(port), kind, str(seconds), mode, str(number)]
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            check=True,
            timeout=seconds + 60,
            preexec_fn=lambda: os.sched_setaffinity(0, {self._core}),
        )
        told = json.loads(done.stdout)
        return Flooded(told["seconds"], told["sent"], told["received"], told["noerror"])


def compile_flooder(directory: Path) -> Path:
    """Give the flooder, compiled into *directory*."""
    binary = directory / "flood"
    subprocess.run([str(which("cc")), "-O2", "-o", str(binary), str(SOURCE)], check=True, timeout=60)
    return binary


def responders(instance: Serving) -> list[int]:
    """Give the pids of the processes that answer."""
    children = Path(f"/proc/{instance.process.pid}/task/{instance.process.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"sync" not in Path(f"/proc/{pid}/cmdline").read_bytes()]


def cpu(pids: list[int]) -> float:
    """Give the seconds of CPU that processes have used."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@dataclass
class Upstream:
    """Answers every question with one address, quickly. ours: datagrams that spoke of the mesh; there must be none."""

    port: int
    silent: bool = False
    heard: int = 0
    ours: list[bytes] = field(default_factory=list)

    def reply(self, query: bytes) -> bytes | None:
        end = query.index(b"\0", 12) + 5
        self.heard += 1
        if query[12 : end - 4].lower().endswith(b"\4mesh\0"):
            self.ours.append(query)
        if self.silent:
            return None
        return query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query[12:end] + HIT


@contextlib.contextmanager
def upstream(*, silent: bool = False) -> Iterator[Upstream]:
    """Run an upstream in a thread until the block ends."""
    ending = threading.Event()
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        server.bind(("127.0.0.1", 0))
        server.settimeout(0.1)
        made = Upstream(server.getsockname()[1], silent)

        def serve() -> None:
            while not ending.is_set():
                with contextlib.suppress(OSError):
                    query, client = server.recvfrom(4096)
                    reply = made.reply(query)
                    if reply is not None:
                        server.sendto(reply, client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield made
        finally:
            ending.set()
            thread.join()
