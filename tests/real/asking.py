"""What is asked of every real resolver in front of meshdns, and what it has to say."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype

from meshdns.kubernetes.forwarders import Target
from meshdns.kubernetes.forwarders.target import parse_endpoint
from tests.serving import Serving, serving

BIG = tuple(f"240.1.0.{number}" for number in range(1, 61))
RECORDS = f"""
records:
  web.mesh: 240.0.0.1
  dual.mesh: [240.0.0.3, "fd00:fd00::3"]
  six.mesh: "fd00:fd00::6"
  echo.default.svc.80.mesh: {{addresses: 240.0.0.4, service: echo_default_svc_80, ports: [{{number: 80}}]}}
  "*.wild.mesh": 240.0.0.2
  web.edge.mesh.local: 240.0.0.9
  big.mesh: [{", ".join(BIG)}]
  gone.mesh: {{addresses: 240.0.0.66, ttl: 2}}
"""
REVERSE = (ip_network("240.0.0.0/4"), ip_network("fd00:fd00::/64"))


@dataclass(frozen=True)
class Asked:
    """A question, and its answer: rcode and the addresses (or names) given."""

    name: str
    rdtype: str
    rcode: str = "NOERROR"
    answer: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}-{self.rdtype}"


QUESTIONS = [
    Asked("web.mesh", "A", answer=("240.0.0.1",)),
    Asked("wEb.MeSh", "A", answer=("240.0.0.1",)),
    Asked("web.mesh", "AAAA"),
    Asked("web.mesh", "TXT"),
    Asked("six.mesh", "AAAA", answer=("fd00:fd00::6",)),
    Asked("six.mesh", "A"),
    Asked("dual.mesh", "A", answer=("240.0.0.3",)),
    Asked("dual.mesh", "AAAA", answer=("fd00:fd00::3",)),
    Asked("echo.default.svc.80.mesh", "A", answer=("240.0.0.4",)),
    Asked("default.svc.80.mesh", "A"),
    Asked("any.thing.wild.mesh", "A", answer=("240.0.0.2",)),
    Asked("web.edge.mesh.local", "A", answer=("240.0.0.9",)),
    Asked("nobody.mesh", "A", "NXDOMAIN"),
    Asked("nobody.mesh", "AAAA", "NXDOMAIN"),
    Asked("nobody.mesh.local", "A", "NXDOMAIN"),
    Asked("big.mesh", "A", answer=BIG),
    Asked("1.0.0.240.in-addr.arpa", "PTR", answer=("web.mesh.",)),
    Asked("7.7.7.250.in-addr.arpa", "PTR", "NXDOMAIN"),
    Asked(ip_address("fd00:fd00::3").reverse_pointer, "PTR", answer=("dual.mesh.",)),
    Asked(ip_address("fd00:fd00::99").reverse_pointer, "PTR", "NXDOMAIN"),
]


def ask(
    port: int,
    name: str,
    rdtype: str,
    *,
    tcp: bool = False,
    timeout: float = 5.0,
    host: str = "127.0.0.1",
    **options: object,
) -> dns.message.Message:
    """Ask as a stub resolver does: without EDNS unless *options* say so, over TCP when truncated."""
    query = dns.message.make_query(name, rdtype, **options)  # type: ignore[arg-type]
    if tcp:
        return dns.query.tcp(query, host, timeout, port)
    return dns.query.udp_with_fallback(query, host, timeout, port)[0]


def answers(reply: dns.message.Message, rdtype: str) -> tuple[str, ...]:
    """Give the data of all records of *rdtype* in the answer, as text in the order of numbers."""
    wanted = dns.rdatatype.from_text(rdtype)
    found = [rdata for rrset in reply.answer if rrset.rdtype == wanted for rdata in rrset]
    return tuple(rdata.to_text() for rdata in sorted(found))


def answers_mesh(port: int) -> bool:
    """Tell whether the server on *port* gives a mesh name."""
    try:
        return answers(ask(port, "web.mesh", "A", timeout=0.3), "A") == ("240.0.0.1",)
    except (dns.exception.DNSException, OSError):
        return False


def check(port: int, asked: Asked, *, tcp: bool) -> None:
    """Assert that *asked* is answered as it has to be, denials with the SOA that lets them be kept for 5 s."""
    reply = ask(port, asked.name, asked.rdtype, tcp=tcp)
    assert dns.rcode.to_text(reply.rcode()) == asked.rcode, reply
    assert answers(reply, asked.rdtype) == asked.answer, reply
    if not asked.answer:
        soa = [rrset for rrset in reply.authority if rrset.rdtype == dns.rdatatype.SOA]
        assert soa, reply
        assert soa[0].ttl <= 5, reply


@contextmanager
def mesh(
    directory: Path, *, listen: str = "127.0.0.1:0", records: str = RECORDS, drain: str = "0s"
) -> Iterator[Serving]:
    """Run meshdns with *records* in *directory*."""
    (directory / "records.yaml").write_text(records)
    with serving(directory, configuration(listen, drain)) as server:
        yield server


def configuration(listen: str = "127.0.0.1:0", drain: str = "0s") -> str:
    """Give the configuration of an instance that serves a records file."""
    return f"""
listen: ["{listen}"]
drain: {drain}
sources:
  - {{name: records, type: file, path: records.yaml}}
"""


def target(*ports: int, port: int = 53) -> Target:
    """Give what a forwarder on this machine is told: our zones, at 127.0.0.1 and *ports*."""
    endpoints = tuple(parse_endpoint(f"127.0.0.1:{number}") for number in ports)
    return Target(endpoints, ("mesh", "mesh.local"), REVERSE, port=port)


def wait_until(happened: Callable[[], bool], patience: float = 10.0) -> None:
    """Ask *happened* until it says yes; AssertionError after *patience* seconds."""
    deadline = time.monotonic() + patience
    while not happened():
        assert time.monotonic() < deadline, f"not within {patience} s"
        time.sleep(0.05)
