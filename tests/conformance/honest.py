"""A client that asks one name again and again, in a process of its own: ``honest.py SECONDS PORT [PORT …]``.

Several servers are asked in turn, so that what befalls the whole machine befalls all of them alike. It runs before all
others where it may (root): what is measured is how long a server keeps it waiting, not how long those who abuse that
server on the same two cores keep it from its own work. Prints as JSON, a list with an entry for each port, how many
were asked and lost, and the median and 99th percentile of the rest in milliseconds.
"""

import contextlib
import json
import os
import secrets
import socket
import sys
import time

PAUSE = 0.005
"""Seconds between two questions."""

QUESTION = b"\3web\4mesh\0\0\1\0\1"


class Asked:
    """One server, and what it did. seconds: of each answer."""

    def __init__(self, port: int) -> None:
        self._client = socket.socket(type=socket.SOCK_DGRAM)
        self._client.connect(("127.0.0.1", port))
        self._client.settimeout(5.0)  # what is late is seen in the figures
        self.seconds: list[float] = []
        self.lost = 0

    def ask(self) -> None:
        """Ask once."""
        id = secrets.token_bytes(2)
        began = time.perf_counter()
        self._client.send(id + b"\1\0\0\1\0\0\0\0\0\0" + QUESTION)
        try:
            while self._client.recv(4096)[:2] != id:
                pass
            self.seconds.append(time.perf_counter() - began)
        except TimeoutError:
            self.lost += 1

    def told(self) -> dict[str, float]:
        """Give the figures."""
        times = sorted(self.seconds)
        at = {"p50": 0.5, "p99": 0.99, "max": 1.0}
        shown = {key: round(times[min(len(times) - 1, int(len(times) * part))] * 1000, 3) for key, part in at.items()}
        return {"asked": len(times) + self.lost, "lost": self.lost, **shown}


def main() -> None:
    """Ask, and print the figures."""
    with contextlib.suppress(OSError, AttributeError):  # not allowed, or not Linux
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    end = time.monotonic() + float(sys.argv[1])
    servers = [Asked(int(port)) for port in sys.argv[2:]]
    while time.monotonic() < end:
        for server in servers:
            server.ask()
            time.sleep(PAUSE)
    print(json.dumps([server.told() for server in servers]))


if __name__ == "__main__":
    main()
