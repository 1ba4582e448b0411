"""What differs from one cluster to the next when meshdns runs there, and what its manifests have in common."""

import json
import re
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from textwrap import indent

from meshdns import __version__
from meshdns.kubernetes.forwarders.target import CLUSTER_ADDRESS, parse_endpoint

PORT = 15053
"""Where the Pods listen; a port that needs no capability. The Service turns 53 into it."""

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
_WORD = re.compile(r"[!-~]+\Z")
_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}\Z")


@dataclass(frozen=True, slots=True)
class Deployment:
    """What differs from one cluster to the next.

    cluster_ip: the Service's fixed address, None where the cluster chooses one (forwarders then have to be told).
    control_plane: ``host:port`` of its data plane server. ca: ``configmap/NAME`` or ``secret/NAME``, key ``ca.crt``.
    token_secret: Secret with key ``token``, a dataplane token (forward target only). clients: namespaces whose Pods
    may ask, client_networks: networks that may ask besides. workload: the Deployment that the sidecar joins.
    system_namespace: the control plane's, where a ContainerPatch belongs. Raises ValueError for what is no such name.
    """

    name: str = "meshdns"
    namespace: str = "meshdns"
    image: str = f"meshdns:{__version__}"
    replicas: int = 2
    cluster_ip: str | None = str(parse_endpoint(CLUSTER_ADDRESS).address)
    control_plane: str = "kuma-control-plane.kuma-system:5678"
    mesh: str = "default"
    ca: str = "configmap/meshdns-ca"
    token_secret: str = "meshdns-token"  # noqa: S105 - the name of a Secret
    zones: tuple[str, ...] = ("mesh", "mesh.local")
    reverse: tuple[IPv4Network | IPv6Network, ...] = (ip_network("240.0.0.0/4"), ip_network("fd00:fd00::/64"))
    clients: tuple[str, ...] = ("kube-system",)
    client_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    workload: str = "app"
    system_namespace: str = "kuma-system"
    ca_kind: str = field(init=False)
    ca_name: str = field(init=False)

    def __post_init__(self) -> None:
        kind, _, name = self.ca.partition("/")
        if kind not in {"configmap", "secret"} or not name:
            raise ValueError(f"--ca: {self.ca!r} is not configmap/NAME or secret/NAME")
        object.__setattr__(self, "ca_kind", "configMap" if kind == "configmap" else "secret")
        object.__setattr__(self, "ca_name", name)
        named = {
            "--name": self.name,
            "--namespace": self.namespace,
            "--ca": name,
            "--token-secret": self.token_secret,
            "--workload": self.workload,
            "--system-namespace": self.system_namespace,
            **{f"--allow-namespace {client}": client for client in self.clients},
        }
        for option, value in named.items():
            if not _NAME.match(value):
                raise ValueError(f"{option}: {value!r} is not a name (RFC 1123 label: a-z, 0-9, '-', at most 63)")
        if self.name[0].isdigit():
            raise ValueError(f"--name: {self.name!r}: the name of a Service begins with a letter (RFC 1035)")
        if not _WORD.match(self.image):
            raise ValueError(f"--image: {self.image!r} is not the name of an image")
        if not re.fullmatch(r"[A-Za-z0-9_-]+", self.mesh):
            raise ValueError(f"--mesh: {self.mesh!r} is not the name of a mesh")
        if not _HOST_PORT.match(self.control_plane) or int(self.control_plane.rpartition(":")[2]) not in range(
            1, 65536
        ):
            raise ValueError(f"--control-plane: {self.control_plane!r} is not host:port")
        if self.replicas < 1:
            raise ValueError(f"--replicas: {self.replicas} is less than 1")
        if self.cluster_ip is not None:
            try:
                ip_address(self.cluster_ip)
            except ValueError:
                raise ValueError(f"--cluster-ip: {self.cluster_ip!r} is not an IP address, nor 'auto'") from None


def metadata(deployment: Deployment, *, annotations: str = "") -> str:
    """Give the ``metadata`` of a manifest; *annotations* are lines of YAML."""
    text = (
        "metadata:\n"
        f"  name: {deployment.name}\n"
        f"  namespace: {deployment.namespace}\n"
        "  labels:\n"
        f"    app.kubernetes.io/name: {deployment.name}\n"
        "    app.kubernetes.io/component: dns\n"
    )
    return text + ("  annotations:\n" + indent(annotations, "    ") if annotations else "")


def config_map(deployment: Deployment, configuration: str) -> str:
    """Give the ConfigMap that holds *configuration* as ``meshdns.yaml``."""
    return f"""\
apiVersion: v1
kind: ConfigMap
{metadata(deployment)}data:
  meshdns.yaml: |
{indent(configuration, "    ")}"""


def zones(deployment: Deployment) -> str:
    """Give the lines of a configuration that name zones and reverse ranges."""
    reverse = [str(network) for network in deployment.reverse]
    return f"zones: {json.dumps(list(deployment.zones))}\nreverse: {json.dumps(reverse)}\n"
