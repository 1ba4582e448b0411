"""Who may ask: decided before a query is looked at, so that an answer depends on the store and the query alone."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network

LOOPBACK: tuple[Network, ...] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))

PRIVATE: tuple[Network, ...] = (
    *LOOPBACK,
    *map(
        ip_network,
        ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "fc00::/7", "fe80::/10"),
    ),
)
"""Who may ask a listener beyond loopback that was told nothing: no one from the Internet (RFC 1918, 6598, 4193)."""

_REMEMBERED = 4_096
"""Clients whose verdict is remembered; when full, forgotten."""


class Admission:
    """Which clients a listener answers.

    allow: the networks that may ask; none: everybody on a loopback listener, else private networks.
    loopback: whether the listener is bound to a loopback address.
    """

    def __init__(self, allow: Sequence[Network], *, loopback: bool) -> None:
        self._networks = tuple(allow) or (() if loopback else PRIVATE)
        self._verdicts: dict[str, bool] = {}

    @property
    def permits_all(self) -> bool:
        """Whether nobody is refused, so that nobody need be looked at."""
        return not self._networks

    def permits(self, host: str) -> bool:
        """Tell whether the client at *host* (an IP address as text) may ask."""
        if not self._networks:
            return True
        verdict = self._verdicts.get(host)
        if verdict is None:
            address = ip_address(host.partition("%")[0])
            verdict = any(address.version == each.version and address in each for each in self._networks)
            if len(self._verdicts) >= _REMEMBERED:
                self._verdicts.clear()
            self._verdicts[host] = verdict
        return verdict
