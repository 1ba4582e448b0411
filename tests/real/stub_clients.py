"""Run in a network and mount namespace of its own: stub resolvers ask meshdns, then Envoy, each at port 53.

``python -m tests.real.stub_clients FOLDER GAI``; GAI is a getaddrinfo program, statically linked with musl. Prints a
JSON object: server → client → exit code and lines.
"""

import json
import subprocess
import sys
from pathlib import Path

import dns.exception

from tests.parts import ENVOY, which
from tests.real.asking import answers, ask, mesh
from tests.real.daemon import daemon

NAMES = {"A-only": "web.mesh", "dual": "dual.mesh", "unknown": "nobody.mesh"}
GLIBC = "import socket, sys; print(*sorted({a[4][0] for a in socket.getaddrinfo(sys.argv[1], None)}), sep='\\n')"
SERVERS = {"meshdns": "127.0.0.1", "envoy": "127.0.0.2"}
ENVOY_CONFIG = """
static_resources:
  listeners:
    - name: kuma:dns
      address: {socket_address: {protocol: UDP, address: 127.0.0.2, port_value: 53}}
      listener_filters:
        - name: envoy.filters.udp.dns_filter
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.udp.dns_filter.v3.DnsFilterConfig
            stat_prefix: kuma_dns
            server_config:
              inline_dns_table:
                virtual_domains:
                  - name: web.mesh
                    endpoint: {address_list: {address: ["240.0.0.1"]}}
                  - name: dual.mesh
                    endpoint: {address_list: {address: ["240.0.0.3", "fd00:fd00::3"]}}
"""


def main(directory: Path, gai: Path) -> None:
    """Ask with both libraries for each kind of name."""
    subprocess.run([which("ip"), "link", "set", "lo", "up"], check=True)
    (directory / "envoy.yaml").write_text(ENVOY_CONFIG)
    # One file stands over /etc/resolv.conf; its text changes from server to server.
    resolv = directory / "resolv.conf"
    resolv.write_text("")
    subprocess.run(["mount", "--bind", resolv, "/etc/resolv.conf"], check=True)
    words: list[str | Path] = [
        ENVOY,
        "-c",
        directory / "envoy.yaml",
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "-l",
        "warning",
    ]
    with (
        mesh(directory, listen="127.0.0.1:53"),
        daemon(directory, words, ready=_envoy_answers, as_nobody=False),
    ):
        told: dict[str, dict[str, dict[str, object]]] = {}
        for server, address in SERVERS.items():
            resolv.write_text(f"nameserver {address}\noptions timeout:2 attempts:1\n")
            told[server] = {
                f"{library} {kind}": _result([*command, name])
                for library, command in {"musl": [str(gai)], "glibc": [sys.executable, "-c", GLIBC]}.items()
                for kind, name in NAMES.items()
            }
    print(json.dumps(told))


def _result(command: list[str]) -> dict[str, object]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return {"code": done.returncode, "lines": done.stdout.splitlines()}


def _envoy_answers() -> bool:
    try:
        return answers(ask(53, "web.mesh", "A", host=SERVERS["envoy"], timeout=0.3), "A") == ("240.0.0.1",)
    except (dns.exception.DNSException, OSError):
        return False


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
