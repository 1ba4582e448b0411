"""PowerDNS Recursor: forward zones, and negative trust anchors in Lua."""

from meshdns.kubernetes.forwarders.target import Target, remark


def conf(target: Target) -> str:
    """Give a file for ``/etc/powerdns/recursor.d``."""
    upstreams = ";".join(endpoint.with_colon for endpoint in target.endpoints)
    lines = [
        remark(
            """
            /etc/powerdns/recursor.d/meshdns.conf, then restart pdns-recursor.

            += adds to forward-zones of recursor.conf, which has to be set there before: put the line forward-zones=
            into it if it has none, or the Recursor does not start.

            forward-zones, not forward-zones-recurse: meshdns is authoritative for these zones and asks nobody else.
            The Recursor keeps answers for as long as meshdns says (30 s, denials 5 s); max-cache-ttl and
            max-negative-ttl would be for all names. Leave serve-stale-extensions at 0. A negative trust anchor for
            each zone belongs into the lua-config-file (meshdns generate pdns-recursor --part lua).
            """
        ),
        *(f"forward-zones+={name}={upstreams}\n" for name in target.names),
    ]
    return "".join(lines)


def lua(target: Target) -> str:
    """Give lines for the ``lua-config-file``."""
    return remark(
        """
        Lines for the lua-config-file (/etc/powerdns/recursor.lua), or a file of its own: dofile("/path/meshdns.lua").

        The zones are unsigned and the signed root zone says that they do not exist: not to be validated. (Without
        this, clients that ask for validation get SERVFAIL.)
        """,
        "-- ",
    ) + "".join(f'addNTA("{name}", "zone of the service mesh")\n' for name in target.names)
