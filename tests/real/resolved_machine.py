"""Run as root in a network and mount namespace of its own: a machine with systemd-resolved, told by what we write.

``python -m tests.real.resolved_machine FOLDER DNSSEC``. Prints a JSON object: the answers of 127.0.0.53, and the log.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import dns.exception
import dns.rcode

from meshdns.kubernetes.forwarders import FORWARDERS
from tests.parts import RESOLVED, which
from tests.real.asking import QUESTIONS, answers, ask, mesh, target
from tests.real.daemon import daemon

STUB = "127.0.0.53"
USER = 64_053
"""The user of the daemon, in this namespace only."""


def main(directory: Path, dnssec: str) -> None:
    """Set up the machine, run meshdns and systemd-resolved, and ask."""
    _network()
    with mesh(directory) as server:
        _files(directory, server.port, dnssec)
        environment = {"SYSTEMD_LOG_LEVEL": "info", "SYSTEMD_LOG_TARGET": "console"}
        with daemon(directory, [RESOLVED], ready=_answers, as_nobody=False, environment=environment) as resolved:
            told = {}
            for asked in QUESTIONS:
                reply = ask(53, asked.name, asked.rdtype, host=STUB)
                told[str(asked)] = [dns.rcode.to_text(reply.rcode()), list(answers(reply, asked.rdtype))]
            log = resolved.logged()
        print(json.dumps({"told": told, "log": log, "meshdns": server.logged()}))


def _network() -> None:
    """A link with a routable address: without one the daemon answers SERVFAIL to everything."""
    for words in (
        "link set lo up",
        "link add vx0 type veth peer name vx1",
        "addr add 10.255.0.1/30 dev vx0",
        "link set vx0 up",
        "link set vx1 up",
        "route add default via 10.255.0.2",
    ):
        subprocess.run([which("ip"), *words.split()], check=True)


def _files(directory: Path, port: int, dnssec: str) -> None:
    for file, line in (
        ("passwd", f"systemd-resolve:x:{USER}:{USER}::/:/bin/false"),
        ("group", f"systemd-resolve:x:{USER}:"),
    ):
        copy = directory / file
        copy.write_text(Path("/etc", file).read_text() + line + "\n")
        subprocess.run(["mount", "--bind", copy, f"/etc/{file}"], check=True)
    for folder in ("/run", "/etc/systemd"):
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)
    state = Path("/run/systemd/resolve")
    state.mkdir(parents=True)
    os.chown(state, USER, USER)
    parts = FORWARDERS["systemd-resolved"].parts
    Path("/etc/systemd/resolved.conf").write_text(
        f"[Resolve]\nFallbackDNS=\nLLMNR=no\nMulticastDNS=no\nDNSSEC={dnssec}\n"
    )
    Path("/etc/systemd/resolved.conf.d").mkdir()
    Path("/etc/systemd/resolved.conf.d/meshdns.conf").write_text(parts["resolved"](target(port)))
    anchors = Path("/run/dnssec-trust-anchors.d")  # read as well as the folder below /etc
    anchors.mkdir()
    (anchors / "meshdns.negative").write_text(parts["negative"](target(port)))


def _answers() -> bool:
    try:
        return answers(ask(53, "web.mesh", "A", host=STUB, timeout=0.5), "A") == ("240.0.0.1",)
    except (dns.exception.DNSException, OSError):
        return False


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
