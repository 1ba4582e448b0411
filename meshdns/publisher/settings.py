"""What an operator says of the embedded control plane. Standard library and pydantic only."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, field_validator, model_validator

from meshdns.duration import Duration

_LISTEN = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<v4>[0-9.]+)):(?P<port>[0-9]{1,5})\Z")

Network = IPv4Network | IPv6Network


def _network(value: Any) -> Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    if not isinstance(value, str):
        raise ValueError("must be a network in quotes, such as '127.80.0.0/16'")
    try:
        network = ip_network(value)
    except ValueError as error:
        raise ValueError(f"{value[:60]!r} is not a network such as '127.80.0.0/16': {error}") from None
    multicast = ip_network("224.0.0.0/4" if network.version == 4 else "ff00::/8")
    if network.overlaps(multicast) or network.network_address.is_unspecified:
        raise ValueError(f"{value!r} holds addresses that no client can be sent to")
    return network


class Ranges(BaseModel):
    """Where VIPs are taken from. services: every name there is now; without it, what ``vips`` says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    services: Annotated[Network, BeforeValidator(_network)] | None = None


class PublisherSettings(BaseModel):
    """The embedded control plane of one mesh.

    path: a file or directory of Kuma's resources in YAML, watched. vips: ``bind`` has Envoy bind real sockets on
    loopback VIPs (no interception needed, Linux); ``transparent`` has it take what was redirected to its port 15001.
    domain: the zone of service names. service_vip_port: the port that every service's VIP has. quarantine: seconds
    for which a freed VIP rests before another name gets it (0: none, Kuma's way). listen: ``address:port`` of the
    ADS server. plaintext: no TLS, on loopback only. cert_file, key_file: both, or a self-made certificate is used.
    tokens: whether a data plane must show its token.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, StringConstraints(min_length=1)]
    type: Literal["publisher"] = "publisher"
    path: Path
    mesh: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$")] = "default"
    vips: Literal["bind", "transparent"] = "bind"
    ranges: Ranges = Ranges()
    domain: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")] = "mesh"
    service_vip_port: int = Field(default=80, ge=1, le=65535)
    quarantine: Duration = 3600.0
    listen: str = "127.0.0.1:5678"
    plaintext: bool = False
    cert_file: Path | None = None
    key_file: Path | None = None
    tokens: bool = True

    @field_validator("listen")
    @classmethod
    def _listen_is_address_and_port(cls, value: str) -> str:
        match = _LISTEN.match(value)
        try:
            if match is None or int(match["port"]) > 65535:
                raise ValueError
            ip_address(match["v6"] or match["v4"])
        except ValueError:
            raise ValueError(
                f"{value!r} is not an IP address and a port, such as '127.0.0.1:5678' or '[::1]:5678'"
            ) from None
        return value

    @model_validator(mode="after")
    def _transport_is_chosen(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file come together")
        if self.plaintext and self.cert_file is not None:
            raise ValueError("cert_file and plaintext exclude each other")
        if self.plaintext and not ip_address(self.listen_host).is_loopback:
            raise ValueError(f"plaintext is for loopback only, and listen is {self.listen}")
        return self

    @property
    def listen_host(self) -> str:
        """The address of the ADS server, without brackets."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def listen_port(self) -> int:
        """The port of the ADS server; 0: any."""
        return int(self.listen.rpartition(":")[2])

    @property
    def network(self) -> Network:
        """Where VIPs are taken from: ``ranges.services``, else what goes with ``vips``."""
        if self.ranges.services is not None:
            return self.ranges.services
        return IPv4Network("127.80.0.0/16") if self.vips == "bind" else IPv4Network("240.0.0.0/4")
