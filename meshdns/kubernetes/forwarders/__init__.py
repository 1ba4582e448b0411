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
    "coredns": Forwarder("CoreDNS: server block of a Corefile", True, {"block": coredns.block}),
    "kube-dns": Forwarder("kube-dns: its ConfigMap", True, {"configmap": kube_dns.configmap}),
    "nodelocal": Forwarder("NodeLocal DNSCache: server block", True, {"block": coredns.nodelocal_block}),
    "systemd-resolved": Forwarder(
        "systemd-resolved: a drop-in",
        False,
        {
            "resolved": systemd_resolved.drop_in,
            "delegate": systemd_resolved.delegate,
            "negative": systemd_resolved.negative_anchors,
        },
    ),
    "dnsmasq": Forwarder("dnsmasq: a file of its conf-dir", False, {"conf": dnsmasq.conf}),
    "unbound": Forwarder("Unbound: a file of unbound.conf.d", False, {"conf": unbound.conf}),
    "knot-resolver": Forwarder("Knot Resolver 5: lines of kresd.conf", False, {"conf": knot_resolver.conf}),
    "bind": Forwarder("BIND: forward zones, and options", False, {"zones": bind.zones, "options": bind.options}),
    "pdns-recursor": Forwarder(
        "PowerDNS Recursor: a file of recursor.d, and Lua",
        False,
        {"conf": pdns_recursor.conf, "lua": pdns_recursor.lua},
    ),
}
"""Every resolver that ``meshdns generate`` writes for, in the order in which ``--help`` names them."""

__all__ = ["FORWARDERS", "Forwarder", "Target"]
