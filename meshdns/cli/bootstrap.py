"""``meshdns bootstrap``: what an Envoy is started with, to be a data plane of the mesh that is published here."""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from meshdns.cli.instance import configuration
from meshdns.cli.publisher import add_data_plane, publisher_settings, token_for
from meshdns.errors import MeshdnsError
from meshdns.publisher.bootstrap import ControlPlane, Proxy, bootstrap
from meshdns.publisher.certificate import read_certificate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb takes."""
    add_data_plane(parser)
    parser.add_argument("--address", metavar="HOST:PORT", help="where it reaches the publisher (default: its listen)")
    parser.add_argument("--ca-file", type=Path, metavar="FILE", help="what signed the publisher's certificate")
    parser.add_argument("--protocol", choices=("delta", "sotw"), default="delta", help="variant of xDS")
    parser.add_argument("--admin-port", type=_port, default=9901, metavar="PORT", help="default: 9901; 0: a free one")
    parser.add_argument("--dns-port", type=_port, default=0, metavar="PORT", help="have Envoy's own DNS filter listen")
    parser.add_argument("--workdir", type=Path, metavar="DIR", help="have names served on a socket in DIR instead")
    parser.add_argument("--dataplane", type=Path, metavar="FILE", help="bring this Dataplane (YAML) along")


def run(arguments: argparse.Namespace) -> int:
    """Print the bootstrap as YAML. It holds the data plane's token: who can read it can be this data plane."""
    config = configuration(arguments)
    settings = publisher_settings(config, arguments, arguments.mesh)
    host, port = _where(arguments.address, settings.listen_host, settings.listen_port)
    certificate = read_certificate(settings, config.data_dir)
    authority = ""
    if certificate is not None:
        chain = _read(arguments.ca_file) if arguments.ca_file else certificate.chain.decode("ascii", "replace")
        authority = chain
    proxy = Proxy(
        settings.mesh,
        arguments.name,
        arguments.admin_port,
        arguments.dns_port or (15053 if arguments.workdir else 0),  # without a port there are no names for it
        str(arguments.workdir.absolute()) if arguments.workdir else "",
        _read(arguments.dataplane) if arguments.dataplane else "",
    )
    token = token_for(config, settings, arguments.name, arguments.valid_for) if settings.tokens else ""
    document = bootstrap(proxy, ControlPlane(host, port, authority, token), arguments.protocol)
    yaml.dump(document, sys.stdout, Dumper=_Dumper, sort_keys=False, width=2**16)
    return 0


class _Dumper(yaml.SafeDumper):
    """YAML for reading: what is there twice is written twice, and a certificate line by line."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def _where(address: str | None, listen_host: str, listen_port: int) -> tuple[str, int]:
    host, _, port = (address or "").rpartition(":")
    if address is None:
        host, port = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen_host, listen_host), str(listen_port)
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 2**16:
        raise MeshdnsError(f"--address: {address or f'{host}:{port}'} is not a host and a port above 0")
    return host.strip("[]"), int(port)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as fault:
        raise MeshdnsError(f"{path}: {getattr(fault, 'strerror', None) or 'is not text'}") from None


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be a port, not {text[:60]!r}")
    return int(text)
