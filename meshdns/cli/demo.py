"""``meshdns demo``: a whole small mesh on this machine: control plane, DNS, Envoy and two services, until Ctrl-C."""

import argparse
import asyncio
import errno
import http.client
import json
import os
import shlex
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from meshdns.cli.demo_services import Instance, start
from meshdns.cli.envoy import NoEnvoyError, find
from meshdns.publisher.bootstrap import ControlPlane, Proxy, bootstrap
from meshdns.publisher.tokens import Token, read_key, sign

DIRECTORY = Path("meshdns-data/demo")
LISTEN = "127.0.0.1:15053"
ECHO, WEB = "echo_default_svc_8080", "web_default_svc_80"
CLIENT = "demo"
SYSCTL = "net.ipv4.ip_unprivileged_port_start"
READY_PATIENCE, END_PATIENCE = 30.0, 10.0

_FIRST_VIP = "127.80.0.0"
"""Envoys share their ports in silence, so whether another one is there is asked before."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb takes."""
    parser.add_argument("--config", metavar="FILE", help="not taken: it writes its own")
    parser.add_argument("--data-dir", type=Path, default=DIRECTORY, metavar="DIR", help=f"default: {DIRECTORY}")
    parser.add_argument("--listen", default=LISTEN, metavar="ADDR:PORT", help=f"of DNS, default: {LISTEN}; port 0: any")
    parser.add_argument("--envoy", type=Path, metavar="PATH", help="use this Envoy; without it, one is installed once")


def run(arguments: argparse.Namespace) -> int:
    """Run until Ctrl-C; 0, or the exit code of the server where it could not start."""
    if arguments.config is not None:
        print("meshdns: the demonstration writes its own configuration; leave out --config", file=sys.stderr)
        return 2
    return asyncio.run(_Demo(arguments.data_dir.absolute(), arguments.listen, arguments.envoy).run())


@dataclass(frozen=True, slots=True)
class Placeholder:
    """The port of every service on its VIP. problem, remedies: where it is not 80, or VIPs cannot be bound at all."""

    port: int
    problem: str = ""
    remedies: tuple[str, ...] = ()


def placeholder(envoy: Path | None) -> Placeholder:
    """Find out which port *envoy* can bind on the addresses of 127.0.0.0/8."""
    fault = _bind(80)
    if fault is None or (fault == errno.EACCES and envoy is not None and _capable(envoy)):
        return Placeholder(80)
    other = _bind(8080)
    if other == errno.EADDRNOTAVAIL:
        return Placeholder(0, "this system has only 127.0.0.1 of 127.0.0.0/8, so there is no place for VIPs")
    if fault != errno.EACCES:
        return Placeholder(8080, f"port 80 of the VIPs cannot be bound: {os.strerror(fault).lower()}")
    remedies = [f"sudo sysctl -w {SYSCTL}=80"]
    if envoy is not None:
        remedies.append(f"sudo setcap cap_net_bind_service=+ep {shlex.quote(str(envoy))}")
    return Placeholder(8080, "port 80 may not be bound by this user", tuple(remedies))


def _bind(port: int) -> int | None:
    """Give the error of binding *port*, or None where it worked."""
    with socket.socket() as tried:
        try:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((_FIRST_VIP, port))
        except OSError as fault:
            return fault.errno or errno.EINVAL
    return None


def _capable(program: Path) -> bool:
    """Tell whether *program* has been given capabilities (``setcap``)."""
    try:
        return "security.capability" in os.listxattr(program)
    except (OSError, AttributeError):
        return False


