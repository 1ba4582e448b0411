"""From the first instruction of ``meshdns serve`` to its first right answer, with a store that is there already."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench.instance import address, free_port, names_of, on_core, own_directory, query, serving, surroundings
from bench.row import Row, at_most
from bench.settings import SERVER_CORE, Settings

NAMES = 10_000

KEY = "start"

EVERY = 0.002
"""Seconds between two questions."""

PATIENCE = 30.0


def rows(settings: Settings) -> Iterator[Row]:
    """Give the row ``start``."""
    if not settings.wants(KEY):
        return
    names = names_of(NAMES)
    with own_directory() as here:
        with serving(names, directory=here):
            pass  # what it leaves behind is the store of the next start
        times = [_start(here, names[-1]) for _ in range(settings.rounds + 1)][1:]
    what = f"start: exec → first right answer, a store of {NAMES:,} names, all processes on one core"
    yield Row(KEY, what, tuple(times), "ms", at_most(600), at_most(400))


def _start(here: Path, name: str) -> float:
    """Start once; give the milliseconds until *name* has its address, and end it."""
    port = free_port()
    config = here / "meshdns.yaml"
    lines = [line for line in config.read_text().splitlines() if not line.startswith("listen:")]
    config.write_text("\n".join([*lines, f"listen: ['127.0.0.1:{port}']", ""]))
    asked = query(name)
    right = socket.inet_aton(address(NAMES - 1))
    with (here / "log").open("wb") as log, socket.socket(type=socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", port))
        client.settimeout(EVERY)
        with on_core(SERVER_CORE):
            began = time.monotonic()
            process = subprocess.Popen(
                [sys.executable, "-m", "meshdns", "serve", "--config", config],
                cwd=here,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **surroundings()},
            )
        try:
            while not _answered(client, asked, right):
                if process.poll() is not None or time.monotonic() - began > PATIENCE:
                    raise RuntimeError(f"it does not answer:\n{(here / 'log').read_text()[-2000:]}")
            return (time.monotonic() - began) * 1000
        finally:
            process.terminate()
            process.wait()


def _answered(client: socket.socket, asked: bytes, right: bytes) -> bool:
    """Ask once, and wait for a moment."""
    try:
        client.send(asked)
        reply = client.recv(4096)
    except TimeoutError:
        return False
    except ConnectionRefusedError:  # nobody listens there yet
        time.sleep(EVERY)
        return False
    return reply.endswith(right)
