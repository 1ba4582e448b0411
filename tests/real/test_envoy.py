"""A real Envoy behind our control plane takes everything, and requests by name reach the service, whatever moves."""

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.json_format import MessageToDict

from meshdns.processes.status import read_status
from meshdns.publisher.bootstrap import ControlPlane, Proxy
from meshdns.publisher.node import read_node
from meshdns.publisher.packed import CLUSTER, ENDPOINT, LISTENER
from meshdns.publisher.session import Protocol
from meshdns.publisher.snapshot import build_snapshot
from tests.publisher.meshes import PROTOCOL, dataplane, gateway, written
from tests.publisher.published import Published, publishing
from tests.publisher.sent import MESSAGES
from tests.publisher.test_oracle import FOLDERS, RECORDED
from tests.publisher.test_resources import RICH
from tests.real.daemon import free_port
from tests.real.proxy import Envoy, ask, envoy, eventually, load, network, placeholder, running_envoy, say, workload
from tests.scale import LONG, bound, scale
from tests.serving import Serving, serving

pytestmark = pytest.mark.needs("envoy")
both = pytest.mark.parametrize("protocol", ["sotw", "delta"])
CLIENT = gateway("client")
HTTP = {PROTOCOL: "http"}
CONFIG = Path(__file__).parent.parent.parent / "config"
SETTLED = 1 if LONG else 2
"""Seconds after which a change of the mesh has reached every request."""
ECHO, LINES = "echo_default_svc_8080", "lines_default_svc_7000"


def instance(name: str, service: str, port: int, **tags: str) -> Any:
    return dataplane(name, service, port, address="127.0.0.1", tags=tags)


# ---- it takes what it is sent


def examples() -> list[list[Any]]:
    """Resources of everything there is, of the example, of every recording, and of many services."""
    found = [[*RICH], list(yaml.safe_load_all((CONFIG / "mesh" / "shop.yaml").read_text()))]
    for folder in FOLDERS:
        scenario = json.loads((RECORDED / folder / "scenario.json").read_bytes())
        wanted = scenario["node"]["id"].startswith("default.") and "scale" not in folder
        if wanted and scenario["resources"] not in found:
            found.append(scenario["resources"])
    many = [dataplane(f"s{number:05}", f"s{number:05}_default_svc_80", 8080) for number in range(scale(2_000))]
    return [*found, many]


def expected(published: Published, dns_port: int) -> dict[str, dict[str, Any]]:
    """What the publisher means the Envoy to have: type URL → name → message as JSON."""
    view = published.publication.view
    assert view is not None
    node = read_node("default.client", {"dataplane.dns.port": str(dns_port)})
    found: dict[str, dict[str, Any]] = {}
    for type_url, resources in build_snapshot(view, node).resources.items():
        found[type_url] = {
            name: MessageToDict(
                MESSAGES[type_url].FromString(AnyMessage.FromString(packed.any).value), preserving_proto_field_name=True
            )
            for name, packed in resources.items()
        }
    return found


def plain(message: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in message.items() if key != "@type"}


def has(running: Envoy, wanted: dict[str, dict[str, Any]]) -> bool:
    """Whether the Envoy has, and uses, exactly what is *wanted*."""
    for kind, type_url in (("listener", LISTENER), ("cluster", CLUSTER)):
        if {name: plain(each) for name, each in running.configured(kind).items()} != wanted[type_url]:
            return False
    endpoints = {
        name: {
            f"{place['address']}:{place['port_value']}"
            for zone in each.get("endpoints", [])
            for host in zone["lb_endpoints"]
            for place in [host["endpoint"]["address"]["socket_address"]]
        }
        for name, each in wanted[ENDPOINT].items()
    }
    seen = running.endpoints()
    return {name: seen.get(name) for name in endpoints} == endpoints


@both
@pytest.mark.parametrize("vips", ["bind", "transparent"])
async def test_envoy_refuses_nothing_and_has_what_it_was_sent(tmp_path: Path, vips: str, protocol: Protocol) -> None:
    more: dict[str, Any] = {"vips": vips, "service_vip_port": placeholder()}
    if vips == "bind":
        more["ranges"] = {"services": str(ip_network(network()).supernet(new_prefix=20)) if LONG else network()}
    proxy = Proxy("default", "client", dns_port=free_port())
    async with (
        publishing(tmp_path, CLIENT, **more) as published,
        running_envoy(tmp_path, proxy, published.address, protocol) as running,
    ):
        for resources in [*examples(), []]:
            before = published.publication.view
            published.write(*(each for each in resources if each["name"] != "client"), CLIENT)
            await eventually(lambda before=before: published.publication.view is not before)  # type: ignore[misc]
            wanted = expected(published, proxy.dns_port)
            await eventually(lambda wanted=wanted: has(running, wanted))  # type: ignore[misc]
            if vips == "bind":
                assert {name for name in running.listeners() if name.startswith("outbound:")} == {
                    name for name in wanted[LISTENER] if name.startswith("outbound:")
                }
            assert running.refused() == {}
            assert not published.notices or all("refuses" not in each for each in published.notices)


