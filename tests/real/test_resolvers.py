"""Resolvers that people run, told by what ``meshdns generate`` writes, with validation on and no Internet in reach."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import dns.rcode
import pytest

from meshdns.kubernetes.forwarders import FORWARDERS
from tests.parts import which
from tests.real.asking import QUESTIONS, Asked, answers, answers_mesh, ask, check, mesh, target, wait_until
from tests.real.daemon import daemon, free_port, open_directory
from tests.scale import bound
from tests.serving import Serving

ROOT_KEY = (
    ". IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D"  # public: the root zone's
)


def _write(directory: Path, name: str, text: str) -> Path:
    path = directory / name
    path.write_text(text)
    return path


Ready = Callable[[], bool]


def _generated(directory: Path, resolver: str, part: str, mesh_port: int, without: str) -> Path:
    """Write what is generated, but no line that has the words *without*."""
    lines = FORWARDERS[resolver].parts[part](target(mesh_port)).splitlines(keepends=True)
    kept = [line for line in lines if not without or without not in line]
    return _write(directory, f"meshdns-{part}", "".join(kept))


@contextmanager
def unbound(directory: Path, mesh_port: int, port: int, ready: Ready, without: str = "") -> Iterator[None]:
    ours = _generated(directory, "unbound", "conf", mesh_port, without)
    anchor = _write(directory, "root.key", ROOT_KEY + "\n")
    config = _write(
        directory,
        "unbound.conf",
        f"""
server:
    directory: "{directory}"
    chroot: ""
    username: ""
    pidfile: ""
    use-syslog: no
    logfile: ""
    interface: 127.0.0.1@{port}
    do-ip6: no
    module-config: "validator iterator"
    trust-anchor-file: "{anchor}"
    private-address: 240.0.0.0/4
    private-address: fd00::/8
remote-control:
    control-enable: no
include: "{ours}"
""",
    )
    with daemon(directory, [which("unbound"), "-d", "-c", config], ready=ready):
        yield


@contextmanager
def bind(directory: Path, mesh_port: int, port: int, ready: Ready, without: str = "") -> Iterator[None]:
    options = _generated(directory, "bind", "options", mesh_port, without)
    zones = _generated(directory, "bind", "zones", mesh_port, without)
    config = _write(
        directory,
        "named.conf",
        f"""
options {{
    directory "{directory}";
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    pid-file none;
    session-keyfile none;
    managed-keys-directory "{directory}";
    recursion yes;
    dnssec-validation auto;
    include "{options}";
}};
controls {{ }};
include "{zones}";
""",
    )
    with daemon(directory, [which("named"), "-g", "-c", config], ready=ready):
        yield


@contextmanager
def dnsmasq(directory: Path, mesh_port: int, port: int, ready: Ready, without: str = "") -> Iterator[None]:
    ours = _generated(directory, "dnsmasq", "conf", mesh_port, without)
    words = [
        which("dnsmasq"),
        "-k",
        f"--conf-file={ours}",
        "--no-resolv",
        "--no-hosts",
        "--listen-address=127.0.0.1",
        "--bind-interfaces",
        f"--port={port}",
        "--pid-file=",
        "--log-facility=-",
        "--user=",
        "--dnssec",
        "--trust-anchor=.," + ",".join(ROOT_KEY.split()[3:]),
        "--stop-dns-rebind",
        "--bogus-priv",
        "--domain-needed",
    ]
    with daemon(directory, words, ready=ready):
        yield


@contextmanager
def knot_resolver(directory: Path, mesh_port: int, port: int, ready: Ready, without: str = "") -> Iterator[None]:
    ours = _generated(directory, "knot-resolver", "conf", mesh_port, without)
    config = _write(
        directory,
        "kresd.conf",
        f"""
net.ipv6 = false
net.listen('127.0.0.1', {port}, {{ kind = 'dns' }})
-- What would ask the root servers by itself.
modules.unload('priming')
modules.unload('ta_update')
modules.unload('ta_signal_query')
modules.unload('detect_time_skew')
modules.unload('detect_time_jump')
cache.open(10 * MB, 'lmdb://{directory}')
dofile('{ours}')
""",
    )
    with daemon(directory, [which("kresd"), "-n", "-c", config, directory], ready=ready):
        yield


@contextmanager
def pdns_recursor(directory: Path, mesh_port: int, port: int, ready: Ready, without: str = "") -> Iterator[None]:
    lua = _generated(directory, "pdns-recursor", "lua", mesh_port, without)
    included = directory / "recursor.d"
    included.mkdir()
    _generated(included, "pdns-recursor", "conf", mesh_port, without).rename(included / "meshdns.conf")
    _write(
        directory,
        "recursor.conf",
        f"""
