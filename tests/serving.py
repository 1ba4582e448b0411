"""A real ``meshdns serve`` for tests: its own process, its own directory, port 0, ended by its pid."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

READY = re.compile(r"^ready listen=(\S+) names=(\d+)$", re.MULTILINE)
PATIENCE = 40.0
"""Seconds; a start takes a fraction of one, on a busy machine a few."""


@dataclass
class Serving:
    """A running server: where it listens, what it logged, its supervisor's pid."""

    process: subprocess.Popen[bytes]
    config: Path
    log: Path
    listen: list[tuple[str, int]]

    @property
    def port(self) -> int:
        """The port of the first listen address."""
        return self.listen[0][1]

    def logged(self) -> str:
        """Give everything that the server wrote on stderr."""
        return self.log.read_text(errors="replace")

    def stop(self, patience: float = PATIENCE) -> int:
        """Ask the server to end and give its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(patience)


@contextmanager
def serving(directory: Path, config: str, *, wait: bool = True) -> Iterator[Serving]:
    """Run ``meshdns serve`` with *config* (YAML) in *directory* until the block ends.

    wait: for the ready line. ``data_dir`` is *directory*/data unless the configuration says otherwise.
    """
    path = directory / "meshdns.yaml"
    path.write_text(config if "data_dir" in config else f"data_dir: data\n{config}")
    log = directory / "serve.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "meshdns", "serve", "--config", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
            start_new_session=True,
        )
    server = Serving(process, path, log, [])
    try:
        if wait:
            server.listen = _wait_ready(server)
        yield server
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise


def _wait_ready(server: Serving) -> list[tuple[str, int]]:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := READY.search(server.logged()):
            return [_address(text) for text in found[1].split(",")]
        if server.process.poll() is not None:
            raise AssertionError(f"serve ended with {server.process.returncode}:\n{server.logged()}")
        time.sleep(0.02)
    raise AssertionError(f"not ready after {PATIENCE} s:\n{server.logged()}")


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)
