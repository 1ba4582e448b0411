"""Unbound: forward zones, and what its ``server`` clause has to let through for them."""

from meshdns.kubernetes.forwarders.target import Target, remark


def conf(target: Target) -> str:
    """Give a file for ``/etc/unbound/unbound.conf.d``."""
    lines = [
        remark(
            """
            /etc/unbound/unbound.conf.d/meshdns.conf, then: unbound-checkconf && unbound-control reload

            Unbound keeps answers for as long as meshdns says (30 s, denials 5 s); cache-max-ttl and
            cache-max-negative-ttl would be for all names. With serve-expired: yes, set serve-expired-ttl: 30 as well,
            or names that are gone are answered long after.
            """
        ),
        "server:\n",
    ]
    if target.on_loopback:
        lines += [
            remark(
                "Without this Unbound asks no address of its own machine, and every name is SERVFAIL.", indent="    "
            ),
            "    do-not-query-localhost: no\n",
        ]
    lines += [
        remark(
            "The zones are unsigned and the signed root zone says that they do not exist: not to be validated.",
            indent="    ",
        ),
        *(f'    domain-insecure: "{name}"\n' for name in target.names),
        remark("Where private-address is set: VIPs may be private addresses.", indent="    "),
        *(f'    private-domain: "{zone}"\n' for zone in target.zones),
    ]
    if target.shadowed:
        lines += [
            remark(
                "Unbound denies all of d.f.ip6.arpa by itself (RFC 6303); 'transparent' lets these zones through.",
                indent="    ",
            ),
            *(f'    local-zone: "{name}." transparent\n' for name in target.shadowed),
        ]
    for name in target.names:
        lines += [
            "forward-zone:\n",
            f'    name: "{name}."\n',
            *(f"    forward-addr: {endpoint.joined('@')}\n" for endpoint in target.endpoints),
            # Nobody else knows these names: asking the root servers instead would tell them to the world.
            "    forward-first: no\n",
        ]
    return "".join(lines)