class _Demo:
    """The demonstration. Everything it starts ends with it."""

    def __init__(self, directory: Path, listen: str, envoy: Path | None) -> None:
        self._directory = directory
        self._listen = listen
        self._given_envoy = envoy
        self._began = time.monotonic()
        self._ended = asyncio.Event()

    async def run(self) -> int:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._ended.set)
        envoy, problem = await self._find_envoy()
        port = placeholder(envoy)
        if not port.port:
            envoy, problem = None, port.problem
        if problem:
            _tell(f"no Envoy, so there is DNS only: {problem}")
        elif port.problem:
            _tell(f"{port.problem}; the placeholder port is 8080 instead. For port 80:")
            for remedy in port.remedies:
                print(f"    {remedy}", file=sys.stderr)
        async with AsyncExitStack() as stack:
            services = [
                await start(stack, name, service)
                for name, service in (("echo-1", ECHO), ("echo-2", ECHO), ("web-1", WEB))
            ]
            ads = _free_port()
            self._write(services, ads, port.port or 80)
            server = await self._serve(stack)
            if isinstance(server, int):
                return server
            process, listen = server
            if envoy is not None:
                envoy = await self._start_envoy(stack, envoy, ads)
            if self._ended.is_set():
                return 0
            print(self._what_to_try(listen, port.port, envoy is not None), flush=True)
            _tell(f"ready after {time.monotonic() - self._began:.1f} s")
            waited = asyncio.create_task(process.wait())
            ended = asyncio.create_task(self._ended.wait())
            await asyncio.wait({waited, ended}, return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            if waited.done():
                _tell(f"the server ended with {waited.result()}")
                return waited.result() or 1
        _tell("ended")
        return 0

    async def _find_envoy(self) -> tuple[Path | None, str]:
        try:
            return await asyncio.to_thread(find, self._given_envoy, _tell), ""
        except NoEnvoyError as error:
            return None, str(error)

    def _write(self, services: Sequence[Instance], ads: int, port: int) -> None:
        """Write the configuration, and the mesh as Kuma's resources."""
        mesh = self._directory / "mesh"
        mesh.mkdir(parents=True, exist_ok=True)
        source = {
            "name": "demo", "type": "publisher", "path": "mesh", "listen": f"127.0.0.1:{ads}", "plaintext": True,
            "service_vip_port": port,
        }  # fmt: skip
        config = {
            "listen": [self._listen],
            "data_dir": "data",
            "drain": "0s",
            "log_level": "warning",
            "sources": [source],
        }
        _write_yaml(self._directory / "meshdns.yaml", config)
        gateway = {"gateway": {"type": "DELEGATED", "tags": {"kuma.io/service": CLIENT}}}
        resources = [_dataplane(CLIENT, gateway), *(_dataplane(each.name, _inbound(each)) for each in services)]
        _write_yaml(mesh / "mesh.yaml", *resources)

    async def _serve(self, stack: AsyncExitStack) -> "tuple[asyncio.subprocess.Process, str] | int":
        """Start the server; give it and where it listens, or its exit code."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "meshdns", "serve", "--config", str(self._directory / "meshdns.yaml"),
            stderr=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        stack.push_async_callback(_end, process)
        assert process.stderr is not None
        listen: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        telling = asyncio.create_task(_pass_on(process.stderr, listen))
        stack.callback(telling.cancel)
        ended = asyncio.create_task(self._ended.wait())
        waited: set[asyncio.Future[Any]] = {listen, telling, ended}
        await asyncio.wait(waited, timeout=READY_PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if listen.done():
            return process, listen.result()
        if telling.done():
            return await process.wait() or 1
        if self._ended.is_set():
            return 0
        _tell(f"the server is not ready after {READY_PATIENCE:g} s")
        return 1

    async def _start_envoy(self, stack: AsyncExitStack, envoy: Path, ads: int) -> Path | None:
        """Start Envoy and wait until it has a listener for every VIP; None where it does not work."""
        now = time.time()
        token = sign(Token("default", CLIENT, int(now) + 30 * 86400), read_key(self._directory / "data"), now=now)
        document = bootstrap(Proxy("default", CLIENT), ControlPlane("127.0.0.1", ads, token=token), "delta")
        file, admin = self._directory / "envoy.yaml", self._directory / "envoy.admin"
        file.touch(mode=0o600)
        _write_yaml(file, document)
        admin.unlink(missing_ok=True)
        with (self._directory / "envoy.log").open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                str(envoy), "-c", str(file), "--concurrency", "1", "--disable-hot-restart", "--drain-time-s", "5",
                "--admin-address-path", str(admin), "-l", "warning",
                stdout=output, stderr=output, stdin=asyncio.subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        stack.push_async_callback(_end, process)
        deadline = time.monotonic() + READY_PATIENCE
        while time.monotonic() < deadline and process.returncode is None and not self._ended.is_set():
            if await asyncio.to_thread(_listens, admin, 2):
                return envoy
            await asyncio.sleep(0.05)
        if not self._ended.is_set():
            _tell(f"Envoy does not work, so there is DNS only; {_relative(self._directory / 'envoy.log')} says why")
        return None

    def _what_to_try(self, listen: str, port: int, envoy: bool) -> str:
        program = Path(sys.executable).with_name("meshdns")
        meshdns = _relative(program) if program.exists() else f"{_relative(Path(sys.executable))} -m meshdns"
        instance = f"--data-dir {_relative(self._directory / 'data')}"
        first = listen.split(",", maxsplit=1)[0]
        server = "" if first == LISTEN else f" --server {first}"
        lines = [f"{meshdns} query echo.default.svc.8080.mesh{server}"]
        suffix = "" if port == 80 else f":{port}"
        if envoy:
            lines += [
                f"curl --resolve {name}:{port}:$({meshdns} query --short {name}{server}) http://{name}{suffix}/"
                for name in ("echo.default.svc.8080.mesh", "web.default.svc.80.mesh")
            ]
        lines += [f"{meshdns} {verb} {instance}" for verb in
                  ("names", "listeners", "explain echo.default.svc.8080.mesh", "status")]  # fmt: skip
        mesh = _relative(self._directory / "mesh" / "mesh.yaml")
        parts = "A control plane, DNS, an Envoy" if envoy else "A control plane, DNS"
        return "\n".join((
            "", f"{parts} and two services are running: echo (two instances) and web. In a second shell:", "",
            *(f"  {line}" for line in lines), "",
            f"The mesh is what {mesh} says: change it, for example take echo-2 out, and ask again.", "",
            "Ctrl-C ends it.", "",
        ))  # fmt: skip


async def _pass_on(stream: asyncio.StreamReader, listen: "asyncio.Future[str]") -> None:
    """Pass on what the server says, and note where it listens."""
    async for line in stream:
        text = line.decode(errors="replace")
        print(text, end="", file=sys.stderr, flush=True)
        if text.startswith("ready listen=") and not listen.done():
            listen.set_result(text.split()[1].removeprefix("listen="))


def _listens(admin: Path, count: int) -> bool:
    """Ask Envoy's admin interface, whose address is in *admin*, whether it has *count* listeners."""
    try:
        connection = http.client.HTTPConnection(admin.read_text(), timeout=2)
        try:
            connection.request("GET", "/listeners?format=json")
            document = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return len(document.get("listener_statuses", [])) >= count
    except (OSError, ValueError, http.client.HTTPException):
        return False


async def _end(process: asyncio.subprocess.Process) -> None:
    """End what we started, at last by force."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(END_PATIENCE):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _dataplane(name: str, more: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Dataplane", "mesh": "default", "name": name, "networking": {"address": "127.0.0.1", **more}}


def _inbound(instance: Instance) -> dict[str, Any]:
    tags = {"kuma.io/service": instance.service, "kuma.io/protocol": "http"}
    return {"inbound": [{"port": instance.port, "tags": tags}]}


def _write_yaml(path: Path, *documents: Any) -> None:
    with path.open("w") as file:
        yaml.safe_dump_all(documents, file, sort_keys=False)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _relative(path: Path) -> str:
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def _tell(what: str) -> None:
    print(f"demo: {what}", file=sys.stderr, flush=True)
