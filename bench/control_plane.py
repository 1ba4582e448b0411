"""A control plane that replaces its whole table when told: ADS, the names in one listener as Kuma sends them.

``python -m bench.control_plane COUNT`` writes ``listening PORT``, then for each table, beginning with 0, ``prepared
G``; each line that it reads pushes the prepared one, and ``pushed G MOMENT`` says when (CLOCK_MONOTONIC) its octets,
ready made, were handed to gRPC. Table 0 is pushed at once to whoever connects.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import meshdns.xds.core_log  # noqa: F401  # isort: skip  (before grpc)

import grpc
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryResponse
from grpc import aio

from bench.instance import names_of
from bench.probing import address_of
from tests.xds.listeners import TYPE, dynconf

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"


def response(names: list[str], generation: int) -> bytes:
    """Give the delta response that carries the table *generation*."""
    records = [{"name": name, "ips": [address_of(generation, i)]} for i, name in enumerate(names)]
    listener = dynconf(json.dumps({"records": records, "ttl": 30}, separators=(",", ":")))
    message = DeltaDiscoveryResponse(system_version_info=str(generation), type_url=TYPE, nonce=str(generation + 1))
    item = message.resources.add(name=listener.name, version=str(generation))
    item.resource.Pack(listener)
    octets: bytes = message.SerializeToString()
    return octets


def say(*words: object) -> None:
    """Write one line at once."""
    print(*words, flush=True)


async def pushes(names: list[str], context: Any) -> None:
    """Push table after table on one stream."""
    loop = asyncio.get_running_loop()
    generation = 0
    while True:
        octets = response(names, generation)
        say("prepared", generation)
        if generation and not await loop.run_in_executor(None, sys.stdin.readline):
            return
        moment = time.monotonic()
        await context.write(octets)
        say("pushed", generation, f"{moment:.6f}")
        generation += 1


async def main(count: int) -> None:
    """Serve until nobody writes to us any more."""
    names = names_of(count)
    over = asyncio.Event()

    async def stream(requests: AsyncIterator[bytes], context: Any) -> None:
        async def read() -> None:
            async for _ in requests:
                pass

        reading = asyncio.create_task(read())
        await pushes(names, context)
        reading.cancel()
        over.set()

    server = aio.server(options=(("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)))
    handler: Any = grpc.stream_stream_rpc_method_handler(stream)
    methods = {"DeltaAggregatedResources": handler}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    say("listening", server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    await over.wait()
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
