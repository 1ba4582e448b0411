"""CoreDNS and NodeLocal DNSCache (which is a CoreDNS): one server block for all our zones.

Only words that CoreDNS has had since 1.8 are used; clusters run old ones.
"""

from meshdns.kubernetes.forwarders.target import DENIAL_TTL, SUCCESS_TTL, Target, remark

BEGIN = "# BEGIN meshdns"
"""First line of what is ours in a Corefile; ``--merge`` replaces from here …"""

END = "# END meshdns"
"""… to here."""

CACHE_CAPACITY = 9984
"""Entries of each kind; CoreDNS' own default, which has to be named before a TTL can be."""

IDLE = "5s"
"""How long CoreDNS keeps a connection for the next query: less than the 10 s after which we close an idle one."""

NODELOCAL_BIND = ("169.254.20.10", "10.96.0.10")
"""Where a NodeLocal DNSCache listens in a kubeadm cluster with kube-proxy in iptables mode."""

_NDOTS = """
    Pods have ndots:5, and echo.default.svc.80.mesh has four dots: it is asked with every search suffix first. Clients
    that write a final dot, or set ndots:2 in their Pod's dnsConfig, ask once.
"""


def block(target: Target) -> str:
    """Give the server block for the Corefile of a cluster's CoreDNS, between its markers."""
    return _block(
        target,
        "coredns",
        purpose="""
        Names of the mesh are asked of meshdns. The block stands beside the others of the Corefile: the same port and
        the same bind, so that a CNAME to a mesh name (which is what a Service of type ExternalName is) is followed
        into it. Where an operator owns the Corefile (AKS, k3s), put the block into the ConfigMap coredns-custom, as
        key meshdns.server.
        """,
        transport="""
        Over the transport that the client chose: an answer that is too long for UDP comes back truncated, and the
        client's second query, over TCP, is forwarded over TCP. force_tcp would only add a round trip. The health
        check is a query for the root's NS, which meshdns refuses at once: any answer counts as healthy. REFUSED and
        SERVFAIL are final, as nobody else knows these names.
        """,
    )


def nodelocal_block(target: Target) -> str:
    """Give the server block for NodeLocal DNSCache (ConfigMap ``kube-system/node-local-dns``)."""
    binds = target.bind or NODELOCAL_BIND
    return _block(
        Target(target.endpoints, target.zones, target.reverse, target.port, binds),
        "nodelocal",
        purpose="""
        Names of the mesh are asked of meshdns by the cache on each node (ConfigMap node-local-dns in kube-system).
        The bind line must be that of the other blocks of the file. NodeLocal DNSCache runs in the node's network:
        a NetworkPolicy of meshdns has to let the nodes' addresses in.
        """,
        transport="""
        TCP, as for every other block of this file: UDP from the node to a Service address is translated, and two
        first packets that race for one translation lose one of them (a client then waits 5 s). The connection is
        kept for the next queries.
        """,
        forward=("force_tcp",),
        plugins=("prometheus :9253",),
    )


def _block(
    target: Target,
    verb: str,
    *,
    purpose: str,
    transport: str,
    forward: tuple[str, ...] = (),
    plugins: tuple[str, ...] = (),
) -> str:
    keys = ",\n".join(f"{name}:{target.port}" for name in target.names)
    upstreams = " ".join(endpoint.with_colon for endpoint in target.endpoints)
    lines = [
        f"{BEGIN}: 'meshdns generate {verb} --merge' replaces what stands from here to END\n",
        remark(purpose + "\n\n" + _NDOTS),
        f"{keys} {{\n",
    ]
    if target.bind:
        lines.append(f"    bind {' '.join(target.bind)}\n")
    lines += [
        "    errors\n",
        *(f"    {plugin}\n" for plugin in plugins),
        remark(
            f"""An address at most {SUCCESS_TTL} s, a denial at most {DENIAL_TTL} s, and neither longer than meshdns
            says: a VIP that is given to another service must not be handed out for longer, and a new name must not stay
            unknown. (The last number takes away the 5 s that CoreDNS keeps an answer at the least.)""",
            indent="    ",
        ),
        "    cache {\n",
        f"        success {CACHE_CAPACITY} {SUCCESS_TTL} 0\n",
        f"        denial {CACHE_CAPACITY} {DENIAL_TTL} 0\n",
        "    }\n",
        remark(transport, indent="    "),
        f"    forward . {upstreams} {{\n",
        *(f"        {word}\n" for word in forward),
        remark("Less than the 10 s after which meshdns closes an idle connection.", indent="        "),
        f"        expire {IDLE}\n",
        "        max_fails 2\n",
        "        health_check 500ms\n",
        "    }\n",
        remark(
            "No 'loop' here: meshdns never asks anybody about these zones, and 'loop' would end CoreDNS over a query "
            "that came back.",
            indent="    ",
        ),
        "}\n",
        f"{END}\n",
    ]
    return "".join(lines)
