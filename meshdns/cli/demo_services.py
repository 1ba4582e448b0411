"""The services of the demonstration: each instance says who it is and what it was asked."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass

LONGEST = 64
"""Lines of a request's head; who sends more is hung up on."""


@dataclass(frozen=True, slots=True)
class Instance:
    """A running instance of a service."""

    name: str
    service: str
    port: int


async def start(stack: AsyncExitStack, name: str, service: str) -> Instance:
    """Start an instance on a free port of this machine; it ends with *stack*."""
    server = await asyncio.start_server(lambda reader, writer: _serve(name, reader, writer), "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]

    async def close() -> None:
        server.close()
        await server.wait_closed()

    stack.push_async_callback(close)
    return Instance(name, service, port)


async def _serve(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    port = writer.get_extra_info("sockname")[1]
    try:
        while (request := (await reader.readline()).decode("latin-1").split())[1:]:
            host = ""
            for _ in range(LONGEST):
                key, _, value = (await reader.readline()).decode("latin-1").partition(":")
                if not value:
                    break
                if key.lower() == "host":
                    host = value.strip()
            else:
                break
            body = f"{name} on port {port} was asked for {request[1]} of {host}\n".encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n" % len(body) + body
            )
            await writer.drain()
    except (ConnectionError, ValueError):  # gone, or a line without end
        pass
    finally:
        writer.close()
