"""A stand-in for a control plane: gives what a real one sent, from ``recording/``, over gRPC to whoever connects.

Each step of the recording is the whole difference to the step before. A client that comes back and says what it has
gets only what it lacks, as from the real one.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from envoy.service.discovery.v3.ads_pb2_grpc import (
    AggregatedDiscoveryServiceServicer,
    add_AggregatedDiscoveryServiceServicer_to_server,
)
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryResponse
from grpc import aio

RECORDING = Path(__file__).parent / "recording"


class Replay(AggregatedDiscoveryServiceServicer):  # type: ignore[misc]  # generated, without types
    """The control plane: one mesh, which ``step`` moves on."""

    def __init__(self, recording: Path = RECORDING) -> None:
        self._steps = [DeltaDiscoveryResponse.FromString(path.read_bytes()) for path in sorted(recording.glob("*.pb"))]
        self._resources: dict[str, Any] = {}
        self._version = ""
        self._moves = 0
        self._moved = asyncio.Condition()
        self._server = aio.server()

    async def start(self) -> str:
        """Listen on a free loopback port; give the address."""
        await self.step()
        add_AggregatedDiscoveryServiceServicer_to_server(self, self._server)
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return f"127.0.0.1:{port}"

    async def step(self) -> bool:
        """Move the mesh on by one recorded step; False when there is none left."""
        if not self._steps:
            return False
        async with self._moved:
            recorded = self._steps.pop(0)
            self._resources.update({resource.name: resource for resource in recorded.resources})
            for name in recorded.removed_resources:
                self._resources.pop(name, None)
            self._version = recorded.system_version_info
            self._moves += 1
            self._moved.notify_all()
        return True

    async def stop(self) -> None:
        """End every stream."""
        await self._server.stop(0)

    async def DeltaAggregatedResources(  # noqa: N802  # the name that the generated code calls
        self, request_iterator: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[DeltaDiscoveryResponse]:
        """Serve one stream: what the client lacks at first, then each change."""
        first = await anext(aiter(request_iterator))
        has = dict(first.initial_resource_versions)
        listening = asyncio.create_task(_listen(request_iterator, context))
        nonce = 0
        try:
            while True:
                seen, versions = self._moves, {name: each.version for name, each in self._resources.items()}
                news = [self._resources[name] for name, version in versions.items() if has.get(name) != version]
                gone = [name for name in has if name not in versions]
                if news or gone or not nonce:
                    nonce += 1
                    yield DeltaDiscoveryResponse(
                        system_version_info=self._version,
                        type_url=first.type_url,
                        resources=news,
                        removed_resources=gone,
                        nonce=str(nonce),
                    )
                    has = versions
                async with self._moved:
                    while self._moves == seen:
                        await self._moved.wait()
        finally:
            listening.cancel()


async def _listen(requests: AsyncIterator[Any], context: Any) -> None:
    """Read what the client says: acknowledgements, which change nothing, and complaints."""
    async for request in requests:
        if request.HasField("error_detail"):
            print(f"demo: the client refused response {request.response_nonce}: {request.error_detail.message}")
    context.cancel()
