"""Knot Resolver 5: policy rules in Lua."""

from meshdns.kubernetes.forwarders.target import Target, remark


def conf(target: Target) -> str:
    """Give lines for ``/etc/knot-resolver/kresd.conf``."""
    names = ",\n".join(f"    '{name}'" for name in target.names)
    upstreams = ", ".join(f"'{endpoint.joined('@')}'" for endpoint in target.endpoints)
    return (
        remark(
            """
            Lines for /etc/knot-resolver/kresd.conf, before other policy rules (the first that matches decides), then
            restart kresd. For Knot Resolver 5; version 6 is configured in YAML.
            """,
            "-- ",
        )
        + f"local meshdns_zones = policy.todnames({{\n{names}\n}})\n"
        + remark(
            """
            NO_CACHE: the cache is shared with the rest of the tree, and the root's signed "there is no mesh" in it
            would deny every name. So each query reaches meshdns, and no address and no denial is kept at all.
            """,
            "-- ",
        )
        + "policy.add(policy.suffix(policy.FLAGS({'NO_CACHE'}), meshdns_zones))\n"
        + remark(
            """
            STUB, not FORWARD: the zones are unsigned, and FORWARD would validate. kresd asks again over TCP by itself
            when an answer is truncated.
            """,
            "-- ",
        )
        + f"policy.add(policy.suffix(policy.STUB({{{upstreams}}}), meshdns_zones))\n"
    )