# ---- requests


@dataclass
class Mesh:
    """``meshdns serve`` that publishes, and an Envoy."""

    serving: Serving
    envoy: Envoy
    path: Path
    ads: int
    vips: str

    def write(self, *resources: Any) -> None:
        (self.path / ".new").write_text(written(*resources, CLIENT))
        (self.path / ".new").rename(self.path / "mesh.yaml")

    async def vip(self, name: str) -> str:
        """What DNS says."""
        process = await asyncio.create_subprocess_exec(
            "dig", "+short", "+time=5", "@127.0.0.1", "-p", str(self.serving.port), name, "A",
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        said, _ = await process.communicate()
        return said.decode().strip()

    async def reaches(self, request: Callable[[], Awaitable[str]], *names: str) -> None:
        """Wait until requests are spread over exactly the instances *names*."""
        async with asyncio.timeout(20):
            while True:
                try:
                    if {await request() for _ in range(12)} == set(names):
                        return
                except (OSError, AssertionError):
                    await asyncio.sleep(0.05)


def configuration(port: int, ads: int, vips: str) -> str:
    return json.dumps({
        "data_dir": "data",
        "listen": [f"127.0.0.1:{port}"],
        "drain": "0s",
        "sources": [
            {
                "name": "own", "type": "publisher", "path": "mesh", "listen": f"127.0.0.1:{ads}", "plaintext": True,
                "tokens": False, "service_vip_port": placeholder(), "ranges": {"services": vips},
            }
        ],
    })  # fmt: skip


@asynccontextmanager
async def mesh(directory: Path, protocol: Protocol, *resources: Any) -> AsyncIterator[Mesh]:
    (directory / "mesh").mkdir()
    (directory / "mesh" / "mesh.yaml").write_text(written(*resources, CLIENT))
    ads = free_port()
    async with AsyncExitStack() as stack:
        vips = network()
        block = serving(directory, configuration(0, ads, vips))
        served = await asyncio.to_thread(block.__enter__)
        stack.push_async_callback(asyncio.to_thread, block.__exit__, None, None, None)
        proxy = envoy(directory, Proxy("default", "client"), ControlPlane("127.0.0.1", ads), protocol)
        running = await asyncio.to_thread(proxy.__enter__)
        stack.push_async_callback(asyncio.to_thread, proxy.__exit__, None, None, None)
        yield Mesh(served, running, directory / "mesh", ads, vips)


@both
@pytest.mark.needs("dig")
async def test_requests_by_name_reach_every_instance_until_it_is_taken_out(tmp_path: Path, protocol: Protocol) -> None:
    async with (
        workload("one") as one,
        workload("two") as two,
        workload("lines-1") as lines,
        workload("lines-2") as more,
    ):
        first, second = instance("e1", ECHO, one, **HTTP), instance("e2", ECHO, two, **HTTP)
        tcp = [instance("l1", LINES, lines), instance("l2", LINES, more)]
        async with mesh(tmp_path, protocol, first, second, *tcp) as made:
            port = placeholder()
            vip = await made.vip("echo.default.svc.8080.mesh")
            tcp_vip = await made.vip("lines_default_svc_7000.mesh")
            assert vip
            assert tcp_vip
            assert vip != tcp_vip
            await made.reaches(lambda: ask(vip, port), "one", "two")
            await made.reaches(lambda: say(tcp_vip, port), "lines-1", "lines-2")
            async with load(lambda: ask(vip, port), 100) as web, load(lambda: say(tcp_vip, port), 100) as raw:
                await asyncio.sleep(1)
                made.write(first, tcp[0])
                taken_out = time.monotonic()
                await asyncio.sleep(SETTLED + 1.5)
            assert web.failures == []
            assert raw.failures == []
            assert web.by_instance()["two"] > 10
            assert raw.by_instance()["lines-2"] > 10
            assert web.by_instance(taken_out + SETTLED) == {"one": web.by_instance(taken_out + SETTLED).total()}
            assert set(raw.by_instance(taken_out + SETTLED)) == {"lines-1"}
            assert web.by_instance(taken_out + SETTLED).total() > 20
            assert made.envoy.refused() == {}


@both
@pytest.mark.needs("dig")
async def test_a_service_moves_to_another_port_and_nobody_notices(tmp_path: Path, protocol: Protocol) -> None:
    async with workload("old") as old, workload("new") as new, AsyncExitStack() as stack:
        made = await stack.enter_async_context(mesh(tmp_path, protocol, instance("e1", ECHO, old, **HTTP)))
        vip = await made.vip("echo.default.svc.8080.mesh")
        await made.reaches(lambda: ask(vip, placeholder()), "old")
        async with load(lambda: ask(vip, placeholder())) as requests:
            await asyncio.sleep(0.5)
            made.write(instance("e1", ECHO, new, **HTTP))
            moved = time.monotonic()
            await asyncio.sleep(SETTLED + 1)
            assert await made.vip("echo.default.svc.8080.mesh") == vip
        assert requests.failures == []
        assert requests.by_instance()["old"] > 10
        assert set(requests.by_instance(moved + SETTLED)) == {"new"}
        # a new service needs a cluster, endpoints and a listener, in turn: nothing waits for what Envoy says later
        made.write(instance("e1", ECHO, new, **HTTP), instance("f1", "fresh", old, **HTTP))
        added = time.monotonic()
        await made.reaches(lambda: _by_name(made, "fresh.mesh"), "old")
        assert time.monotonic() - added < bound(4)


@both
@pytest.mark.needs("dig")
async def test_a_publisher_that_is_killed_or_restarted_costs_no_request_and_moves_no_vip(
    tmp_path: Path, protocol: Protocol
) -> None:
    async with workload("one") as one, workload("two") as two:
        resources = [instance(f"e{number}", f"s{number}", one, **HTTP) for number in range(20)]
        async with mesh(tmp_path, protocol, *resources) as made:
            vips = {name: await made.vip(name) for name in (f"s{number}.mesh" for number in range(20))}
            assert len(set(vips.values())) == 20
            await made.reaches(lambda: ask(vips["s7.mesh"], placeholder()), "one")
            async with load(lambda: ask(vips["s7.mesh"], placeholder())) as requests:
                status = read_status(tmp_path / "data")
                sync = next(each for each in status.processes if each.name == "sync")
                os.kill(sync.pid, signal.SIGKILL)
                await eventually(lambda: _restarted(tmp_path / "data", sync.pid))
                await eventually(lambda: _connected(made.envoy))
                # what is first in the order now has the highest of the addresses that were free
                made.write(instance("a", "a", two, **HTTP), *resources)
                await made.reaches(lambda: _by_name(made, "a.mesh"), "two")
                assert await asyncio.to_thread(made.serving.stop) == 0
                again = serving(tmp_path, configuration(made.serving.port, made.ads, made.vips))
                made.serving = await asyncio.to_thread(again.__enter__)
                try:
                    await eventually(lambda: _connected(made.envoy))
                    made.write(*resources)
                    await asyncio.sleep(0.5)
                    assert {name: await made.vip(name) for name in vips} == vips
                    assert await made.vip("a.mesh") == ""
                finally:
                    await asyncio.to_thread(again.__exit__, None, None, None)
            assert requests.failures == []
            assert requests.by_instance() == {"one": len(requests.answers)}
            assert made.envoy.refused() == {}


@both
@pytest.mark.needs("dig")
async def test_what_envoy_refuses_is_in_the_status_with_its_own_reason_and_costs_nothing_else(
    tmp_path: Path, protocol: Protocol
) -> None:
    async with workload("one") as one, AsyncExitStack() as stack:
        first = instance("e1", "a", one, **HTTP)
        made = await stack.enter_async_context(mesh(tmp_path, protocol, first))
        taken = str(ip_network(made.vips)[1])
        occupant = stack.enter_context(socket.socket())
        occupant.bind((taken, placeholder()))
        occupant.listen()
        made.write(first, instance("e2", "b", one, **HTTP), instance("e3", "c", one, **HTTP))
        await eventually(lambda: bool(_notices(tmp_path / "data")))
        (notice,) = _notices(tmp_path / "data")
        name = f"outbound:{taken}:{placeholder()}"
        assert notice.startswith(f"data plane client refuses Listener {name}: ")
        assert "Address already in use" in notice
        assert len(notice) < 500
        for service in ("a.mesh", "c.mesh"):
            await made.reaches(lambda service=service: _by_name(made, service), "one")  # type: ignore[misc]
        made.write(first)
        await eventually(lambda: not _notices(tmp_path / "data"))


def _notices(data_dir: Path) -> tuple[str, ...]:
    return read_status(data_dir).sources[0].notices


async def _by_name(made: Mesh, name: str) -> str:
    vip = await made.vip(name)
    assert vip
    return await ask(vip, placeholder())


def _restarted(data_dir: Path, pid: int) -> bool:
    return any(each.name == "sync" and each.pid != pid for each in read_status(data_dir).processes)


def _connected(running: Envoy) -> bool:
    return running.stat("control_plane.connected_state") == {"control_plane.connected_state": 1}
