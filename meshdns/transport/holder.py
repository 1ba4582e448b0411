"""Which process holds an address, found through /proc: so that "in use" names somebody."""

import os
from pathlib import Path
from socket import SOCK_STREAM, SocketKind


def holder_of(port: int, kind: SocketKind) -> str:
    """Give ``pid 812 (knotd)`` of who has a socket on *port*, or nothing where that cannot be seen."""
    inodes = _inodes(port, "tcp" if kind == SOCK_STREAM else "udp")
    if not inodes:
        return ""
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and int(process.name) != os.getpid() and _holds(process, inodes):
            try:
                command = (process / "comm").read_text().strip()
            except OSError:
                command = "?"
            return f"pid {process.name} ({command})"
    return ""


def _inodes(port: int, table: str) -> set[str]:
    """Give the inodes of sockets bound to *port*, of either family: a dual-stack IPv6 socket blocks IPv4 too."""
    inodes = set()
    for name in (table, table + "6"):
        try:
            lines = Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            state_counts = table == "udp" or fields[3] == "0A"  # of TCP only who listens
            if state_counts and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    return inodes


def _holds(process: Path, inodes: set[str]) -> bool:
    try:
        for descriptor in (process / "fd").iterdir():
            try:
                if str(descriptor.readlink()) in inodes:
                    return True
            except OSError:  # closed since
                continue
    except OSError:  # gone, or another user's
        return False
    return False
