"""What an operator says about asking others. Standard library and pydantic only; reading it loads nothing else."""

import re
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from meshdns.duration import Duration

RESOLV_CONF = Path("/etc/resolv.conf")
"""What ``servers: resolv.conf`` means."""

MAX_SERVERS = 16
"""Servers of one zone; more are not asked within the time that a client waits."""

PORTS = {"udp": 53, "tcp": 53, "tls": 853}
"""Scheme → port where none is written (RFC 7858 §3.1)."""

_SERVER = re.compile(
    r"(?:(?P<scheme>[a-z]+)://)?(?:\[(?P<v6>[^\]]*)\]|(?P<host>[^\[\]#]*?))(?::(?P<port>[0-9]{1,5}))?(?:#(?P<name>.*))?\Z"
)
_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*\.?\Z")


class Server(NamedTuple):
    """One DNS server. scheme: ``udp`` (TCP when truncated), ``tcp`` or ``tls``. name: its certificate's, if known."""

    scheme: str
    host: str
    port: int
    name: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "" if self.scheme == "udp" else f"{self.scheme}://"
        return f"{scheme}{host}:{self.port}" + (f"#{self.name}" if self.name else "")


def parse_server(text: str) -> Server:
    """Read ``10.0.0.10``, ``10.0.0.10:53``, ``[::1]:53``, ``tcp://…`` or ``tls://10.0.0.11:853#dns.example``.

    Raises ValueError in words for an operator.
    """
    example = "such as '10.0.0.10:53', '[fd00::1]:53' or 'tls://10.0.0.11#dns.example'"
    bare = text.partition("#")[0]
    if bare.count(":") > 1 and "[" not in bare and "//" not in bare:
        try:
            text = f"[{IPv6Address(bare)}]" + text[len(bare) :]
        except ValueError:
            raise ValueError(f"{text[:60]!r} is not an IP address and a port, {example}") from None
    match = _SERVER.match(text)
    if match is None:
        raise ValueError(f"{text[:60]!r} is not an IP address and a port, {example}")
    scheme = match["scheme"] or "udp"
    if scheme not in PORTS:
        raise ValueError(f"{text[:60]!r}: {scheme!r} is not spoken here; write udp, tcp or tls")
    host: IPv4Address | IPv6Address
    try:
        host = IPv6Address(match["v6"]) if match["v6"] is not None else IPv4Address(match["host"])
    except ValueError:
        shown = match["v6"] if match["v6"] is not None else match["host"]
        raise ValueError(f"{text[:60]!r}: {shown[:60]!r} is not an IP address; write one, {example}") from None
    port = PORTS[scheme] if match["port"] is None else int(match["port"])
    if not 1 <= port <= 65535:
        raise ValueError(f"{text[:60]!r}: the port must be a number from 1 to 65535")
    if host.is_unspecified or host.is_multicast:
        raise ValueError(f"{text[:60]!r}: {host} is no address of one server")
    name = match["name"]
    if name is not None and (scheme != "tls" or not _NAME.match(name)):
        rule = "only tls:// servers have a name behind '#'" if scheme != "tls" else f"{name[:60]!r} is not a name"
        raise ValueError(f"{text[:60]!r}: {rule}")
    return Server(scheme, str(host), port, (name or "").rstrip(".").lower())


def points_at(server: Server, listen: Sequence[tuple[str, int]]) -> bool:
    """Tell whether *server* is one of the addresses of *listen* (host, port), a wildcard one meaning all of ours."""
    if server.scheme == "tls":  # we do not listen for TLS
        return False
    for host, port in listen:
        if port != server.port:
            continue
        if host == server.host:
            return True
        ours, theirs = ip_address(host), ip_address(server.host)
        if ours.is_unspecified and ours.version == theirs.version and is_own_address(server.host):
            return True
    return False


