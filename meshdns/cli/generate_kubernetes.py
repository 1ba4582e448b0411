"""``meshdns generate kubernetes``: manifests that run meshdns in a cluster."""

import argparse
import sys
from dataclasses import fields
from pathlib import Path

from meshdns.cli.generate_forwarder import add_zone_arguments, configuration, network, zones_of
from meshdns.cli.main import OK
from meshdns.errors import ConfigError, Fault
from meshdns.kubernetes.deployment import Deployment
from meshdns.kubernetes.manifests import VARIANTS, joined, kustomization

_DEFAULT = Deployment()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--as`` and what differs from one cluster to the next."""
    parser.add_argument(
        "--as",
        dest="variant",
        choices=list(VARIANTS),
        default="forward-target",
        help="forward-target: the cluster's DNS forwards to it, the control plane is of a Universal zone; observer: "
        "the same with a control plane in Kubernetes; sidecar: beside a workload that has Kuma's sidecar "
        "(default: %(default)s)",
    )
    parser.add_argument("--output-dir", type=Path, metavar="DIR", help="write a file each, and a kustomization.yaml")
    parser.add_argument("--name", default=_DEFAULT.name, help="of everything that is made (default: %(default)s)")
    parser.add_argument("--namespace", help="where it runs (default: meshdns; the sidecar: default)")
    parser.add_argument("--image", default=_DEFAULT.image, help="default: %(default)s")
    parser.add_argument("--replicas", type=int, default=_DEFAULT.replicas, help="default: %(default)s")
    parser.add_argument(
        "--cluster-ip",
        default=_DEFAULT.cluster_ip,
        metavar="IP",
        help="the Service's address, or auto for one that the cluster chooses (default: %(default)s)",
    )
    parser.add_argument(
        "--control-plane", default=_DEFAULT.control_plane, metavar="HOST:PORT", help="default: %(default)s"
    )
    parser.add_argument("--mesh", default=_DEFAULT.mesh, help="default: %(default)s")
    parser.add_argument(
        "--ca",
        default=_DEFAULT.ca,
        metavar="KIND/NAME",
        help="configmap/NAME or secret/NAME whose ca.crt signed the control plane's certificate (default: %(default)s)",
    )
    parser.add_argument(
        "--token-secret",
        default=_DEFAULT.token_secret,
        metavar="NAME",
        help="forward target: the Secret with a dataplane token (default: %(default)s)",
    )
    parser.add_argument(
        "--allow-namespace",
        action="append",
        metavar="NAME",
        help="whose Pods may ask, once for each (default: kube-system)",
    )
    parser.add_argument(
        "--allow-network", action="append", metavar="NETWORK", help="who else may ask: nodes with NodeLocal DNSCache"
    )
    parser.add_argument(
        "--workload", default=_DEFAULT.workload, metavar="NAME", help="sidecar: the Deployment that it joins"
    )
    parser.add_argument(
        "--system-namespace",
        default=_DEFAULT.system_namespace,
        metavar="NAME",
        help="sidecar: the control plane's (default: %(default)s)",
    )
    add_zone_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the manifests, or write them; raises ConfigError."""
    zones, reverse = zones_of(arguments, configuration(arguments))
    taken = {field.name for field in fields(Deployment) if field.init}
    given = {name: value for name, value in vars(arguments).items() if name in taken}
    given["namespace"] = arguments.namespace or ("default" if arguments.variant == "sidecar" else _DEFAULT.namespace)
    given["cluster_ip"] = None if arguments.cluster_ip == "auto" else arguments.cluster_ip
    given["clients"] = tuple(arguments.allow_namespace or _DEFAULT.clients)
    given["client_networks"] = tuple(network("--allow-network", text) for text in arguments.allow_network or ())
    given["zones"], given["reverse"] = zones, reverse
    try:
        deployment = Deployment(**given)
    except ValueError as error:
        option, _, problem = str(error).partition(": ")
        raise ConfigError("meshdns generate kubernetes", (Fault(option, problem),)) from None
    manifests = VARIANTS[arguments.variant](deployment)
    if arguments.output_dir is None:
        sys.stdout.write(joined(manifests))
        return OK
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    for name, text in {**manifests, "kustomization.yaml": kustomization(manifests)}.items():
        (arguments.output_dir / name).write_text(text, encoding="utf-8")
    return OK
