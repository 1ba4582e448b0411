"""How other resolvers are told to forward our zones to us: one file a resolver, each gives text for a ``Target``.

May import ``inventory``, ``errors`` and the standard library. Text out, no file and no socket; the same target gives
the same bytes. Whatever a setting is for stands as a comment beside it in what is written.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from meshdns.kubernetes.forwarders import (
    bind,
    coredns,
    dnsmasq,
    knot_resolver,
    kube_dns,
    pdns_recursor,
    systemd_resolved,
    unbound,
)
from meshdns.kubernetes.forwarders.target import Target


@dataclass(frozen=True, slots=True)
class Forwarder:
    """One resolver: its parts, each with the text that it gives for a target, and where that text belongs.

    in_cluster: whether it runs in a cluster and asks a Service address, or on a machine and asks its loopback.
    parts: the first is what is written when no part is named.
    """

    title: str
    in_cluster: bool
    parts: Mapping[str, Callable[[Target], str]]


FORWARDERS: Mapping[str, Forwarder] = {
    "coredns": Forwarder("the server block for a cluster's CoreDNS", True, {"block": coredns.block}),
    "kube-dns": Forwarder("the ConfigMap of kube-dns", True, {"configmap": kube_dns.configmap}),
    "nodelocal": Forwarder("the server block for NodeLocal DNSCache", True, {"block": coredns.nodelocal_block}),
    "systemd-resolved": Forwarder(
        "a drop-in for systemd-resolved",
        False,
        {
            "resolved": systemd_resolved.drop_in,
            "delegate": systemd_resolved.delegate,
            "negative": systemd_resolved.negative_anchors,
        },
    ),
    "dnsmasq": Forwarder("a file for dnsmasq's conf-dir", False, {"conf": dnsmasq.conf}),
    "unbound": Forwarder("a file for Unbound's unbound.conf.d", False, {"conf": unbound.conf}),
    "knot-resolver": Forwarder("lines for kresd.conf of Knot Resolver 5", False, {"conf": knot_resolver.conf}),
    "bind": Forwarder("forward zones for BIND, and its options", False, {"zones": bind.zones, "options": bind.options}),
    "pdns-recursor": Forwarder(
        "a file for recursor.d of PowerDNS Recursor, and Lua",
        False,
        {"conf": pdns_recursor.conf, "lua": pdns_recursor.lua},
    ),
}
"""Every resolver that ``meshdns generate`` writes for, in the order in which ``--help`` names them."""

__all__ = ["FORWARDERS", "Forwarder", "Target"]
