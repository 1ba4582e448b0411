"""gRPC's own xDS client, a strict third party: calls a service by name through what a control plane sends.

``python -m tests.publisher.core_client TARGET``, with ``GRPC_XDS_BOOTSTRAP_CONFIG``. For each line of its input it
makes a call, and prints who answered, or the error.
"""

import asyncio
import sys
from typing import Any

from grpc import aio


async def main(target: str) -> None:
    """Call on every line."""
    async with aio.insecure_channel(f"xds:///{target}") as channel:
        call: Any = channel.unary_unary("/test.Echo/Who")
        for _ in iter(sys.stdin.readline, ""):
            try:
                answer = await call(b"", timeout=15)
                print(answer.decode(), flush=True)
            except aio.AioRpcError as error:
                print(f"{error.code().name} {error.details()}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
