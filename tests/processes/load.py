"""Clients that ask all the time and notice what they do not get."""

import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from meshdns.wire.client import make_query
from meshdns.wire.name import to_wire

A = 1


@dataclass
class Outcome:
    """What became of the queries. refused: the service was gone for it, and said so."""

    answers: list[tuple[float, float, bytes]] = field(default_factory=list)
    """(when it was sent, seconds until the reply, reply), in the order sent."""
    lost: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)

    def slowest(self) -> float:
        return max(latency for _, latency, _ in self.answers)

    def addresses(self) -> list[bytes]:
        """The four octets of each answer's address; an answer without one is a fault."""
        for _, _, reply in self.answers:
            assert reply[3] & 15 == 0, f"rcode {reply[3] & 15}"
            assert reply[6:8] == b"\0\1"
        return [address_in(reply) for _, _, reply in self.answers]


def address_in(reply: bytes) -> bytes:
    """The address of the one A record of *reply*, which follows the question and has a compressed owner name."""
    at = reply.index(b"\0", 12) + 5
    return reply[at + 12 : at + 16]


class Load:
    """Asks in a thread of its own, until the block ends or the service is gone."""

    def __init__(self, ask: Callable[["Load"], None]) -> None:
        self.outcome = Outcome()
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=ask, args=(self,), daemon=True)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._thread.join(30)
        assert not self._thread.is_alive()


def datagrams(where: tuple[str, int], names: list[str], *, rate: float = 100.0, patience: float = 1.0) -> Load:
    """UDP at *rate* queries a second, whatever comes back; a reply later than *patience* seconds counts as lost."""
    wires = [to_wire(name) for name in names]

    def ask(load: Load) -> None:
        outcome, waiting = load.outcome, dict[int, float]()
        got: dict[int, tuple[float, float, bytes]] = {}
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(where)
            client.setblocking(False)
            count, due = 0, time.monotonic()
            while not load.stopping.is_set() or waiting:
                now = time.monotonic()
                if not load.stopping.is_set() and now >= due:
                    due += 1 / rate
                    try:
                        client.send(make_query(wires[count % len(wires)], A, id=count & 0xFFFF))
                    except ConnectionRefusedError:  # of the one before, which then was no loss
                        _refused(outcome, waiting)
                        load.stopping.set()
                    else:
                        waiting[count & 0xFFFF] = time.monotonic()
                        count += 1
                select.select([client], [], [], max(0.0, min(due - now, 0.05)))
                try:
                    while True:
                        reply = client.recv(4096)
                        sent = waiting.pop(int.from_bytes(reply[:2], "big"), None)
                        if sent is not None:
                            latency = time.monotonic() - sent
                            got[len(got)] = (sent, latency, reply)
                except BlockingIOError:
                    pass
                except ConnectionRefusedError:
                    _refused(outcome, waiting)
                    load.stopping.set()
                for number in [number for number, sent in waiting.items() if time.monotonic() - sent > patience]:
                    outcome.lost.append(waiting.pop(number))
        outcome.answers = sorted(got.values(), key=lambda answer: answer[0])

    return Load(ask)


def _refused(outcome: Outcome, waiting: dict[int, float]) -> None:
    """The last query sent was refused: the socket was sealed before it came."""
    if waiting:
        last = max(waiting, key=lambda number: waiting[number])
        outcome.refused.append(waiting.pop(last))


def connections(where: tuple[str, int], names: list[str], *, pause: float = 0.005) -> Load:
    """TCP, a connection for each query: once it stands, the query is answered."""
    wires = [to_wire(name) for name in names]

    def ask(load: Load) -> None:
        count = 0
        while not load.stopping.is_set():
            sent = time.monotonic()
            try:
                client = socket.create_connection(where, timeout=5)
            except ConnectionRefusedError:
                load.outcome.refused.append(sent)
                return
            with client:
                reply = _exchange(client, make_query(wires[count % len(wires)], A, id=count & 0xFFFF))
            if reply is None:
                load.outcome.lost.append(sent)
            else:
                load.outcome.answers.append((sent, time.monotonic() - sent, reply))
            count += 1
            time.sleep(pause)

    return Load(ask)


def _exchange(client: socket.socket, query: bytes) -> bytes | None:
    try:
        client.sendall(struct.pack("!H", len(query)) + query)
        octets = b""
        while len(octets) < 2 or len(octets) < 2 + int.from_bytes(octets[:2], "big"):
            more = client.recv(4096)
            if not more:
                return None
            octets += more
        return octets[2:]
    except OSError:
        return None


def ask_once(where: tuple[str, int], name: str, patience: float = 1.0) -> bytes | None:
    """One query over UDP; None without a reply in *patience* seconds, or when refused."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(where)
        client.settimeout(patience)
        try:
            client.send(make_query(to_wire(name), A, id=7))
            return client.recv(4096)
        except (TimeoutError, ConnectionRefusedError):
            return None
