"""dnsmasq: one line a zone."""

from meshdns.kubernetes.forwarders.target import Target, remark


def conf(target: Target) -> str:
    """Give a file for ``/etc/dnsmasq.d``."""
    lines = [
        remark(
            """
            /etc/dnsmasq.d/meshdns.conf, then restart dnsmasq (SIGHUP does not read it again).

            Names of the mesh are asked of meshdns only. dnsmasq keeps answers for as long as meshdns says (30 s,
            denials 5 s), so no cache limit is set here: max-cache-ttl and neg-ttl would be for all names.
            Leave out use-stale-cache, which hands out addresses that are gone. With dnssec on nothing more
            is needed: dnsmasq does not validate what a server for a domain of its own says without a trust anchor.
            """
        )
    ]
    for name in target.names:
        lines += [f"server=/{name}/{endpoint.joined('#')}\n" for endpoint in target.endpoints]
    lines += [
        remark(
            "With stop-dns-rebind dnsmasq would drop answers with addresses that it takes for private ones, which the "
            "VIPs of a mesh are."
        ),
        *(f"rebind-domain-ok=/{zone}/\n" for zone in target.zones),
    ]
    return "".join(lines)
