"""BIND: forward zones, which stand beside ``options``, and statements, which stand in it."""

from meshdns.kubernetes.forwarders.target import Target, remark


def zones(target: Target) -> str:
    """Give a file to be included beside ``options``."""
    upstreams = " ".join(f"{endpoint.address} port {endpoint.port};" for endpoint in target.endpoints)
    return remark(
        """
            /etc/bind/meshdns.zones, named in named.conf: include "/etc/bind/meshdns.zones"; and then: rndc reconfig

            It needs meshdns.options (meshdns generate bind --part options), named within options { }: include
            "/etc/bind/meshdns.options"; and recursion for the clients that ask (recursion yes; allow-recursion).

            forward only: nobody else knows these names, and without 'only' BIND would ask the root servers for them
            whenever meshdns does not answer. BIND keeps answers for as long as meshdns says (30 s, denials 5 s);
            max-cache-ttl and max-ncache-ttl would be for all names. stale-answer-enable hands out addresses that
            are gone; leave it off.
            """,
        "// ",
    ) + "".join(
        f'zone "{name}" {{ type forward; forward only; forwarders {{ {upstreams} }}; }};\n' for name in target.names
    )


def options(target: Target) -> str:
    """Give a file to be included within ``options``."""
    text = remark(
        """
        /etc/bind/meshdns.options, named within options { }: include "/etc/bind/meshdns.options";

        The zones are unsigned and the signed root zone says that they do not exist: not to be validated.
        """,
        "// ",
    )
    text += "validate-except {\n" + "".join(f'    "{name}";\n' for name in target.names) + "};\n"
    return text
