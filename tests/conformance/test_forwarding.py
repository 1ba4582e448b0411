"""A whole instance that forwards: the probes of ``tools/``, lost packets, dead servers; no mesh name leaves."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dns.message
import pytest

from tests.conformance.test_difference import knot
from tests.conformance.test_probes import DATA, LISTENERS, SOON, TOOLS, run
from tests.real.daemon import free_port
from tests.scale import LONG, scale
from tests.serving import Serving, serving
from tests.upstream.tap import GOOD, Tap, ask, config, tap, two_hosts_port

ROOT = Path(__file__).parent.parent.parent


def responder(instance: Serving) -> int:
    """Give the pid of the process that answers."""
    children = Path(f"/proc/{instance.process.pid}/task/{instance.process.pid}/children").read_text().split()
    return next(int(pid) for pid in children if b"sync" not in Path(f"/proc/{pid}/cmdline").read_bytes())


def unharmed(instance: Serving) -> None:
    """Assert that nothing went wrong inside."""
    assert "Traceback" not in instance.logged(), instance.logged()
    assert " error " not in instance.logged().lower(), instance.logged()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("listener", LISTENERS)
def test_every_check_of_the_forwarder_probe_passes(tmp_path: Path, listener: str) -> None:
    port = two_hosts_port()
    settings = config(f"127.0.0.1:{port}", f"127.0.0.2:{port}", extra=f"listener: {listener}")
    with serving(tmp_path, settings) as instance:
        said = run("fwdprobe.py", "--port", str(instance.port), "--uport", str(port), "--two")
        worse = [line for line in said.splitlines() if line.startswith(("FAIL", "WARN")) and " P-case " not in line]
        assert worse == []
        assert re.search(r"# 5[34] pass 0 fail [01] warn of 54", said), said
        unharmed(instance)


@pytest.mark.timeout(300)
def test_one_server_is_enough_for_the_forwarder_probe(tmp_path: Path) -> None:
    """Behind a listener that is bound to all addresses, and takes datagrams one by one."""
    port = free_port()
    settings = config(f"127.0.0.1:{port}", extra="listener: portable").replace("127.0.0.1:0", "0.0.0.0:0")
    with serving(tmp_path, settings) as instance:
        said = run("fwdprobe.py", "--server", "127.0.0.3", "--port", str(instance.port), "--uport", str(port))
        assert re.search(r"# 5[01] pass 0 fail [01] warn of 51", said), said


@pytest.fixture
def forwarding(tmp_path: Path) -> Iterator[tuple[Tap, Serving]]:
    with tap() as upstream:
        settings = config(f"127.0.0.1:{upstream.port}", extra="cache: {entries: 500}")
        with serving(tmp_path, settings) as instance:
            yield upstream, instance
        assert upstream.leaked() == []


Pair = tuple[Tap, Serving]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("listener", LISTENERS)
def test_every_check_of_the_wire_probe_passes_with_forwarding_on(tmp_path: Path, listener: str) -> None:
    with tap() as upstream:
        settings = config(f"127.0.0.1:{upstream.port}", extra=f"{SOON.partition(chr(10))[2]}listener: {listener}")
        with serving(tmp_path, settings) as instance:
            said = run("dnsprobe.py", "--port", str(instance.port), "--idle", "15")
            assert "# 91 pass 0 fail 0 warn of 91" in said, said
            unharmed(instance)
        assert upstream.leaked() == []


@pytest.mark.needs("knot")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("listener", LISTENERS)
def test_no_difference_from_knot_with_forwarding_on(tmp_path: Path, listener: str) -> None:
    generate = [sys.executable, str(TOOLS / "difftest.py"), "gen", "--seed", "77", "--dir", str(tmp_path)]
    subprocess.run(generate, check=True)
    snapshot = json.loads((tmp_path / "snap.77.json").read_text())
    (tmp_path / "records.yaml").write_text(json.dumps({"ttl": 30, "records": snapshot["records"]}))
    count = scale(20_000)
    with tap() as upstream:
        settings = config(
            f"127.0.0.1:{upstream.port}", records=tmp_path / "records.yaml", extra=f"listener: {listener}"
        )
        with serving(tmp_path, settings) as ours, knot(tmp_path, tmp_path / "zone.77.db") as theirs:
            said = run(
                "difftest.py", "run", "--seed", "77", "--n", str(count),
                "--a", f"127.0.0.1:{ours.port}", "--b", f"127.0.0.1:{theirs}",
            )  # fmt: skip
        assert f"# {count} equal 0 different" in said, said
        assert upstream.leaked() == []


@pytest.mark.timeout(900)
def test_hostile_packets_of_clients_with_forwarding_on(forwarding: Pair) -> None:
    """Packets over UDP, every tenth of them over TCP too; what is kept of others' answers is bounded, so memory is."""
    _, instance = forwarding
    count = 1_000_000 if LONG else 40_000
    said = run(
        "fuzzsend.py", "--port", str(instance.port), "--max", str(count), "--mutate", str(count // 250 + 1),
        "--seed", "7", "--tcp", "0.1", "--pid", str(responder(instance)), str(DATA / "packets"), timeout=850,
    )  # fmt: skip
    sent = re.search(r"# sent (\d+) .* (\d+) over TCP too \((\d+) answers\)", said)
    assert sent is not None, said
    assert int(sent[1]) == count, said
    assert int(sent[2]) >= 0.09 * count, said
    assert int(sent[3]) > 0, said
    found = re.search(r"malformed answers (\d+), >1232B (\d+).*alive=(\w+); rss MiB (\d+)->(\d+)", said)
    assert found is not None, said
    malformed, large, alive, before, after = found.groups()
    assert (malformed, large, alive) == ("0", "0", "True"), said
    assert int(after) - int(before) <= 8, said
    unharmed(instance)


@pytest.mark.timeout(1800)
def test_hostile_answers_of_an_upstream(tmp_path: Path) -> None:
    port, count = free_port(), 200_000 if LONG else 10_000
    with serving(tmp_path, config(f"127.0.0.1:{port}", extra="cache: {entries: 500}")) as instance:
        said = run(
            "fuzzsend.py", "--port", str(instance.port), "--max", str(count), "--mutate", str(count // 250 + 1),
            "--upstream", str(port), "--inflight", "16", "--pid", str(responder(instance)),
            str(DATA / "packets"), timeout=1700,
        )  # fmt: skip
        found = re.search(r"answers (\d+), malformed answers (\d+).*alive=(\w+); rss MiB (\d+)->(\d+)", said)
        assert found is not None, said
        answers, malformed, alive, before, after = found.groups()
        assert (int(answers), malformed, alive) == (count, "0", "True"), said
        assert int(after) - int(before) <= 8, said
        unharmed(instance)


def honest(seconds: float, *ports: int) -> list[dict[str, float]]:
    """Ask as an honest client does, from a process of its own, the servers at *ports* in turn."""
    words = [sys.executable, "-m", "tests.conformance.honest", str(seconds), *map(str, ports)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT, timeout=120)
    figures: list[dict[str, float]] = json.loads(done.stdout)
    return figures


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", ["idle", "slow", "noread", "churn", "halfmsg"])
def test_abuse_over_tcp_with_forwarding_on(forwarding: Pair, mode: str, tmp_path: Path) -> None:
    """Beside an instance that nobody abuses: what befalls the machine meanwhile befalls both."""
    upstream, instance = forwarding
    seconds = 20 if LONG else 3
    (tmp_path / "other").mkdir()
    told: list[list[dict[str, float]]] = []
    with serving(tmp_path / "other", config(f"127.0.0.1:{upstream.port}")) as other:
        asking = threading.Thread(target=lambda: told.append(honest(seconds, instance.port, other.port)))
        asking.start()
        said = run(
            "tcpabuse.py", "--port", str(instance.port), "--mode", mode, "--n", "500", "--secs", str(seconds),
            "--pid", str(responder(instance)), timeout=250,
        )  # fmt: skip
        asking.join()
    abused, undisturbed = told[0]
    assert abused["lost"] == 0, (told, said)
    figures = re.search(r"lost (\d+) \| TCP .* p99 (\S+) ms lost (\d+) \| rss MiB (\d+) peak (\d+)", said)
    assert figures is not None, said
    udp_lost, tcp_p99, tcp_lost, rss, peak = figures.groups()
    assert (udp_lost, tcp_lost) == ("0", "0"), said
    assert float(tcp_p99) <= (1000 if LONG else 2000), said
    assert int(peak) - int(rss) <= 32, said
    if LONG:  # alone on the machine
        assert abused["p99"] <= max(2 * undisturbed["p99"], 2.0), (told, said)
    unharmed(instance)


@pytest.mark.timeout(120)
def test_all_upstreams_dead_costs_the_mesh_nothing_and_every_client_gets_an_answer(tmp_path: Path) -> None:
    port = two_hosts_port()
    with tap(port=port) as one, tap("127.0.0.2", port) as two:
        with serving(
            tmp_path, config(f"127.0.0.1:{port}", f"127.0.0.2:{port}", extra="cache: {max_ttl: 1s}")
        ) as instance:
            for number in range(6):
                assert ask(instance.port, f"known{number}.example")[0] is not None
            (before,) = honest(3, instance.port)
            one.silent = two.silent = True
            time.sleep(1.1)
            slow: list[tuple[str, bytes | None, float]] = []

            def load(worker: int) -> None:
                for number in range(4 if worker % 2 else 2):
                    name = f"known{number}.example" if worker % 2 else f"w{worker}n{number}.x{number}.example"
                    slow.append((name, *ask(instance.port, name)))

            workers = [threading.Thread(target=load, args=(worker,)) for worker in range(12)]
            for worker in workers:
                worker.start()
            (during,) = honest(3, instance.port)
            for worker in workers:
                worker.join()
            assert during["lost"] == 0
            assert during["p99"] <= max(2 * before["p99"], 10.0 if LONG else 100.0), (before, during)
            for name, reply, seconds in slow:
                assert reply is not None, name
                assert seconds <= (4.2 if LONG else 5.9), name  # it is 3.5 at the most; the client's own patience is 6
                if name.startswith("known"):
                    assert [str(rrset[0]) for rrset in dns.message.from_wire(reply).answer] == [GOOD], name
                else:
                    assert reply[3] & 15 == 2, name
            unharmed(instance)
        assert one.leaked() == two.leaked() == []


@pytest.mark.needs("netns", "iproute2", "nftables")
@pytest.mark.timeout(300)
def test_one_lost_packet_of_five_is_hidden_from_clients(tmp_path: Path) -> None:
    flags = "-nm" if os.geteuid() == 0 else "-Urnm"
    words = ["unshare", flags, sys.executable, "-m", "tests.conformance.lossy", str(tmp_path), "2000", "20"]
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=280, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["answered"] >= (1998 if LONG else 1990), told
    assert (told["leaked"], told["faults"]) == (0, False)
