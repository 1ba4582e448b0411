"""A client that asks one name again and again, in a process of its own: ``honest.py PORT SECONDS [NAME]``.

Prints as JSON how many were asked and lost, and the median and 99th percentile of the rest in milliseconds.
"""

import json
import secrets
import socket
import sys
import time

PAUSE = 0.005
"""Seconds between two questions."""


def main() -> None:
    """Ask, and print the figures."""
    port, seconds = int(sys.argv[1]), float(sys.argv[2])
    name = sys.argv[3] if len(sys.argv) > 3 else "web.mesh"
    question = b"".join(bytes((len(label),)) + label.encode() for label in name.split(".")) + b"\0\0\1\0\1"
    times: list[float] = []
    lost = 0
    end = time.monotonic() + seconds
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", port))
        client.settimeout(1.0)
        while time.monotonic() < end:
            id = secrets.token_bytes(2)
            began = time.perf_counter()
            client.send(id + b"\1\0\0\1\0\0\0\0\0\0" + question)
            try:
                while client.recv(4096)[:2] != id:
                    pass
                times.append(time.perf_counter() - began)
            except TimeoutError:
                lost += 1
            time.sleep(PAUSE)
    times.sort()
    at = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    told = {key: round(times[min(len(times) - 1, int(len(times) * part))] * 1000, 3) for key, part in at.items()}
    print(json.dumps({"asked": len(times) + lost, "lost": lost, **told}))


if __name__ == "__main__":
    main()
