"""A stub of ``meshdns.processes.sync``: notes its configuration's zones, then waits to be told to finish."""

import argparse
import fcntl
import os
import signal
import sys

from meshdns.config import Config
from meshdns.processes.child import FINISH, listen_to_signals
from meshdns.processes.lifeline import follow


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lifeline", type=int)
    parser.add_argument("--config", type=int)
    given = parser.parse_args()
    follow(given.lifeline)
    listen_to_signals()
    signal.signal(FINISH, lambda *_: sys.exit(0))
    with open(given.config, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        config = Config.model_validate_json(file.read())
    alone = os.open(config.data_dir / "alone", os.O_RDWR | os.O_CREAT)
    fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)  # one that writes beside another ends by a fault
    with (config.data_dir / "syncs").open("a") as notes:
        notes.write(f"{os.getpid()} {','.join(config.zones)}\n")
    while True:
        signal.pause()


if __name__ == "__main__":
    raise SystemExit(main())
