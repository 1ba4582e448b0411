"""A supervisor whose children are stubs: ``python -m tests.processes.stub_instance DIRECTORY [--impatient] [--newer]``.

The configuration is read from ``DIRECTORY/config.json``; the store's check and its setting aside are noted in
``DIRECTORY/checks``. The stub responder echoes datagrams; a datagram may be an order to it instead.
--impatient: who hangs is killed after 1.5 s. --newer: the store is of a newer format. Where there is a file
``DIRECTORY/broken``, this program cannot even start; ``mute``: its responders end at once; ``slow``: its trials last.
"""

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from meshdns.config import Config
from meshdns.errors import ConfigError, Fault, StoreError
from meshdns.processes import crew
from meshdns.processes.child import FINISH
from meshdns.processes.parts import Parts
from meshdns.processes.service import serve
from meshdns.processes.status_file import Number, StatusWriter
from meshdns.transport.sockets import Endpoint

ORDERS = {b"bus": signal.SIGBUS, b"abort": signal.SIGABRT}


def respond(config: Config, endpoints: Sequence[Endpoint], status: StatusWriter) -> int:
    if (config.data_dir.parent / "mute").exists():
        return 4
    udp = endpoints[0].udp
    finishing: list[int] = []
    signal.signal(FINISH, lambda *_: finishing.append(1))
    udp.settimeout(0.02)
    for place in (Number.SERVING, Number.DELIVERED):
        status.row[place] = 1
    status.row[Number.NAMES] = 28
    while True:
        status.beat()
        if finishing:
            udp.setblocking(False)
        try:
            query, client = udp.recvfrom(512)
        except BlockingIOError:
            return 0
        except TimeoutError:
            continue
        status.row[Number.UDP_QUERIES] += 1
        if query in ORDERS:
            os.kill(os.getpid(), ORDERS[query])
        elif query.startswith(b"exit "):
            return int(query[5:])
        elif query == b"deaf":
            signal.signal(FINISH, signal.SIG_IGN)
        udp.sendto(b"%d %s %s" % (os.getpid(), ",".join(config.zones).encode(), query), client)


def main() -> int:
    directory = Path(sys.argv[1])
    if (directory / "broken").exists():
        raise RuntimeError("this version cannot start")

    def look(data_dir: Path) -> None:
        while (data_dir.parent / "slow").exists():
            time.sleep(0.01)

    def read() -> Config:
        text = (directory / "config.json").read_text()
        if text == "bad":
            raise ConfigError("config.json", tuple(Fault(f"key{number}", "wrong") for number in range(20)))
        return Config.model_validate_json(text)

    def note(text: str) -> str:
        with (directory / "checks").open("a") as file:
            file.write(text + "\n")
        return text

    def check(data_dir: Path) -> tuple[str, bool]:
        if "--newer" in sys.argv:
            raise StoreError(f"{data_dir}: the store has format 2, this meshdns knows format 1 only")
        return note("sound"), False

    if "--impatient" in sys.argv:
        crew.HUNG_RESPONDER = 1.5
        crew.LATE = 0.8
    return serve(
        read,
        parts=Parts(
            respond=respond,
            sync="tests.processes.stub_sync",
            check=check,
            look=look,
            set_aside=lambda data_dir: note("set aside"),
        ),
        trial=int(sys.argv[-1]) if "--trial" in sys.argv else None,
    )


if __name__ == "__main__":
    raise SystemExit(main())
