"""A publication for tests, in this process, at a free port; and a client that says exactly what a test wants."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envoy.config.core.v3.base_pb2 import Node
from envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)
from grpc import aio

from meshdns.inventory.event import Pushed, SourceEvent
from meshdns.publisher.packed import CLUSTER
from meshdns.publisher.publication import Publication
from meshdns.publisher.server import SERVICE
from meshdns.publisher.session import Protocol
from tests.publisher.meshes import settings, written

PATIENCE = 40.0


@dataclass
class Published:
    """A publication whose events are taken as they come."""

    publication: Publication
    address: str
    mesh: Path
    data_dir: Path
    events: list[SourceEvent] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)

    def write(self, *resources: Any, name: str = "mesh.yaml") -> None:
        """Replace a file as an editor does."""
        (self.mesh / ".new").write_text(written(*resources))
        (self.mesh / ".new").rename(self.mesh / name)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for *condition*, looked at after each event."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await self.came.wait()
                self.came.clear()

    @property
    def notices(self) -> tuple[str, ...]:
        """Those of the last push."""
        return next((each.notices for each in reversed(self.events) if isinstance(each, Pushed)), ())


@asynccontextmanager
async def publishing(directory: Path, *resources: Any, **more: Any) -> AsyncIterator[Published]:
    """Publish *resources*; plaintext and without tokens unless *more* says otherwise."""
    mesh = directory / "mesh"
    mesh.mkdir(exist_ok=True)
    data_dir = directory / "data"
    data_dir.mkdir(exist_ok=True)
    chosen = settings(mesh, **({"plaintext": True, "tokens": False, "listen": "127.0.0.1:0"} | more))
    addresses: list[str] = []
    publication = Publication(chosen, data_dir=data_dir, listening=addresses.append)
    await publication.start()
    published = Published(publication, addresses[0], mesh, data_dir)
    if resources:
        published.write(*resources)

    async def follow() -> None:
        async for event in publication.events():
            published.events.append(event)
            published.came.set()

    following = asyncio.create_task(follow())
    try:
        yield published
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        publication.close()


class Stream:
    """One ADS stream, message by message."""

    def __init__(self, call: Any, protocol: Protocol) -> None:
        self.call = call
        self.protocol = protocol

    async def ask(self, type_url: str = CLUSTER, node: str = "", metadata: Any = None, **more: Any) -> None:
        """Send a request. node: its id; metadata: of the node; more: fields of the message."""
        kind = DeltaDiscoveryRequest if self.protocol == "delta" else DiscoveryRequest
        request = kind(type_url=type_url, **more)
        if node:
            request.node.CopyFrom(Node(id=node))
            request.node.metadata.update(metadata or {})
        await self.call.write(request.SerializeToString())

    async def next(self) -> Any:
        """The next response."""
        message = await asyncio.wait_for(self.call.read(), PATIENCE)
        assert message is not aio.EOF
        kind = DeltaDiscoveryResponse if self.protocol == "delta" else DiscoveryResponse
        return kind.FromString(message)

    async def refusal(self) -> tuple[str, str]:
        """The code and text with which the stream ends."""
        async with asyncio.timeout(PATIENCE):
            try:
                while await self.call.read() is not aio.EOF:
                    pass
            except aio.AioRpcError:
                pass
            return (await self.call.code()).name, await self.call.details()


@asynccontextmanager
async def stream(
    address: str, protocol: Protocol, *authorization: str, options: Sequence[tuple[str, int]] = ()
) -> AsyncIterator[Stream]:
    """A stream to a server without TLS. options: of the channel."""
    method = "DeltaAggregatedResources" if protocol == "delta" else "StreamAggregatedResources"
    async with aio.insecure_channel(address, options=(("grpc.use_local_subchannel_pool", 1), *options)) as channel:
        call: Any = channel.stream_stream(f"/{SERVICE}/{method}")(
            metadata=tuple(("authorization", value) for value in authorization)
        )
        try:
            yield Stream(call, protocol)
        finally:
            call.cancel()
