"""Unbound and BIND as upstreams, over UDP, TCP and TLS; and lists of servers that change under load."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest
import trustme

from tests.parts import which
from tests.real.asking import answers, wait_until
from tests.real.asking import ask as ask_stub
from tests.real.daemon import daemon, free_port, open_directory
from tests.scale import scale
from tests.serving import serving
from tests.upstream.tap import config, two_hosts_port

TEXT = "x" * 200
ZONE = """
$ORIGIN example.
$TTL 60
@ SOA ns hm 1 3600 600 86400 60
@ NS ns
ns A 127.0.0.1
www A 192.0.2.1
www AAAA 2001:db8::1
alias CNAME www
away CNAME web.mesh.
mail MX 5 mx.mail
_s._tcp SRV 1 2 3 www
*.wild A 192.0.2.7
odd TYPE65280 \\# 6 c00cc0ff0001
""" + "".join(f"big TXT {number}{TEXT}\n" for number in range(10, 30))

QUESTIONS = [
    ("www.example", "A", "NOERROR", ("192.0.2.1",)),
    ("WWW.Example", "AAAA", "NOERROR", ("2001:db8::1",)),
    ("www.example", "TXT", "NOERROR", ()),
    ("nosuch.example", "A", "NXDOMAIN", ()),
    ("alias.example", "A", "NOERROR", ("192.0.2.1",)),
    ("away.example", "A", "NOERROR", ("240.0.0.1",)),
    ("mail.example", "MX", "NOERROR", ("5 mx.mail.example.",)),
    ("_s._tcp.example", "SRV", "NOERROR", ("1 2 3 www.example.",)),
    ("a.b.wild.example", "A", "NOERROR", ("192.0.2.7",)),
    ("odd.example", "TYPE65280", "NOERROR", ("\\# 6 c00cc0ff0001",)),
    ("example", "SOA", "NOERROR", ("ns.example. hm.example. 1 3600 600 86400 60",)),
]


@contextmanager
def unbound(directory: Path, hosts: tuple[str, ...], port: int, secure: int) -> Iterator[None]:
    """Serve ``ZONE`` by Unbound."""
    (directory / "example.zone").write_text(ZONE)
    interfaces = "".join(f"    interface: {host}@{number}\n" for host in hosts for number in (port, secure))
    path = directory / "unbound.conf"
    path.write_text(f"""
server:
    directory: "{directory}"
    chroot: ""
    username: ""
    pidfile: ""
    use-syslog: no
    logfile: ""
{interfaces}
    do-ip6: no
    tls-port: {secure}
    tls-service-key: "{directory}/key.pem"
    tls-service-pem: "{directory}/chain.pem"
    module-config: "iterator"
    access-control: 127.0.0.0/8 allow
remote-control:
    control-enable: no
auth-zone:
    name: "example."
    zonefile: "{directory}/example.zone"
    for-downstream: yes
""")
    with daemon(directory, [which("unbound"), "-d", "-p", "-c", path], ready=lambda: _answers(hosts[0], port)):
        yield


@contextmanager
def bind(directory: Path, hosts: tuple[str, ...], port: int, secure: int) -> Iterator[None]:
    """Serve ``ZONE`` by BIND."""
    (directory / "example.zone").write_text(ZONE)
    path = directory / "named.conf"
    listed = "; ".join(hosts)
    path.write_text(f"""
