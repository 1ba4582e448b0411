"""gRPC's own xDS client takes what our server sends: a stricter reader than Envoy, with named subscriptions."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from envoy.config.listener.v3.api_listener_pb2 import ApiListener
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    HttpFilter,
)
from grpc import aio

from meshdns.publisher.mesh_view import MeshView
from meshdns.publisher.node import Node
from meshdns.publisher.packed import LISTENER
from meshdns.publisher.resources.filters import routes_to
from meshdns.publisher.resources.packing import any_of, pack
from meshdns.publisher.server import AdsServer
from meshdns.publisher.snapshot import Snapshot, build_snapshot
from meshdns.publisher.source import PublisherSource
from tests.publisher.meshes import PROTOCOL, dataplane, gateway, settings, written

ROOT = Path(__file__).parent.parent.parent
SERVICE = "who"


def with_api_listener(view: MeshView, node: Node) -> Snapshot:
    """What a node is sent, and the kind of listener that a program without a proxy asks for by name."""
    snapshot = build_snapshot(view, node)
    manager = HttpConnectionManager(
        route_config=routes_to(SERVICE, SERVICE, SERVICE, retry=False),
        http_filters=[HttpFilter(name="router", typed_config=any_of(Router()))],
    )
    listener = pack(Listener(name="who.mesh", api_listener=ApiListener(api_listener=any_of(manager))))
    listeners = {**snapshot.resources[LISTENER], "who.mesh": listener}
    return Snapshot({**snapshot.resources, LISTENER: listeners})


@asynccontextmanager
async def instance(name: str) -> AsyncIterator[int]:
    async def who(request: bytes, context: Any) -> bytes:
        return name.encode()

    server = aio.server()
    handlers = {"Who": grpc.unary_unary_rpc_method_handler(who)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


async def test_grpcs_own_client_follows_a_service_from_instance_to_instance(tmp_path: Path) -> None:
    async with instance("one") as one, instance("two") as two:
        mesh = tmp_path / "mesh.yaml"

        def write(*ports: int) -> None:
            tags = {PROTOCOL: "grpc"}
            each = [dataplane(f"w{port}", SERVICE, port, address="127.0.0.1", tags=tags) for port in ports]
            mesh.with_suffix(".new").write_text(written(gateway("client"), *each))
            mesh.with_suffix(".new").rename(mesh)

        write(one)
        source = PublisherSource(
            settings(mesh, plaintext=True, listen="127.0.0.1:0", tokens=False), data_dir=tmp_path / "data"
        )
        server = AdsServer(source, certificate=None, key=None, build=with_api_listener)
        address = await server.start()

        async def follow() -> None:
            async for _ in source.events():
                pass

        following = asyncio.create_task(follow())
        bootstrap = {
            "xds_servers": [
                {"server_uri": address, "channel_creds": [{"type": "insecure"}], "server_features": ["xds_v3"]}
            ],
            "node": {"id": "default.client"},
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.publisher.core_client", "who.mesh",
            cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(bootstrap), "GRPC_VERBOSITY": "ERROR"},
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None

        async def call() -> str:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"\n")
            return (await asyncio.wait_for(process.stdout.readline(), 20)).decode().strip()

        try:
            assert await call() == "one"
            write(one, two)
            async with asyncio.timeout(20):
                while {await call() for _ in range(4)} != {"one", "two"}:
                    pass
                write(two)
                while {await call() for _ in range(4)} != {"two"}:
                    pass
            assert server.refusals == ()
            assert server.data_planes == ("client",)
        finally:
            process.stdin.close()
            await process.wait()
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await server.stop()
            source.close()
