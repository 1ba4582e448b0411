"""Others' servers for tests of a whole instance: in threads of the test, with a log of every name that reached them."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.reversename
import dns.rrset

from tests.real.daemon import free_port

MESH = dns.name.from_text("mesh.")
REVERSE = [dns.name.from_text(f"{n}.in-addr.arpa.") for n in range(240, 256)]
GOOD = "192.0.2.1"

Answer = Callable[[dns.message.Message], dns.message.Message | None]


def usual(query: dns.message.Message) -> dns.message.Message:
    """Answer one address to A, nothing to other types."""
    reply = dns.message.make_response(query, recursion_available=True)
    (question,) = query.question
    if question.rdtype == dns.rdatatype.A:
        reply.answer.append(dns.rrset.from_text(question.name, 60, "IN", "A", GOOD))
    return reply


@dataclass
class Tap:
    """A server over UDP and TCP. silent: it hears and says nothing."""

    host: str
    port: int
    answer: Answer = usual
    silent: bool = False
    log: list[dns.name.Name] = field(default_factory=list)

    def leaked(self) -> list[dns.name.Name]:
        """Give the names of the mesh and of its reverse zones that were asked here: there must be none."""
        zones = [MESH, dns.name.from_text("mesh.local."), *REVERSE]
        return [name for name in self.log if any(name.is_subdomain(zone) for zone in zones)]

    def asked(self) -> list[str]:
        """Give the names asked, probes left out."""
        return [text for text in map(str, self.log) if text != "." and "loop-test" not in text]

    def reply(self, octets: bytes) -> bytes | None:
        try:
            query = dns.message.from_wire(octets)
        except dns.exception.DNSException:
            return None
        if not query.question:
            return None
        self.log.append(query.question[0].name)
        if self.silent:
            return None
        reply = self.answer(query)
        return None if reply is None else reply.to_wire(max_size=65535)


def two_hosts_port() -> int:
    """Give a port that is free on 127.0.0.1 and 127.0.0.2, for UDP and TCP."""
    while True:
        port = free_port()
        with socket.socket(type=socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            try:
                udp.bind(("127.0.0.2", port))
                tcp.bind(("127.0.0.2", port))
            except OSError:
                continue
            return port


@contextlib.contextmanager
def tap(host: str = "127.0.0.1", port: int = 0, answer: Answer = usual) -> Iterator[Tap]:
    """Run a server until the block ends."""
    made = Tap(host, port or free_port(), answer)
    udp = socket.socket(type=socket.SOCK_DGRAM)
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    udp.bind((host, made.port))
    tcp = socket.socket()
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    tcp.bind((host, made.port))
    tcp.listen(64)
    ending = threading.Event()

    def datagrams() -> None:
        udp.settimeout(0.1)
        while not ending.is_set():
            try:
                octets, client = udp.recvfrom(65535)
            except TimeoutError:
                continue
            reply = made.reply(octets)
            if reply is not None:
                with contextlib.suppress(OSError):
                    udp.sendto(reply, client)

    def streams() -> None:
        tcp.settimeout(0.1)
        while not ending.is_set():
            try:
                connection, _ = tcp.accept()
            except TimeoutError:
                continue
            thread = threading.Thread(target=stream, args=(connection,))
            threads.append(thread)
            thread.start()

    def stream(connection: socket.socket) -> None:
        buffered = b""
        connection.settimeout(0.1)
        with connection:
            while not ending.is_set():
                try:
                    octets = connection.recv(65535)
                except TimeoutError:
                    continue
                except OSError:
                    return
                if not octets:
                    return
                buffered += octets
                while len(buffered) >= 2 and len(buffered) >= 2 + int.from_bytes(buffered[:2], "big"):
                    end = 2 + int.from_bytes(buffered[:2], "big")
                    reply = made.reply(buffered[2:end])
                    buffered = buffered[end:]
                    if reply is not None:
                        with contextlib.suppress(OSError):
                            connection.sendall(len(reply).to_bytes(2, "big") + reply)

    threads = [threading.Thread(target=each) for each in (datagrams, streams)]
    for thread in list(threads):
        thread.start()
    try:
        yield made
    finally:
        ending.set()
        for thread in threads:
            thread.join()
        udp.close()
        tcp.close()


def ask(
    port: int, name: str, rdtype: str = "A", *, timeout: float = 6, host: str = "127.0.0.1", **options: object
) -> tuple[bytes | None, float]:
    """Give the reply to one datagram (None for none) and the seconds until it came."""
    query = dns.message.make_query(name, rdtype, **options).to_wire()  # type: ignore[arg-type]
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.connect((host, port))
        client.settimeout(timeout)
        began = time.monotonic()
        client.send(query)
        try:
            reply = client.recv(65535)
        except TimeoutError:
            return None, time.monotonic() - began
        return reply, time.monotonic() - began


def config(*servers: str, extra: str = "", records: Path | None = None, zone: str = ".") -> str:
    """Give a configuration that forwards *zone* to *servers* and serves the probe's records."""
    path = records or Path(__file__).parent.parent / "data" / "dnsprobe" / "records.yaml"
    listed = ", ".join(f'"{server}"' for server in servers)
    return f"""
listen: ["127.0.0.1:0"]
drain: 0s
sources: [{{name: probe, type: file, path: {path}}}]
upstreams: [{{zone: "{zone}", servers: [{listed}]}}]
{extra}
"""
