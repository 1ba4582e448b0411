"""What a resolver is told: which names to forward, and to which addresses."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from textwrap import wrap

from meshdns.inventory.name import reverse_zones

CLUSTER_ADDRESS = "10.96.0.53:53"
"""Where the Service of ``generate kubernetes`` answers: within the default range of kubeadm, minikube and kind."""

LOOPBACK_ADDRESS = "127.0.0.1:15053"
"""Where ``meshdns serve`` answers when nothing else is configured."""

SUCCESS_TTL = 30
"""Seconds that a forwarder may keep an address: what the control plane gives, and the time a VIP needs to move."""

DENIAL_TTL = 5
"""Seconds that a forwarder may keep a denial: our SOA's MINIMUM."""

_WIDTH = 110


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address and port on which meshdns answers, over UDP and TCP."""

    address: IPv4Address | IPv6Address
    port: int

    @property
    def with_colon(self) -> str:
        """``10.96.0.53:53``, ``[fd00::53]:53``."""
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"

    def joined(self, sign: str) -> str:
        """Give the spelling of resolvers that need no brackets: ``10.96.0.53@53``."""
        return f"{self.address}{sign}{self.port}"


def parse_endpoint(text: str) -> Endpoint:
    """Read ``10.96.0.53:53``, ``10.96.0.53``, ``[fd00::53]:53`` or ``fd00::53``; without a port it is 53.

    Raises ValueError saying what is wrong: forwarders take addresses, no names.
    """
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not (host.startswith("[") and host.endswith("]"))):
        host, port = text, "53"
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ip_address(bare)
    except ValueError:
        raise ValueError(f"{text!r} is not an IP address and a port, such as 10.96.0.53:53 or [fd00::53]:53") from None
    if address.is_unspecified or address.is_multicast or "%" in bare:
        raise ValueError(f"{text!r} is not an address that can be asked")
    if not port.isascii() or not port.isdigit() or not 1 <= int(port[:6]) <= 65535:
        raise ValueError(f"{text!r}: the port must be a number from 1 to 65535")
    return Endpoint(address, int(port))


@dataclass(frozen=True, slots=True)
class Target:
    """What is forwarded, and where to.

    endpoints: every instance of meshdns to ask, at least one. zones: lower case, no final dot. reverse: networks
    whose reverse zones are ours. port, bind: of the CoreDNS that the block joins, whose blocks must agree on both.
    """

    endpoints: tuple[Endpoint, ...]
    zones: tuple[str, ...]
    reverse: tuple[IPv4Network | IPv6Network, ...] = ()
    port: int = 53
    bind: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Every zone to forward: those of the mesh, then the reverse zones, each once."""
        reverse = (zone for network in self.reverse for zone in reverse_zones(network))
        return tuple(dict.fromkeys((*self.zones, *reverse)))

    @property
    def shadowed(self) -> tuple[str, ...]:
        """The reverse zones below ``d.f.ip6.arpa``, which resolvers deny by themselves (RFC 6303 §4.4)."""
        return tuple(name for name in self.names if name.endswith(".d.f.ip6.arpa"))

    @property
    def on_loopback(self) -> bool:
        """Whether an endpoint is an address of this machine only."""
        return any(endpoint.address.is_loopback for endpoint in self.endpoints)


def remark(text: str, sign: str = "# ", indent: str = "") -> str:
    """Give *text* as comment lines that begin with *sign*; its paragraphs are parted by an empty line."""
    lines: list[str] = []
    for paragraph in text.strip().split("\n\n"):
        if lines:
            lines.append(indent + sign.rstrip())
        words = " ".join(paragraph.split())
        lines += [
            indent + sign + line for line in wrap(words, _WIDTH - len(indent) - len(sign), break_on_hyphens=False)
        ]
    return "\n".join(lines) + "\n"
