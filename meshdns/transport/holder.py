"""Which process holds an address, found through /proc: so that "in use" names somebody."""

import os
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from socket import SOCK_STREAM, SocketKind
from typing import NamedTuple

IPAddress = IPv4Address | IPv6Address


class Entry(NamedTuple):
    """One socket of a table in /proc/net. user: the number of its owner. link: what /proc/<pid>/fd shows for it."""

    address: IPAddress
    port: int
    user: str
    link: str


def holder_of(host: str, port: int, kind: SocketKind) -> str:
    """Give ``pid 812 (knotd)`` of who has what *host* and *port* would need.

    Where that process cannot be seen, its user, or nothing.
    """
    in_way = _in_way(ip_address(host), port, "tcp" if kind == SOCK_STREAM else "udp")
    if not in_way:
        return ""
    links = {entry.link for entry in in_way}
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and int(process.name) != os.getpid() and _holds(process, links):
            try:
                command = (process / "comm").read_text().strip()
            except OSError:
                command = "?"
            return f"pid {process.name} ({command})"
    return f"a process of user {in_way[0].user}"


def _in_way(wanted: IPAddress, port: int, table: str) -> list[Entry]:
    """Give the sockets that *wanted* collides with, those of its own family first."""
    families = (table, table + "6") if wanted.version == 4 else (table + "6",)
    for name in families:  # a dual-stack IPv6 socket blocks IPv4 too
        found = [
            entry
            for entry in _entries(name)
            if entry.port == port and (entry.address == wanted or entry.address.is_unspecified or wanted.is_unspecified)
        ]
        if found:
            return found
    return []


def _entries(name: str) -> Iterator[Entry]:
    try:
        lines = Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    except OSError:
        return
    for line in lines:
        fields = line.split()
        if name.startswith("tcp") and fields[3] != "0A":  # of TCP only who listens
            continue
        address, _, port = fields[1].rpartition(":")
        yield Entry(parse_address(address), int(port, 16), fields[7], f"socket:[{fields[9]}]")


def parse_address(text: str) -> IPAddress:
    """Give the address that /proc/net writes as one or four words of eight hexadecimal digits, in host byte order."""
    words = (bytes.fromhex(text[at : at + 8]) for at in range(0, len(text), 8))
    octets = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    return IPv4Address(octets) if len(octets) == 4 else IPv6Address(octets)


def _holds(process: Path, links: set[str]) -> bool:
    try:
        for descriptor in (process / "fd").iterdir():
            try:
                if str(descriptor.readlink()) in links:
                    return True
            except OSError:  # closed since
                continue
    except OSError:  # gone, or another user's
        return False
    return False
