"""Random zones served by Knot and by us: the same questions, the same answers."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meshdns.transport.sockets import bind
from tests.conformance.test_probes import TOOLS, run
from tests.scale import LONG, scale
from tests.serving import serving

RUNS = (
    [(seed, way) for seed in range(1, 11) for way in ("auto", "portable")] if LONG else [(1, "auto"), (2, "portable")]
)
"""Seeds of zones and questions, and how UDP is moved: what is told must not depend on it."""


@contextmanager
def knot(directory: Path, zone: Path) -> Iterator[int]:
    """Serve *zone* with Knot on a free loopback port until the block ends."""
    free = bind(["127.0.0.1:0"])  # one that UDP and TCP can have
    port = free.rows[0][0].udp.getsockname()[1]
    free.close()
    config = directory / "knot.conf"
    config.write_text(f"""
server:
    rundir: {directory}
    pidfile: {directory}/knot.pid
    listen: 127.0.0.1@{port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
control:
    listen: {directory}/knot.sock
database:
    storage: {directory}
log:
  - target: stderr
    any: warning
zone:
  - domain: mesh.
    file: {zone}
""")
    with (directory / "knot.log").open("wb") as log:
        process = subprocess.Popen(["knotd", "-c", str(config)], stdout=log, stderr=log)
    try:
        for _ in range(200):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ask:
                ask.settimeout(0.1)
                ask.connect(("127.0.0.1", port))
                try:
                    ask.send(b"\0\1\0\0\0\1\0\0\0\0\0\0\4mesh\0\0\6\0\1")
                    if ask.recv(512)[3] & 15 == 0:
                        break
                except OSError:
                    time.sleep(0.05)
        else:
            raise AssertionError((directory / "knot.log").read_text())
        yield port
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.needs("knot")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("seed", "listener"), RUNS)
def test_no_difference_from_knot(tmp_path: Path, seed: int, listener: str) -> None:
    subprocess.run(
        [sys.executable, str(TOOLS / "difftest.py"), "gen", "--seed", str(seed), "--dir", str(tmp_path)], check=True
    )
    snapshot = json.loads((tmp_path / f"snap.{seed}.json").read_text())
    (tmp_path / "records.yaml").write_text(json.dumps({"ttl": 30, "records": snapshot["records"]}))
    count = scale(20_000)
    settings = f'listen: ["127.0.0.1:0"]\nlistener: {listener}\n'
    with (
        serving(tmp_path, f"{settings}sources: [{{name: diff, type: file, path: records.yaml}}]\n") as ours,
        knot(tmp_path, tmp_path / f"zone.{seed}.db") as theirs,
    ):
        said = run(
            "difftest.py", "run", "--seed", str(seed), "--n", str(count),
            "--a", f"127.0.0.1:{ours.port}", "--b", f"127.0.0.1:{theirs}",
        )  # fmt: skip
        assert f"# {count} equal 0 different" in said, said
