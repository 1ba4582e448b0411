"""A process that echoes over UDP and TCP: ``python -m tests.transport.echo_server DESCRIPTORS``; ends with its stdin.

It may open no more than DESCRIPTORS; the first line that it prints is its port.
"""

import asyncio
import logging
import resource
import sys

from meshdns.transport.settings import TcpLimits
from meshdns.transport.sockets import bind
from meshdns.transport.tcp import TcpServer
from meshdns.transport.udp import listener


async def serve() -> None:
    logging.basicConfig(format="%(levelname)s %(message)s")
    ((endpoint,),) = bind(["127.0.0.1:0"]).rows
    udp, tcp = listener(endpoint.udp, lambda query, _: query), TcpServer(TcpLimits())
    await udp.start()
    await tcp.listen(endpoint.tcp, lambda queries, _: queries)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, ended.set)
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]),) * 2)
    print(endpoint.udp.getsockname()[1], flush=True)
    await ended.wait()
    tcp.stop_listening()
    await udp.close()
    await tcp.wait_finished(1)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_utime, flush=True)


if __name__ == "__main__":
    asyncio.run(serve())
