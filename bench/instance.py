"""Running servers under load: started on one core, asked until they answer, measured in /proc, ended by their pid."""

import atexit
import os
import secrets
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.settings import SERVER_CORE

ROOT = Path(__file__).parent.parent
TICK = os.sysconf("SC_CLK_TCK")
PATIENCE = 600.0
"""Seconds until a server must have answered for the first time; a million names take minutes on a slow machine."""

A, AAAA = 1, 28


def names_of(count: int) -> list[str]:
    """Give the names of a mesh of *count* services."""
    return [f"svc{i}.ns{i % 17}.svc.{8000 + i % 100}.mesh" for i in range(count)]


def address(i: int) -> str:
    """Give the VIP of the i-th name."""
    return f"240.{i >> 16}.{i >> 8 & 255}.{i & 255}"


def records(names: Sequence[str]) -> str:
    """Give a records file for *names*, each with the VIP of its place."""
    return "records:\n" + "".join(f"  {name}: {address(i)}\n" for i, name in enumerate(names))


def free_port() -> int:
    """Give a port of 127.0.0.1 that is free for UDP and TCP, below those that the kernel gives to clients."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = secrets.choice(range(10_000, max(lowest, 20_000)))
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind(("127.0.0.1", port))
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def family(pid: int) -> list[int]:
    """Give *pid* and every process below it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [pid] + [each for child in children for each in family(int(child))]


def cpu(pids: Iterable[int]) -> float:
    """Give the seconds of CPU, user and system, that *pids* have used; in steps of a hundredth for each."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICK


def pss(pids: Iterable[int]) -> float:
    """Give the MiB of memory that *pids* hold, shared pages divided among those that share them."""
    kib = 0
    for pid in pids:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        kib += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return kib / 1024


def pin(pids: Iterable[int], core: int) -> None:
    """Hold every thread of *pids* to *core*."""
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            try:
                os.sched_setaffinity(int(task.name), {core})
            except ProcessLookupError:  # a thread that has ended
                continue


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Hold this process to *core* for the block: what it starts inherits it, so that Go counts one core."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def query(name: str, qtype: int = A, ident: int = 1) -> bytes:
    """Give a query without EDNS."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split("."))
    return struct.pack("!6H", ident, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", qtype, 1)


def ask(port: int, name: str, qtype: int = A, *, patience: float = 0.3, host: str = "127.0.0.1") -> bytes | None:
    """Ask over UDP; give the reply's octets, None for silence or a closed port."""
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(patience)
        try:
            client.connect((host, port))
            client.send(query(name, qtype))
            return client.recv(65_535)
        except (TimeoutError, ConnectionRefusedError):
            return None


def answers(port: int, name: str) -> bool:
    """Tell whether *name* has an A record there: NOERROR with something in the answer section."""
    reply = ask(port, name)
    return reply is not None and len(reply) > 12 and reply[3] & 15 == 0 and reply[6:8] != b"\0\0"


@dataclass(frozen=True, slots=True)
class Running:
    """A running server. directory: its own, with its log."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    directory: Path

    @property
    def pids(self) -> list[int]:
        """It and every process below it, at this moment."""
        return family(self.process.pid)

    def logged(self) -> str:
        """Give everything that it wrote."""
        return (self.directory / "log").read_text(errors="replace")


@contextmanager
def running(
    name: str,
    command: Sequence[object],
    directory: Path,
    port: int,
    *,
    ready: Callable[[], bool],
    core: int | None = SERVER_CORE,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """Run *command* in *directory* until the block ends; *ready* is asked until it says yes.

    core: where it is held from its first instruction, None for anywhere. Raises RuntimeError with the end of its log
    when it ends or is never ready.
    """
    log = directory / "log"
    words = [str(word) for word in command]
    all_of_it = {**os.environ, **(environment or {})}
    with log.open("wb") as output, on_core(core):
        process = subprocess.Popen(
            words, cwd=directory, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=all_of_it
        )
    server = Running(name, port, process, directory)
    try:
        deadline = time.monotonic() + PATIENCE
        while not ready():
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with {process.returncode}:\n{server.logged()[-2000:]}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{name} does not answer after {PATIENCE:g} s:\n{server.logged()[-2000:]}")
            time.sleep(0.02)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def own_directory(prefix: str = "meshdns-bench-") -> Iterator[Path]:
    """Give a folder that only we can enter; it goes with the block."""
    directory = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@cache
def surroundings() -> Mapping[str, str]:
    """Give the environment of our processes: this checkout, with its bytecode kept, as where it is installed."""
    bytecode = tempfile.mkdtemp(prefix="meshdns-bench-bytecode-")
    atexit.register(shutil.rmtree, bytecode, ignore_errors=True)
    return {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": bytecode}


@contextmanager
def serving(
    names: Sequence[str],
    *,
    responders: int = 1,
    listener: str = "auto",
    options: str = "",
    sources: str | None = None,
    directory: Path | None = None,
    ready: Callable[[int], bool] | None = None,
    core: int | None = SERVER_CORE,
) -> Iterator[Running]:
    """Run ``meshdns serve`` with *names* from a records file until the block ends; it answers the last name when given.

    options: more lines of its configuration, such as ``upstreams``. sources: in place of the records file's, as YAML;
    then *ready* (port → whether it answers) is asked instead. directory: kept afterwards, so that a second start
    finds the first one's store; otherwise one that goes with the block. core: where all its processes are held, None
    for anywhere.
    """
    with own_directory() as fallback:
        here = directory or fallback
        port = free_port()
        if sources is None:
            (here / "records.yaml").write_text(records(names))
            sources = "[{name: bench, type: file, path: records.yaml}]"
        (here / "meshdns.yaml").write_text(
            f"data_dir: data\nlisten: ['127.0.0.1:{port}']\nresponders: {responders}\nlistener: {listener}\n"
            f"drain: 0s\nsources: {sources}\n{options}"
        )
        last = names[-1] if names else ""
        is_ready = ready or (lambda of: answers(of, last))
        command = [sys.executable, "-m", "meshdns", "serve", "--config", here / "meshdns.yaml"]
        with running(
            "meshdns", command, here, port, ready=lambda: is_ready(port), core=core, environment=surroundings()
        ) as server:
            yield server