def is_own_address(host: str) -> bool:
    """Tell whether *host* is an address of this machine: exactly these can be bound."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except OSError:
        return False
    return True


def _zone(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("must be a zone in quotes, such as '.' or 'corp.example'")
    zone = value.lower().rstrip(".")
    if value.strip() == "." or value == "":
        return "."
    if not _NAME.match(zone) or any(len(label) > 63 for label in zone.split(".")):
        raise ValueError(f"{value[:60]!r} is not a zone such as '.' or 'corp.example'")
    return zone


def _servers(value: Any) -> Any:
    """Read a list of servers, or the file that names them."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, str):
        if value == "resolv.conf":
            return str(RESOLV_CONF)
        if "/" in value and "://" not in value:
            return value
        raise ValueError("must be a list of servers, or resolv.conf, or the path of such a file")
    if not isinstance(value, list | tuple):
        raise ValueError("must be a list of servers, or resolv.conf, or the path of such a file")
    if not value:
        raise ValueError("must name at least one server")
    if len(value) > MAX_SERVERS:
        raise ValueError(f"names {len(value)} servers; {MAX_SERVERS} at most")
    read: list[Server] = []
    for item in value:
        if isinstance(item, str):
            server = parse_server(item)
        elif isinstance(item, Server):
            server = item
        else:
            raise ValueError("must be servers in quotes, such as '10.0.0.10:53'")
        if server in read:
            raise ValueError(f"'{server}' is there twice")
        read.append(server)
    return tuple(read)


def _written(value: tuple[Server, ...] | str) -> str | list[str]:
    return value if isinstance(value, str) else [str(server) for server in value]


Servers = Annotated[tuple[Server, ...] | str, BeforeValidator(_servers), PlainSerializer(_written)]
"""Servers, or the path of a file in the form of resolv.conf(5)."""


class UpstreamSettings(BaseModel):
    """Who is asked about the names at and under *zone*; of several zones the longest that fits.

    servers: in order of preference, or a file in the form of resolv.conf(5), which is watched. port: of servers that
    such a file names. ca_file: PEM certificates that tls:// servers are checked by, instead of the system's.
    randomize_case: mix the case of names (draft-vixie-dnsext-dns0x20), which makes answers harder to forge; a server
    that does not give it back is found out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    zone: Annotated[str, BeforeValidator(_zone)] = "."
    servers: Servers
    port: int = Field(default=53, ge=1, le=65535)
    ca_file: Path | None = None
    randomize_case: bool = True

    @model_validator(mode="after")
    def _certificates_have_a_use(self) -> Self:
        if self.ca_file is not None and not any(server.scheme == "tls" for server in self.fixed):
            raise ValueError("ca_file is for tls:// servers, and none is named")
        return self

    @property
    def fixed(self) -> tuple[Server, ...]:
        """The servers named here; none where a file names them."""
        return () if isinstance(self.servers, str) else self.servers

    @property
    def file(self) -> Path | None:
        """The file that names the servers."""
        return Path(self.servers) if isinstance(self.servers, str) else None


class CacheSettings(BaseModel):
    """What is kept of others' answers, in each responder.

    entries, bytes: at most. max_ttl: seconds that an answer is kept and told to be; negative_ttl: a denial. stale:
    seconds for which an answer past its time still stands in when nobody answers (RFC 8767), 0 for never. prefetch:
    renew what is asked often shortly before its time is over.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    entries: int = Field(default=10_000, ge=0, le=10_000_000)
    bytes: int = Field(default=32 << 20, ge=0, le=64 << 30)
    max_ttl: Duration = 3600.0
    negative_ttl: Duration = 300.0
    stale: Duration = 86_400.0
    prefetch: bool = True

    @model_validator(mode="after")
    def _times_are_sane(self) -> Self:
        if self.max_ttl > 7 * 86_400:
            raise ValueError("max_ttl: more than seven days (168h)")
        if self.negative_ttl > 10_800:
            raise ValueError("negative_ttl: more than three hours (3h, RFC 2308 §5)")
        if self.stale > 3 * 86_400:
            raise ValueError("stale: more than three days (72h, RFC 8767 §5)")
        return self


SpecialNames = Literal["answer", "forward"]
"""What becomes of names that mean something on this machine or network only (``upstream.special``)."""
