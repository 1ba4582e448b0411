"""Names asked through an instance whose upstream loses packets: run in a network namespace of one's own.

``lossy.py DIRECTORY COUNT PERCENT`` prints as JSON how many of COUNT names were answered in time, and the slowest. In
time is within 3 s, or 6 s where other tests run beside.
"""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

from tests.scale import LONG
from tests.serving import serving
from tests.upstream.tap import config, tap

PORT = 5353
PATIENCE = 3.0 if LONG else 6.0
TOGETHER = 50


class _Client(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.waiting: dict[bytes, asyncio.Future[bytes]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.DatagramTransport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: object) -> None:
        waiting = self.waiting.pop(data[:2], None)
        if waiting is not None and not waiting.done():
            waiting.set_result(data)


async def ask_all(port: int, count: int) -> list[float | None]:
    """Give the seconds until the answer to each name, None for one that was not answered in time or not right."""
    _, client = await asyncio.get_running_loop().create_datagram_endpoint(_Client, remote_addr=("127.0.0.1", port))
    room = asyncio.Semaphore(TOGETHER)
    loop = asyncio.get_running_loop()

    async def one(number: int) -> float | None:
        name = b"\x07n%06d\x07example" % number
        id = number.to_bytes(2, "big")
        async with room:
            waiting = client.waiting[id] = loop.create_future()
            began = time.monotonic()
            client.transport.sendto(id + b"\1\0\0\1\0\0\0\0\0\0" + name + b"\0\0\1\0\1")
            try:
                async with asyncio.timeout(PATIENCE):
                    reply = await waiting
            except TimeoutError:
                return None
            return time.monotonic() - began if reply[3] & 15 == 0 and reply[6:8] == b"\0\1" else None

    try:
        return await asyncio.gather(*(one(number) for number in range(count)))
    finally:
        client.transport.close()


def main() -> None:
    """Lose packets to the upstream, ask, and print the figures."""
    directory, count, percent = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    run = ["ip link set lo up", "nft add table inet lossy"]
    run.append("nft add chain inet lossy input { type filter hook input priority 0 ; }")
    for protocol in ("udp", "tcp"):
        run.append(f"nft add rule inet lossy input {protocol} dport {PORT} numgen random mod 100 < {percent} drop")
    for command in run:
        subprocess.run(command.split(), check=True)
    with tap(port=PORT) as upstream, serving(directory, config(f"127.0.0.1:{PORT}")) as instance:
        seconds = asyncio.run(ask_all(instance.port, count))
        answered = [each for each in seconds if each is not None]
        leaked = len(upstream.leaked())
        faults = "Traceback" in instance.logged()
    print(json.dumps({"answered": len(answered), "slowest": max(answered), "leaked": leaked, "faults": faults}))


if __name__ == "__main__":
    main()
