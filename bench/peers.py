"""Other servers with the names of a mesh, each configured as its makers mean it to be, on one core."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.instance import Running, address, answers, free_port, own_directory, running
from bench.programs import build, found, missing

Start = Callable[[Path, Sequence[str], int], Sequence[object]]
"""(its directory, names, port) → its command, after its configuration was written."""

TTL = 30


@dataclass(frozen=True, slots=True)
class Peer:
    """One server. needs: its command's name. how: its configuration in a few words."""

    title: str
    needs: str
    how: str
    start: Start

    @property
    def missing(self) -> str:
        """Why it cannot be measured here; nothing when it can."""
        return missing(self.needs)

    @contextmanager
    def serving(self, names: Sequence[str]) -> Iterator[Running]:
        """Run it with *names* until the block ends; it answers the last of them when given."""
        port = free_port()
        with own_directory() as here:
            command = self.start(here, names, port)
            with running(self.title, command, here, port, ready=lambda: answers(port, names[-1])) as server:
                yield server


def _echo(here: Path, names: Sequence[str], port: int) -> Sequence[object]:
    return [build("echo.c", here), port]


def _unbound(here: Path, names: Sequence[str], port: int) -> Sequence[object]:
    data = "".join(f'  local-data: "{name}. {TTL} A {address(i)}"\n' for i, name in enumerate(names))
    (here / "unbound.conf").write_text(
        f'server:\n  interface: 127.0.0.1@{port}\n  do-daemonize: no\n  chroot: ""\n  username: ""\n  pidfile: ""\n'
        '  num-threads: 1\n  use-syslog: no\n  so-rcvbuf: 1m\n  module-config: "iterator"\n'
        f'  local-zone: "mesh." static\n{data}remote-control:\n  control-enable: no\n'
    )
    return [found("unbound"), "-d", "-c", here / "unbound.conf"]


def _knot(here: Path, names: Sequence[str], port: int) -> Sequence[object]:
    zone = "".join(f"{name}. A {address(i)}\n" for i, name in enumerate(names))
    (here / "mesh.zone").write_text(
        f"$TTL {TTL}\nmesh. SOA ns.mesh. h.mesh. 1 3600 600 86400 5\nmesh. NS ns.mesh.\n{zone}"
    )
    (here / "knot.conf").write_text(
        f"server:\n  listen: 127.0.0.1@{port}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n"
        f"  rundir: {here}\n  pidfile: {here}/knot.pid\ncontrol:\n  listen: {here}/knot.sock\n"
        f"database:\n  storage: {here}\nlog:\n  - target: stderr\n    any: warning\n"
        f"zone:\n  - domain: mesh.\n    file: {here}/mesh.zone\n"
    )
    return [found("knotd"), "-c", here / "knot.conf"]


def _hosts(here: Path, names: Sequence[str]) -> Path:
    """Write *names* as a hosts file."""
    path = here / "hosts"
    path.write_text("".join(f"{address(i)} {name}\n" for i, name in enumerate(names)))
    return path


def _dnsmasq(here: Path, names: Sequence[str], port: int) -> Sequence[object]:
    words = ["-k", "-C", "/dev/null", "--conf-dir=", "--no-resolv", "--no-hosts", "--pid-file=", "--user="]
    where = ["--listen-address=127.0.0.1", "--bind-interfaces", f"--port={port}", "--log-facility=-"]
    told = [f"--addn-hosts={_hosts(here, names)}", f"--local-ttl={TTL}", "--local=/mesh/"]
    return [found("dnsmasq"), *words, *where, *told]


def _coredns(here: Path, names: Sequence[str], port: int) -> Sequence[object]:
    (here / "Corefile").write_text(
        f".:{port} {{\n  bind 127.0.0.1\n  hosts {_hosts(here, names)} {{\n    ttl {TTL}\n    no_reverse\n  }}\n}}\n"
    )
    return [found("coredns"), "-conf", here / "Corefile"]


def _envoy(here: Path, names: Sequence[str], port: int) -> Sequence[object]:
    domains = [
        {"name": name, "endpoint": {"address_list": {"address": [address(i)]}}, "answer_ttl": f"{TTL}s"}
        for i, name in enumerate(names)
    ]
    (here / "names.json").write_text(json.dumps({"virtual_domains": domains}))
    filter_config = {
        "@type": "type.googleapis.com/envoy.extensions.filters.udp.dns_filter.v3.DnsFilterConfig",
        "stat_prefix": "dns",
        "server_config": {"external_dns_table": {"filename": str(here / "names.json")}},
    }
    listener = {
        "name": "dns",
        "address": {"socket_address": {"protocol": "UDP", "address": "127.0.0.1", "port_value": port}},
        "listener_filters": [{"name": "envoy.filters.udp.dns_filter", "typed_config": filter_config}],
    }
    admin = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}}
    (here / "envoy.json").write_text(json.dumps({"admin": admin, "static_resources": {"listeners": [listener]}}))
    return [found("envoy"), "-c", here / "envoy.json", "--concurrency", 1, "--disable-hot-restart", "-l", "warning"]


ECHO = Peer("C echo", "cc", "`echo.c`: `recvmmsg`, one record appended, `sendmmsg`", _echo)
UNBOUND = Peer("Unbound", "unbound", "`local-data`, one thread", _unbound)
KNOT = Peer("Knot", "knotd", "a zone file, one worker", _knot)
DNSMASQ = Peer("dnsmasq", "dnsmasq", "`addn-hosts`", _dnsmasq)
COREDNS = Peer("CoreDNS hosts", "coredns", "the plug-in `hosts` alone", _coredns)
ENVOY = Peer("Envoy dns_filter", "envoy", "`dns_filter` with an external table, `--concurrency 1`", _envoy)
