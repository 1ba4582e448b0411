"""``meshdns generate coredns`` and the other resolvers: what tells them to forward our zones to meshdns."""

import argparse
import re
import sys
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from meshdns.cli.main import OK
from meshdns.config import Config, find, load_for
from meshdns.errors import ConfigError, Fault, ResourceError
from meshdns.inventory.name import check_name
from meshdns.kubernetes.configmap import USUAL_NAMES, merge
from meshdns.kubernetes.forwarders import FORWARDERS, Target
from meshdns.kubernetes.forwarders.target import CLUSTER_ADDRESS, LOOPBACK_ADDRESS, Endpoint, parse_endpoint

Network = IPv4Network | IPv6Network

_BIND = re.compile(r"[A-Za-z0-9_.:%-]+\Z")
"""CoreDNS takes interfaces besides addresses, and NodeLocal DNSCache replaces placeholders itself."""


def add_arguments(parser: argparse.ArgumentParser, resolver: str) -> None:
    """Add what is told to *resolver* (a key of FORWARDERS)."""
    forwarder = FORWARDERS[resolver]
    where = CLUSTER_ADDRESS if forwarder.in_cluster else f"'listen' of the configuration, else {LOOPBACK_ADDRESS}"
    parser.add_argument(
        "--address",
        action="append",
        metavar="IP[:PORT]",
        help=f"where meshdns answers; once for each instance (default: {where})",
    )
    add_zone_arguments(parser)
    if len(forwarder.parts) > 1:
        parser.add_argument("--part", choices=list(forwarder.parts), help="which of its files (default: the first)")
    if resolver == "nodelocal":
        parser.add_argument(
            "--bind", action="append", metavar="IP", help="where the cache listens, once for each address"
        )
    if resolver in USUAL_NAMES:
        parser.add_argument(
            "--merge",
            type=Path,
            metavar="FILE",
            help=f"put it into ConfigMap {USUAL_NAMES[resolver]!r} in FILE (- is standard input) and print all of it",
        )
        parser.add_argument("--in-place", action="store_true", help="with --merge: write FILE instead of printing")


def add_zone_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--zones`` and ``--reverse``, which otherwise come from the configuration."""
    parser.add_argument("--zones", nargs="+", metavar="ZONE", help="the zones (default: the configuration's, or mesh)")
    parser.add_argument(
        "--reverse", nargs="*", metavar="NETWORK", help="whose reverse zones too (default: the configuration's)"
    )


def run(arguments: argparse.Namespace, resolver: str) -> int:
    """Print the text for *resolver*, or the ConfigMap with it; raises ConfigError."""
    forwarder = FORWARDERS[resolver]
    config = configuration(arguments)
    zones, reverse = zones_of(arguments, config)
    bind = tuple(getattr(arguments, "bind", None) or ())
    for word in bind:
        if not _BIND.match(word):
            raise _fault("--bind", f"{word!r} is not an address, nor the name of an interface")
    target = Target(
        _endpoints(arguments, config, in_cluster=forwarder.in_cluster),
        zones,
        reverse,
        bind=bind,
    )
    merged: Path | None = getattr(arguments, "merge", None)
    if merged is None:
        if getattr(arguments, "in_place", False):
            raise _fault("--in-place", "needs --merge FILE")
        part = getattr(arguments, "part", None) or next(iter(forwarder.parts))
        sys.stdout.write(forwarder.parts[part](target))
        return OK
    text = _read(merged)
    joined = merge(text, resolver, target, path=str(merged))
    if not arguments.in_place:
        sys.stdout.write(joined)
    elif str(merged) == "-":
        raise _fault("--in-place", "standard input cannot be written")
    elif joined != text:
        with merged.open("w", encoding="utf-8", newline="") as file:
            file.write(joined)
    return OK


def configuration(arguments: argparse.Namespace) -> Config:
    """Give the configuration that is named or found; all defaults where there is none.

    What is named has to be there; raises ConfigError.
    """
    if arguments.config is None and arguments.data_dir is None:
        try:
            find()
        except ConfigError:
            return Config()
    return load_for(arguments.config, arguments.data_dir)


def zones_of(arguments: argparse.Namespace, config: Config) -> tuple[tuple[str, ...], tuple[Network, ...]]:
    """Give the zones and reverse ranges of ``--zones`` and ``--reverse``, else of *config*; raises ConfigError."""
    zones, reverse = config.zones, config.reverse
    if arguments.zones is not None:
        zones = tuple(_zone(zone) for word in arguments.zones for zone in word.split(",") if zone)
    if arguments.reverse is not None:
        reverse = tuple(network("--reverse", text) for word in arguments.reverse for text in word.split(",") if text)
    if not zones:
        raise _fault("--zones", "names no zone")
    return tuple(dict.fromkeys(zones)), tuple(dict.fromkeys(reverse))


def network(option: str, text: str) -> Network:
    """Read a network such as ``240.0.0.0/4``; raises ConfigError."""
    try:
        return ip_network(text)
    except ValueError as error:
        raise _fault(option, str(error)) from None


def _zone(text: str) -> str:
    try:
        zone = check_name(text).lower()
    except ResourceError as error:
        raise _fault("--zones", str(error)) from None
    if "*" in zone:
        raise _fault("--zones", f"{text!r}: a zone cannot be a wildcard")
    return zone


def _endpoints(arguments: argparse.Namespace, config: Config, *, in_cluster: bool) -> tuple[Endpoint, ...]:
    if arguments.address:
        try:
            return tuple(dict.fromkeys(parse_endpoint(text) for text in arguments.address))
        except ValueError as error:
            raise _fault("--address", str(error)) from None
    if in_cluster:
        return (parse_endpoint(CLUSTER_ADDRESS),)
    for listen in config.listen:
        host, _, port = listen.rpartition(":")
        if port != "0":
            return (parse_endpoint({"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host) + f":{port}"),)
    return (parse_endpoint(LOOPBACK_ADDRESS),)


def _read(path: Path) -> str:
    try:
        octets = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        return octets.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(str(path), (Fault("", f"cannot be read: {error.strerror or error}"),)) from None
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), (Fault("", f"not UTF-8 (octet {error.start})"),)) from None


def _fault(option: str, problem: str) -> ConfigError:
    return ConfigError("meshdns generate", (Fault(option, problem),))
