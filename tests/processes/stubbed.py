"""An instance with stubs for children, as its tests handle it: asked, killed, looked at."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from meshdns.processes.status import Status, read_status

T = TypeVar("T")

PATIENCE = 40.0
READY = re.compile(r"^ready listen=(\S+) names=(\d+)$", re.MULTILINE)


def wait_until(claim: Callable[[], T | None], what: str) -> T:
    until = time.monotonic() + PATIENCE
    while not (found := claim()):
        assert time.monotonic() < until, f"never: {what}"
        time.sleep(0.01)
    return found


@dataclass
class Stubbed:
    directory: Path
    process: subprocess.Popen[bytes]
    port: int = 0
    sockets: list[socket.socket] = field(default_factory=list)

    def log(self) -> str:
        return (self.directory / "log").read_text()

    def status(self) -> Status:
        return read_status(self.directory / "data")

    def pid(self, name: str = "responder-0") -> int:
        """The process that is *name* now."""

        def running() -> int:
            return next((each.pid for each in self.status().processes if each.name == name and each.running), 0)

        return wait_until(running, f"{name} runs")

    def client(self) -> socket.socket:
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.connect(("127.0.0.1", self.port))
        client.settimeout(PATIENCE)
        self.sockets.append(client)
        return client

    def ask(self, query: bytes = b"who") -> tuple[int, str]:
        """The pid that answers, and its zones."""
        client = self.client()
        client.send(query)
        try:
            pid, zones, echoed = client.recv(512).split(b" ", 2)
        except TimeoutError:
            raise AssertionError(f"a query was lost; the log:\n{self.log()}") from None
        assert echoed == query
        return int(pid), zones.decode()

    def order(self, what: bytes) -> None:
        self.client().send(what)

    def wait_log(self, text: str, times: int = 1) -> None:
        wait_until(lambda: self.log().count(text) >= times, f"{times} times {text!r} in the log:\n{self.log()}")

    def configure(self, **changes: Any) -> None:
        path = self.directory / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def syncs(self) -> list[str]:
        """The zones of every sync that was started."""
        path = self.directory / "data" / "syncs"
        return [line.split()[1] for line in path.read_text().splitlines()] if path.exists() else []

    def checks(self) -> list[str]:
        return (self.directory / "checks").read_text().split("\n")[:-1]

    def wait_ready(self) -> None:
        def ready() -> re.Match[str] | None:
            assert self.process.poll() is None, self.log()
            return READY.search(self.log())

        found = wait_until(ready, "ready")
        self.port = int(found[1].rpartition(":")[2])


@contextmanager
def stubbed(directory: Path, *arguments: str, stderr: int | None = None, **config: Any) -> Iterator[Stubbed]:
    """Run an instance in *directory* until the block ends; stderr goes to ``log`` there unless given."""
    directory.mkdir(exist_ok=True)
    whole = {
        "listen": ["127.0.0.1:0"],
        "data_dir": str(directory / "data"),
        "drain": 0.0,
        "sources": [{"name": "extra", "type": "file", "path": str(directory / "records.yaml")}],
    }
    (directory / "config.json").write_text(json.dumps(whole | config))
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.processes.stub_instance", str(directory), *arguments],
            stderr=log if stderr is None else stderr,
            start_new_session=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
    instance = Stubbed(directory, process)
    try:
        yield instance
    finally:
        for each in instance.sockets:
            each.close()
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.wait(PATIENCE)