tls local {{ key-file "{directory}/key.pem"; cert-file "{directory}/chain.pem"; }};
options {{
    directory "{directory}";
    pid-file none;
    listen-on port {port} {{ {listed}; }};
    listen-on port {secure} tls local {{ {listed}; }};
    listen-on-v6 {{ none; }};
    recursion no;
    allow-query {{ 127.0.0.0/8; }};
    dnssec-validation no;
}};
controls {{ }};
zone "example" {{ type primary; file "{directory}/example.zone"; }};
""")
    words = [which("named"), "-f", "-g", "-c", path]
    with daemon(directory, words, ready=lambda: _answers(hosts[0], port)):
        yield


def _answers(host: str, port: int) -> bool:
    try:
        reply = dns.query.udp(dns.message.make_query("www.example", "A"), host, 0.3, port)
    except (dns.exception.DNSException, OSError):
        return False
    return bool(reply.answer)


Server = Callable[[Path, tuple[str, ...], int, int], AbstractContextManager[None]]

SERVERS = [
    pytest.param(unbound, id="unbound", marks=pytest.mark.needs("unbound")),
    pytest.param(bind, id="bind", marks=pytest.mark.needs("bind")),
]


def certify(directory: Path) -> None:
    """Write an authority, and a certificate of it for ``dns.example``."""
    authority = trustme.CA()
    issued = authority.issue_cert("dns.example")
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    issued.private_key_pem.write_to_path(str(directory / "key.pem"))
    for number, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(str(directory / "chain.pem"), append=bool(number))
    for path in directory.iterdir():
        path.chmod(0o644)


@pytest.mark.parametrize("scheme", ["udp", "tcp", "tls"])
@pytest.mark.parametrize("server", SERVERS)
def test_a_real_server_is_forwarded_to(tmp_path: Path, server: Server, scheme: str) -> None:
    port, secure = free_port(), free_port()
    with open_directory() as directory:
        certify(directory)
        with server(directory, ("127.0.0.1",), port, secure):
            address = f"tls://127.0.0.1:{secure}#dns.example" if scheme == "tls" else f"{scheme}://127.0.0.1:{port}"
            settings = config(address)
            if scheme == "tls":
                settings = settings.replace("servers: [", f"ca_file: {directory}/ca.pem, servers: [")
            with serving(tmp_path, settings) as instance:
                for _ in range(2):  # fresh, and from the cache
                    for name, rdtype, rcode, expected in QUESTIONS:
                        for tcp in (False, True):
                            reply = ask_stub(instance.port, name, rdtype, tcp=tcp)
                            assert dns.rcode.to_text(reply.rcode()) == rcode, reply
                            assert answers(reply, rdtype) == expected, reply
                            assert reply.flags & dns.flags.RA
                big = ask_stub(instance.port, "big.example", "TXT")
                assert len(answers(big, "TXT")) == 20
                assert "Traceback" not in instance.logged()


@pytest.mark.needs("unbound")
@pytest.mark.timeout(180)
def test_another_resolv_conf_under_load_loses_no_answer(tmp_path: Path) -> None:
    """From one server to another and back, by an empty file and rubbish; what is asked is never in the cache."""
    port = two_hosts_port()
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 127.0.0.1\n")
    count = scale(5_000)
    with open_directory() as directory:
        certify(directory)
        with unbound(directory, ("127.0.0.1", "127.0.0.2"), port, free_port()):
            settings = config("x").replace('servers: ["x"]', f"servers: {file}, port: {port}")
            with serving(tmp_path, settings) as instance:
                lost: list[str] = []
                done = threading.Event()

                def load(worker: int) -> None:
                    number = 0
                    while not done.is_set() or number < count // 4:
                        name = f"w{worker}n{number}.x{number % 7}.wild.example"
                        try:
                            reply = ask_stub(instance.port, name, "A")
                            lost.extend([name] * (answers(reply, "A") != ("192.0.2.7",)))
                        except dns.exception.Timeout:
                            lost.append(name)
                        number += 1

                workers = [threading.Thread(target=load, args=(worker,)) for worker in range(4)]
                for worker in workers:
                    worker.start()
                try:
                    for host, between in (("127.0.0.2", ""), ("127.0.0.1", "rubbish\n"), ("127.0.0.2", "nameserver\n")):
                        for text in (between, f"nameserver {host}\n"):
                            fresh = tmp_path / "fresh"
                            fresh.write_text(text)
                            fresh.replace(file)
                            if text:
                                wait_until(
                                    lambda host=host, text=text: _uses(instance.config, host) or host not in text
                                )
                finally:
                    done.set()
                    for worker in workers:
                        worker.join()
                assert lost == []


def _uses(path: Path, host: str) -> bool:
    words = [sys.executable, "-m", "meshdns", "status", "--json", "--config", str(path)]
    said = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    return f'"server": "{host}:' in said
