"""A real Envoy that a publication configures, workloads behind it, and requests at a constant rate through it."""

import asyncio
import http.client
import json
import secrets
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from meshdns.publisher.bootstrap import ControlPlane, Proxy, bootstrap
from meshdns.publisher.session import Protocol
from tests.parts import ENVOY
from tests.real.daemon import Daemon, daemon

PATIENCE = 60.0  # Envoy waits up to half a minute before it connects again


@cache
def placeholder() -> int:
    """The port that every service has on its VIP: 80, or 8080 where 80 may not be bound."""
    with socket.socket() as tried:
        try:
            tried.bind(("127.80.255.254", 80))
        except OSError:
            return 8080
    return 80


def network() -> str:
    """A range of VIPs for one test, so that tests at the same time do not meet."""
    return f"127.80.{secrets.choice(range(16, 250))}.0/24"


@dataclass
class Envoy:
    """A running Envoy. admin: the address of its admin interface."""

    daemon: Daemon
    admin: str

    def get(self, path: str) -> Any:
        """What the admin interface says; JSON where it is."""
        connection = http.client.HTTPConnection(self.admin, timeout=PATIENCE)
        try:
            connection.request("GET", path)
            body = connection.getresponse().read().decode()
        finally:
            connection.close()
        return json.loads(body) if body.startswith("{") else body

    def listeners(self) -> dict[str, str]:
        """Name → address and port, of those that bind."""
        found = self.get("/listeners?format=json").get("listener_statuses", [])
        return {each["name"]: _place(each["local_address"]) for each in found}

    def configured(self, kind: str) -> dict[str, Any]:
        """Name → configuration of every dynamic ``listener`` or ``cluster``, from the dump."""
        dump = self.get(f"/config_dump?resource=dynamic_{'active_clusters' if kind == 'cluster' else 'listeners'}")
        found = {}
        for each in dump.get("configs", []):
            if kind == "cluster":
                found[each["cluster"]["name"]] = each["cluster"]
            elif "active_state" in each:
                found[each["name"]] = each["active_state"]["listener"]
        return found

    def endpoints(self) -> dict[str, set[str]]:
        """Cluster → addresses and ports of its endpoints."""
        found = self.get("/clusters?format=json").get("cluster_statuses", [])
        return {
            each["name"]: {_place(host["address"]) for host in each.get("host_statuses", [])}
            for each in found
            if each["name"] != "ads_cluster"
        }

    def stat(self, pattern: str) -> dict[str, int]:
        """Counters whose names match *pattern*."""
        lines = str(self.get(f"/stats?filter={pattern}")).splitlines()
        pairs = (line.rpartition(": ") for line in lines)
        return {name: int(value) for name, _, value in pairs if value.isdigit()}

    def refused(self) -> dict[str, int]:
        """How often it refused what it was sent, by type; empty: never."""
        return {name: count for name, count in self.stat("update_rejected").items() if count}


def _place(address: Any) -> str:
    if "pipe" in address:
        return str(address["pipe"]["path"])
    return f"{address['socket_address']['address']}:{address['socket_address']['port_value']}"


@contextmanager
def envoy(
    directory: Path,
    proxy: Proxy,
    control_plane: ControlPlane,
    protocol: Protocol,
    *,
    wait: bool = True,
    as_nobody: bool = False,
) -> Iterator[Envoy]:
    """Run an Envoy in *directory*. wait: until it has everything."""
    home = directory / f"envoy-{proxy.name}"
    home.mkdir(exist_ok=True)
    if as_nobody:
        home.chmod(0o777)
    admin = home / "admin"
    admin.unlink(missing_ok=True)
    (home / "bootstrap.yaml").write_text(yaml.safe_dump(bootstrap(proxy, control_plane, protocol)))
    words = [
        ENVOY, "-c", home / "bootstrap.yaml", "--concurrency", "1", "--disable-hot-restart", "--drain-time-s", "5",
        "--admin-address-path", admin, "-l", "warning",
    ]  # fmt: skip

    def ready() -> bool:
        if not admin.exists() or not (address := admin.read_text()):
            return False
        return not wait or Envoy(None, address).get("/ready").strip() == "LIVE"  # type: ignore[arg-type]

    with daemon(home, words, ready=ready, as_nobody=as_nobody) as running:
        yield Envoy(running, admin.read_text())
        running.process.kill()  # it has nothing to keep, and would wait for name servers that it has asked


@asynccontextmanager
async def running_envoy(
    directory: Path, proxy: Proxy, address: str, protocol: Protocol, **more: Any
) -> AsyncIterator[Envoy]:
    """Run an Envoy whose control plane is at *address*, without TLS, in this very process."""
    host, _, port = address.rpartition(":")
    block = envoy(directory, proxy, ControlPlane(host, int(port)), protocol, **more)
    running = await asyncio.to_thread(block.__enter__)
    try:
        yield running
    finally:
        await asyncio.to_thread(block.__exit__, None, None, None)


async def eventually(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait for *condition*, asked in a thread."""
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, "it never came"
        await asyncio.sleep(0.05)


@asynccontextmanager
async def workload(name: str, port: int = 0) -> AsyncIterator[int]:
    """A service's instance that says *name* to HTTP requests, and to lines over TCP. Gives its port."""
    writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        try:
            while line := await reader.readline():
                if not line.startswith(b"GET "):
                    writer.write(f"{name} ".encode() + line)
                    continue
                while (await reader.readline()).strip():
                    pass
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(name), name.encode()))
        except ConnectionError:
            pass
        finally:
            writers.discard(writer)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in list(writers):
            writer.close()
        await server.wait_closed()
        await asyncio.sleep(0)


async def ask(address: str, port: int, host: str = "mesh") -> str:
    """One HTTP request on a connection of its own; gives the body. Raises when it fails."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection(address, port)
        try:
            writer.write(f"GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
            return _body(await reader.read())
        finally:
            writer.close()


async def say(address: str, port: int) -> str:
    """One line over TCP on a connection of its own; gives who answered."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection(address, port)
        try:
            writer.write(b"hello\n")
            name, _, said = (await reader.readline()).decode().partition(" ")
            assert said == "hello\n", "the connection was closed"
            return name
        finally:
            writer.close()


def _body(reply: bytes) -> str:
    head, _, body = reply.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), reply[:200]
    return body.decode()


@dataclass
class Load:
    """Requests at a constant rate. answers: (when it was sent, who answered). failures: what went wrong."""

    answers: list[tuple[float, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def by_instance(self, since: float = 0.0) -> Counter[str]:
        """How many requests each instance answered that were sent after *since* (monotonic seconds)."""
        return Counter(name for sent, name in self.answers if sent >= since)


@asynccontextmanager
async def load(request: Callable[[], Any], rate: float = 200.0) -> AsyncIterator[Load]:
    """Send *request* at *rate* per second, whatever becomes of those before, until the block ends."""
    made = Load()
    tasks: set[asyncio.Task[None]] = set()

    async def one() -> None:
        sent = time.monotonic()
        try:
            made.answers.append((sent, await request()))
        except Exception as fault:
            made.failures.append(f"{type(fault).__name__}: {fault}")

    async def send() -> None:
        began, count = time.monotonic(), 0
        while True:
            task = asyncio.create_task(one())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            count += 1
            await asyncio.sleep(max(0.0, began + count / rate - time.monotonic()))

    sending = asyncio.create_task(send())
    try:
        yield made
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await asyncio.gather(*tasks)