local-address=127.0.0.1
local-port={port}
dnssec=validate
forward-zones=
lua-config-file={lua}
include-dir={included}
socket-dir={directory}
daemon=no
disable-syslog=yes
write-pid=no
threads=1
security-poll-suffix=
forward-zones-recurse=.=127.0.0.1:1
""",
    )
    words = [which("pdns_recursor"), f"--config-dir={directory}"]
    with daemon(directory, words, ready=ready):
        yield


RESOLVERS: dict[str, Callable[..., AbstractContextManager[None]]] = {
    "unbound": unbound,
    "bind": bind,
    "dnsmasq": dnsmasq,
    "knot-resolver": knot_resolver,
    "pdns-recursor": pdns_recursor,
}
EVERY = [pytest.param(name, marks=pytest.mark.needs(name)) for name in RESOLVERS]


@dataclass
class Chain:
    """A resolver in front of meshdns."""

    port: int
    mesh: Serving


@pytest.fixture(scope="module")
def served() -> Iterator[Serving]:
    """Run one meshdns for all resolvers."""
    with open_directory() as directory, mesh(directory) as server:
        yield server


@pytest.fixture(scope="module")
def chains(served: Serving) -> Iterator[Callable[[str], Chain]]:
    """Give each resolver when it is first asked for, and end them all with the module."""
    running: dict[str, tuple[Chain, AbstractContextManager[None], AbstractContextManager[Path]]] = {}

    def chain(name: str) -> Chain:
        if name not in running:
            folder = open_directory()
            directory = folder.__enter__()
            port = free_port()
            server = RESOLVERS[name](directory, served.port, port, lambda: answers_mesh(port))
            server.__enter__()
            running[name] = (Chain(port, served), server, folder)
        return running[name][0]

    yield chain
    for _, server, folder in running.values():
        server.__exit__(None, None, None)
        folder.__exit__(None, None, None)


@pytest.mark.parametrize("resolver", EVERY)
@pytest.mark.parametrize("asked", QUESTIONS, ids=str)
def test_every_resolver_gives_what_meshdns_says(chains: Callable[[str], Chain], resolver: str, asked: Asked) -> None:
    port = chains(resolver).port
    check(port, asked, tcp=False)
    check(port, asked, tcp=True)


@pytest.mark.parametrize("resolver", EVERY)
def test_a_client_that_wants_validation_gets_unsigned_answers(chains: Callable[[str], Chain], resolver: str) -> None:
    reply = ask(chains(resolver).port, "web.mesh", "A", want_dnssec=True)
    assert answers(reply, "A") == ("240.0.0.1",)


@pytest.mark.parametrize("resolver", EVERY)
def test_a_name_that_is_removed_is_gone_within_its_ttl(chains: Callable[[str], Chain], resolver: str) -> None:
    chain = chains(resolver)
    records = chain.mesh.config.parent / "records.yaml"
    name = f"gone-{resolver}.mesh"
    before = records.read_text()
    records.write_text(before + f"  {name}: {{addresses: 240.0.0.66, ttl: 1}}\n")
    try:
        wait_until(lambda: answers(ask(chain.mesh.port, name, "A"), "A") == ("240.0.0.66",))
        assert answers(ask(chain.port, name, "A"), "A") == ("240.0.0.66",)
    finally:
        records.write_text(before)
    wait_until(lambda: ask(chain.mesh.port, name, "A").rcode() == dns.rcode.NXDOMAIN)
    removed = time.monotonic()
    wait_until(lambda: ask(chain.port, name, "A").rcode() == dns.rcode.NXDOMAIN)
    assert time.monotonic() - removed < 1 + bound(1)  # resolvers count whole seconds


ULA_POINTER = Asked(ip_address("fd00:fd00::3").reverse_pointer, "PTR", answer=("dual.mesh.",))
WEB = QUESTIONS[0]
REASONS = [
    ("unbound", "do-not-query-localhost", WEB, "SERVFAIL"),
    ("unbound", "domain-insecure", WEB, "SERVFAIL"),
    ("unbound", "private-domain", WEB, "NOERROR"),
    ("unbound", "transparent", ULA_POINTER, "NXDOMAIN"),
    ("bind", '    "mesh";', WEB, "SERVFAIL"),
    ("dnsmasq", "rebind-domain-ok", Asked("dual.mesh", "AAAA"), "NOERROR"),
    ("pdns-recursor", 'addNTA("mesh"', WEB, "SERVFAIL"),
]


@pytest.mark.parametrize(
    ("resolver", "without", "asked", "rcode"),
    [pytest.param(*reason, marks=pytest.mark.needs(reason[0])) for reason in REASONS],
)
def test_a_line_that_is_left_out_is_missed(
    served: Serving, resolver: str, without: str, asked: Asked, rcode: str
) -> None:
    port = free_port()
    with (
        open_directory() as directory,
        RESOLVERS[resolver](directory, served.port, port, lambda: accepts(port), without),
    ):
        reply = ask(port, asked.name, asked.rdtype, timeout=15.0)
    assert dns.rcode.to_text(reply.rcode()) == rcode
    assert not answers(reply, asked.rdtype)


def accepts(port: int) -> bool:
    """Tell whether somebody listens; what a broken chain answers, and when, is the test's own question."""
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True
