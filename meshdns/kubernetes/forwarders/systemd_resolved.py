"""systemd-resolved: routing domains that lead to us, as a drop-in or (systemd ≥ 258) as a delegate of its own."""

from meshdns.kubernetes.forwarders.target import Target, remark

_LOCAL = """
    .local is also mDNS' (RFC 6762). The longer domain wins here: names under {local} are asked of meshdns, all other
    .local names stay with mDNS. On a machine with nss-mdns, 'mdns4_minimal [NOTFOUND=return]' in nsswitch.conf
    before 'resolve' or 'dns' takes names of two labels only, so those of the mesh pass; plain 'mdns4' takes them all.
"""

_BUILT_IN = (
    "home.arpa",
    "10.in-addr.arpa",
    *(f"{octet}.172.in-addr.arpa" for octet in range(16, 32)),
    "170.0.0.192.in-addr.arpa",
    "171.0.0.192.in-addr.arpa",
    "168.192.in-addr.arpa",
    "d.f.ip6.arpa",
    "ipv4only.arpa",
    "resolver.arpa",
    "corp",
    "home",
    "internal",
    "intranet",
    "lan",
    "local",
    "private",
    "test",
)
"""What systemd-resolved 252 logs at its start, and resolver.arpa, which later versions have besides."""


def drop_in(target: Target) -> str:
    """Give ``/etc/systemd/resolved.conf.d/meshdns.conf``."""
    return (
        remark(
            f"""
            /etc/systemd/resolved.conf.d/meshdns.conf, then: systemctl restart systemd-resolved

            ~name is a routing domain: names under it are asked of these servers and of no other, and it is no search
            suffix. The servers of resolved.conf are also asked for any other name, beside those of the links; meshdns
            refuses those, and the links' servers answer. To keep other names away from meshdns altogether, use
            a delegate (systemd 258 or newer: meshdns generate systemd-resolved --part delegate), or put DNS=, Domains=
            and DNSDefaultRoute=no into the .network file of a link instead.

            {_local(target)}

            The zones are not in the signed root zone: with DNSSEC=yes or allow-downgrade they need negative trust
            anchors (meshdns generate systemd-resolved --part negative). resolved caches for as long as meshdns says:
            30 s, denials 5 s. LLMNR and mDNS need nothing.
            """
        )
        + "[Resolve]\n"
        + f"DNS={' '.join(endpoint.with_colon for endpoint in target.endpoints)}\n"
        + _domains(target)
    )


def delegate(target: Target) -> str:
    """Give ``/etc/systemd/dns-delegate.d/meshdns.dns-delegate`` (systemd 258 or newer)."""
    return (
        remark(
            f"""
            /etc/systemd/dns-delegate.d/meshdns.dns-delegate (systemd 258 or newer), then: systemctl reload
            systemd-resolved. These names and no other are asked of meshdns.

            {_local(target)}
            """
        )
        + "[Delegate]\n"
        + f"DNS={' '.join(endpoint.with_colon for endpoint in target.endpoints)}\n"
        + _domains(target)
        + "DefaultRoute=no\n"
    )


def negative_anchors(target: Target) -> str:
    """Give ``/etc/dnssec-trust-anchors.d/meshdns.negative``."""
    comment = """
        /etc/dnssec-trust-anchors.d/meshdns.negative: the zones of the mesh are unsigned, and the signed root zone
        says that they do not exist. Needed when DNSSEC= is yes or allow-downgrade.
    """
    own = (
        "The first file of this kind takes the place of the list that is built into systemd-resolved: here it is again."
    )
    return (
        remark(comment, sign="; ")
        + "".join(f"{name}\n" for name in target.names)
        + remark(own, sign="; ")
        + "".join(f"{name}\n" for name in _BUILT_IN if name not in target.names)
    )


def _domains(target: Target) -> str:
    # An assignment adds to what stands before it, so each zone can have a line.
    return "".join(f"Domains=~{name}\n" for name in target.names)


def _local(target: Target) -> str:
    local = [zone for zone in target.zones if zone.endswith(".local")]
    return _LOCAL.format(local=" and ".join(local)) if local else "None of the zones ends in .local, which mDNS has."
