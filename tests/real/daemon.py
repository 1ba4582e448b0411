"""Other people's servers for tests: in the foreground, without rights, on a free loopback port, ended by their pid."""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 40.0
"""Seconds that a server may take to answer for the first time, or to end."""

NOBODY = 65534


def free_port() -> int:
    """Give a port of 127.0.0.1 that is free for UDP and TCP now, and that stays free while its server is restarted.

    It lies below the ports that the kernel gives to clients: a forwarder's own query would take it otherwise.
    """
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = secrets.choice(range(10_000, max(lowest, 20_000)))
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind(("127.0.0.1", port))
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


@contextmanager
def open_directory() -> Iterator[Path]:
    """Give a folder that a user without rights can reach and write; it goes with the block."""
    directory = Path(tempfile.mkdtemp(prefix="meshdns-real-"))
    directory.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(directory, NOBODY, NOBODY)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@dataclass
class Daemon:
    """A running server: its process and what it logged."""

    process: subprocess.Popen[bytes]
    log: Path

    def logged(self) -> str:
        """Give everything that the server wrote."""
        return self.log.read_text(errors="replace")


@contextmanager
def daemon(
    directory: Path,
    words: Sequence[object],
    *,
    ready: Callable[[], bool],
    as_nobody: bool = True,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Daemon]:
    """Run *words* (texts and paths) until the block ends; *ready* is asked until it says yes.

    as_nobody: from root, run it as that user. Raises AssertionError with the log when it ends or is never ready.
    """
    command = [str(word) for word in words]
    name = Path(command[0]).name
    if as_nobody and os.geteuid() == 0:
        identity = (f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
        command = ["setpriv", *identity, "--", *command]  # replaces itself by the server: the pid stays
    log = directory / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "HOME": str(directory), **(environment or {})},
            start_new_session=True,
        )
    running = Daemon(process, log)
    try:
        deadline = time.monotonic() + PATIENCE
        while not ready():
            if process.poll() is not None:
                raise AssertionError(f"{name} ended with {process.returncode}:\n{running.logged()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"{name} is not ready after {PATIENCE} s:\n{running.logged()}")
            time.sleep(0.05)
        yield running
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
