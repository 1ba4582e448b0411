"""The probes of ``tools/`` against a real server: wire conformance, hostile packets, TCP abuse."""

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scale import LONG, scale
from tests.serving import Serving, serving

TOOLS = Path(__file__).parent / "tools"
DATA = Path(__file__).parent.parent / "data"
SOURCE = f"sources: [{{name: probe, type: file, path: {DATA / 'dnsprobe' / 'records.yaml'}}}]\n"

try:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.bind(("::1", 0))
    IPV6 = True
except OSError:
    IPV6 = False


def run(tool: str, *words: str, timeout: float = 600) -> str:
    """Run a tool; give what it printed, failing with it when the tool says so."""
    done = subprocess.run(
        [sys.executable, str(TOOLS / tool), *words], capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


ONLY_LONG = pytest.mark.skipif(not LONG, reason="in the long run")
LISTENERS = ["auto", pytest.param("portable", marks=ONLY_LONG)]
"""How UDP is moved: what is told must not depend on it."""

SOON = "drain: 0s\ntcp: {idle: 3s, message: 2s}\n"
"""The probe waits for the end of idle connections; one run of it, in the long run, sees that of the defaults."""

WITHOUT_IPV6 = pytest.mark.skipif(not IPV6, reason="this machine has no IPv6")


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("listen", "asked", "settings"),
    [
        ("127.0.0.1:0", "127.0.0.1", "" if LONG else SOON),
        ("127.0.0.1:0", "127.0.0.1", f"{SOON}listener: portable\n"),
        ("0.0.0.0:0", "127.0.0.2", SOON),
        ("0.0.0.0:0", "127.0.0.2", f"{SOON}listener: portable\n"),
        pytest.param("[::1]:0", "::1", SOON, marks=WITHOUT_IPV6),
        pytest.param("[::1]:0", "::1", f"{SOON}listener: portable\n", marks=(WITHOUT_IPV6, ONLY_LONG)),
    ],
    ids=["one", "one-portable", "all", "all-portable", "v6", "v6-portable"],
)
def test_every_check_of_the_wire_probe_passes(tmp_path: Path, listen: str, asked: str, settings: str) -> None:
    with serving(tmp_path, f'listen: ["{listen}"]\n{settings}{SOURCE}') as server:
        said = run("dnsprobe.py", "--server", asked, "--port", str(server.port), "--idle", "15")
        assert "# 91 pass 0 fail 0 warn of 91" in said, said
        assert "Traceback" not in server.logged()


@pytest.fixture
def probed(tmp_path: Path) -> Iterator[Serving]:
    with serving(tmp_path, f'listen: ["127.0.0.1:0"]\ndrain: 0s\n{SOURCE}') as server:
        yield server


@pytest.mark.timeout(900)
def test_hostile_packets_neither_crash_nor_get_malformed_replies(probed: Serving) -> None:
    """Packets over UDP, every tenth of them over TCP too."""
    packets = str(DATA / "packets")
    count = scale(200_000)
    said = run(
        "fuzzsend.py", "--port", str(probed.port), "--max", str(count), "--mutate", str(count // 250 + 1),
        "--tcp", "0.1", "--pid", str(probed.process.pid), packets, timeout=850,
    )  # fmt: skip
    sent, malformed = re.search(r"# sent (\d+) .*malformed answers (\d+)", said).groups()  # type: ignore[union-attr]
    assert (int(sent), int(malformed)) == (count, 0), said
    assert "alive=True" in said
    assert "Traceback" not in probed.logged()
    assert "ERROR" not in probed.logged(), probed.logged()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", ["idle", "slow", "noread", "churn", "halfmsg"])
def test_abuse_over_tcp_costs_honest_clients_nothing(probed: Serving, mode: str) -> None:
    seconds = "20" if LONG else "3"
    said = run(
        "tcpabuse.py", "--port", str(probed.port), "--mode", mode, "--n", "500", "--secs", seconds,
        "--pid", str(probed.process.pid), timeout=250,
    )  # fmt: skip
    udp_lost, tcp_lost = re.findall(r"ms lost (\d+)", said)
    assert (udp_lost, tcp_lost) == ("0", "0"), said
    assert "Traceback" not in probed.logged()
