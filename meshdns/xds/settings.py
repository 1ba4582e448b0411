"""What an operator says of one ``kuma`` source. Standard library and pydantic only: reading it loads no gRPC."""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})\Z")


class KumaSettings(BaseModel):
    """One stream to a Kuma / Kong Mesh control plane, for one mesh.

    address: ``host:port`` of the control plane's data plane server (5678). dataplane: the name under which this
    instance is known there; a control plane takes one stream for each, so every instance needs its own.
    register: hand the Dataplane over with the stream; false where an operator creates it. service_vip_port: the
    control plane's ``dnsServer.serviceVipPort``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)

    name: Annotated[str, StringConstraints(min_length=1)]
    type: Literal["kuma"] = "kuma"
    address: str
    mesh: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$")] = "default"
    dataplane: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+$")] = "meshdns"
    ca_file: Path | None = None
    token_file: Path | None = None
    plaintext: bool = False
    plaintext_remote: bool = False
    protocol: Literal["auto", "delta", "sotw"] = "auto"
    register_dataplane: bool = Field(default=True, alias="register")  # pydantic's metaclass owns the shorter word
    service_vip_port: int = Field(default=80, ge=1, le=65535)

    @field_validator("address")
    @classmethod
    def _address_is_host_and_port(cls, value: str) -> str:
        match = _ADDRESS.match(value)
        if match is None or not 1 <= int(match["port"]) <= 65535:
            raise ValueError(f"{value!r} is not host:port, for example kuma-cp.example:5678 or [::1]:5678")
        if match["v6"] is not None:
            try:
                ip_address(match["v6"])
            except ValueError:
                raise ValueError(f"{match['v6']!r} is not an IP address") from None
        return value

    @model_validator(mode="after")
    def _transport_is_chosen(self) -> Self:
        if self.plaintext and self.ca_file is not None:
            raise ValueError("ca_file and plaintext exclude each other")
        if not self.plaintext and self.ca_file is None:
            raise ValueError(
                "ca_file is required: the file with the certificate that signed the control plane's "
                "(plaintext: true turns TLS off)"
            )
        if self.plaintext and not self.plaintext_remote and not self._is_loopback():
            raise ValueError(
                f"plaintext to {self.address} would carry names and the token readable over a network; "
                "plaintext_remote: true allows it"
            )
        return self

    def _is_loopback(self) -> bool:
        match = _ADDRESS.match(self.address)
        assert match is not None
        host = match["v6"] or match["host"]
        if host == "localhost":
            return True
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return False
