"""kube-dns: the ConfigMap from which it reads stub domains (its dnsmasq then asks us for them)."""

import json

from meshdns.kubernetes.forwarders.target import Target, remark


def configmap(target: Target) -> str:
    """Give ``ConfigMap kube-system/kube-dns`` with one stub domain a zone."""
    return (
        remark(
            """
            kube-dns: each zone of the mesh is a stub domain. If the ConfigMap exists already, put these keys into its
            stubDomains (meshdns generate kube-dns --merge FILE does it): applying this file would replace the value.

            kube-dns' dnsmasq takes the TTLs of meshdns (30 s, and 5 s for denials) and keeps no denials by itself.
            It takes addresses only, so the Service of meshdns needs a fixed clusterIP.

            Pods have ndots:5, and echo.default.svc.80.mesh has four dots: it is asked with every search suffix first.
            Clients that write a final dot, or set ndots:2 in their Pod's dnsConfig, ask once.
            """
        )
        + "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: kube-dns\n  namespace: kube-system\n"
        + "data:\n  stubDomains: |\n"
        + "".join(f"    {line}\n" for line in stub_domains(target, {}).splitlines())
    )


def stub_domains(target: Target, others: dict[str, object]) -> str:
    """Give the JSON text of ``stubDomains``: *others* as they are, then our zones with our addresses."""
    upstreams = [endpoint.with_colon for endpoint in target.endpoints]
    ours: dict[str, object] = dict.fromkeys(target.names, upstreams)
    domains = {**{name: value for name, value in others.items() if name not in ours}, **ours}
    return "{\n" + ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in domains.items()) + "\n}\n"
