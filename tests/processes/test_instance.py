"""A whole instance under load: what is killed, restarted, drained or configured anew loses no query."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from meshdns.processes.status import read_status
from meshdns.processes.status_file import start_of
from tests.processes.load import address_in, ask_once, connections, datagrams
from tests.processes.stubbed import wait_until
from tests.scale import LONG, bound, scale
from tests.serving import Serving, serving

NAMES = [f"service-{number}.default.mesh" for number in range(2_000)]
EXTRA = "sources: [{name: extra, type: file, path: records.yaml}]\n"
CONFIG = f'listen: ["127.0.0.1:0"]\ndrain: 1s\n{EXTRA}'


LIMIT = 1.0 if LONG else 5.0
"""Seconds for every answer; the long run has the machine for itself."""


def write_table(directory: Path, number: int, names: list[str] | None = None) -> None:
    """The table *number*: its number stands in the first two octets of every address after 240."""
    lines = [
        f"  {name}: {240 + (number >> 8)}.{number & 255}.{at >> 8}.{at & 255}" for at, name in enumerate(names or NAMES)
    ]
    fresh = directory / "fresh.yaml"
    fresh.write_text("records:\n" + "\n".join(lines) + "\n")
    fresh.replace(directory / "records.yaml")


def table_of(address: bytes) -> int:
    return (address[0] - 240) << 8 | address[1]


def pid_of(directory: Path, name: str) -> int:
    def running() -> int:
        status = read_status(directory / "data")
        return next((each.pid for each in status.processes if each.name == name and each.running), 0)

    return wait_until(running, f"{name} runs")


def listens(directory: Path, pid: int) -> tuple[str, int]:
    """Where the instance whose supervisor is *pid* listens, as soon as it says so."""

    def told() -> tuple[str, ...]:
        status = read_status(directory / "data")
        return status.listen if status.pid == pid else ()

    host, _, port = wait_until(told, "it says where it listens")[0].rpartition(":")
    return host, int(port)


def served(server: Serving, name: str) -> int | None:
    reply = ask_once(server.listen[0], name)
    return None if reply is None or reply[3] & 15 else table_of(address_in(reply))


def next_pid(directory: Path, name: str, former: int) -> int:
    return wait_until(lambda: pid if (pid := pid_of(directory, name)) != former else 0, f"{name} is started again")


@pytest.mark.timeout(900 if LONG else 120)
def test_sync_killed_in_mid_push_loses_no_query_and_mixes_no_tables(tmp_path: Path) -> None:
    write_table(tmp_path, 1)
    with serving(tmp_path, CONFIG) as server:

        def server_table() -> int:
            table = served(server, NAMES[0])
            assert table is not None
            return table

        seen: dict[int, int] = {}  # table → the one that was served when its push was killed
        with datagrams(server.listen[0], random.sample(NAMES, 500), patience=LIMIT) as load:
            pid, whole = pid_of(tmp_path, "sync"), 0.0
            for number in range(2, 2 + scale(50)):
                write_table(tmp_path, number)
                os.kill(pid, signal.SIGKILL)
                pid = next_pid(tmp_path, "sync", pid)  # it reads the file first of all
                began = time.monotonic()
                until = began + random.uniform(0, whole) if whole else began + 20
                while time.monotonic() < until:
                    seen[number] = server_table()
                    if not whole and seen[number] == number:
                        whole = time.monotonic() - began
                        break
            last = number
            wait_until(lambda: server_table() == last, "the last table is served")
            time.sleep(0.1)
        interrupted = sum(table < number for number, table in seen.items())
        print(f"a push takes {whole:.3f} s; {interrupted} of {len(seen)} were interrupted")
        assert load.outcome.lost == []
        assert load.outcome.slowest() < LIMIT
        tables = [table_of(address) for address in load.outcome.addresses()]
        assert set(tables) >= {1, 2, last}
        assert tables == sorted(tables), "after a new table never an old one"
        assert {served(server, name) for name in random.sample(NAMES, 100)} == {last}
        assert interrupted or not LONG
        assert read_status(tmp_path / "data").restarts == scale(50)
        assert "damaged" not in server.logged()


@pytest.mark.timeout(900 if LONG else 120)
def test_a_responder_killed_under_load_loses_nothing_that_waits(tmp_path: Path) -> None:
    write_table(tmp_path, 1)
    with serving(tmp_path, CONFIG) as server:
        with datagrams(server.listen[0], NAMES, patience=LIMIT) as load:
            for count in range(scale(50)):
                if count % 4 == 0:
                    write_table(tmp_path, 2 + count)
                if count and count % 5 == 0:
                    time.sleep(11.5)  # who has lived for 10 s is started at once when it dies
                time.sleep(0.3)
                os.kill(pid_of(tmp_path, "responder-0"), signal.SIGKILL)
                time.sleep(0.3)
        print(f"{len(load.outcome.lost)} of {len(load.outcome.answers)} lost, slowest {load.outcome.slowest():.3f} s")
        # What waits in the kernel is never lost. What the process had taken out and not yet answered, some 20 µs of
        # each query's life, dies with it: about one query in 500 kills at this rate.
        assert len(load.outcome.lost) <= 1
        assert load.outcome.slowest() < LIMIT
        tables = [table_of(address) for address in load.outcome.addresses()]
        assert tables == sorted(tables)
        assert read_status(tmp_path / "data").restarts == scale(50)


def test_it_answers_from_the_store_when_started_with_its_sources_gone(tmp_path: Path) -> None:
    names = [f"service-{number}.default.mesh" for number in range(10_000)]
    write_table(tmp_path, 3, names)
    listen = 'listen: ["127.0.0.1:0"]\ndrain: 0s\n'
    with serving(tmp_path, listen + EXTRA) as server:
        assert server.stop() == 0
    gone = (
        f"{listen}sources: [{{name: extra, type: kuma, address: '127.0.0.1:1', plaintext: true, dataplane: meshdns}}]\n"
    )
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        with serving(tmp_path, gone, wait=False) as server:
            where = listens(tmp_path, server.process.pid)
            reply = wait_until(lambda where=where: ask_once(where, names[0], 0.01), "an answer")  # type: ignore[misc]
            seconds.append(time.monotonic() - started)
            assert table_of(address_in(reply)) == 3
            wait_until(lambda: "ready listen=" in server.logged(), "ready")
            assert f"ready listen=127.0.0.1:{where[1]} names=10000" in server.logged()
            for name in random.sample(names, 200):
                assert served(Serving(server.process, server.config, server.log, [where]), name) == 3
            assert server.stop() == 0
    print(f"first right answer after {', '.join(f'{each:.3f}' for each in seconds)} s")
    assert min(seconds) < 5.0, "1 s is the target, on a machine that has nothing else to do"


@pytest.mark.parametrize("responders", [1, 2])
def test_sigterm_under_load_loses_nothing_over_udp_and_tcp(tmp_path: Path, responders: int) -> None:
    write_table(tmp_path, 1)
    with serving(tmp_path, f"responders: {responders}\n{CONFIG}") as server:
        where = server.listen[0]
        with (
            datagrams(where, NAMES, patience=LIMIT) as udp,
            connections(where, NAMES) as first,
            connections(where, NAMES) as second,
        ):
            time.sleep(0.5)
            told = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: read_status(tmp_path / "data").draining, "draining")
            assert not read_status(tmp_path / "data").ready
            assert server.process.wait(40) == 0
            assert 1.0 < time.monotonic() - told < bound(4.0)
            for load in (udp, first, second):
                wait_until(lambda load=load: load.outcome.refused, "refused after the end")  # type: ignore[misc]
        for load in (udp, first, second):
            assert load.outcome.lost == []
            assert max(sent for sent, _, _ in load.outcome.answers) > told + (0.9 if LONG else 0.5), (
                "served as before for the drain"
            )


def test_sighup_under_load_applies_the_new_configuration_and_loses_nothing(tmp_path: Path) -> None:
    write_table(tmp_path, 1)
    with serving(tmp_path, CONFIG) as server:
        where = server.listen[0]
        with datagrams(where, NAMES, patience=LIMIT) as udp, connections(where, NAMES) as tcp:
            for zone in ("one.example", "two.example"):
                before = pid_of(tmp_path, "responder-0"), pid_of(tmp_path, "sync")
                assert ask_once(where, f"x.{zone}") is not None
                server.config.write_text(f"zones: [mesh, {zone}]\ndata_dir: data\n{CONFIG}")
                server.process.send_signal(signal.SIGHUP)
                wait_until(lambda: [pid for pid in before if start_of(pid) is not None] == [], "both replaced")  # noqa: B023
                reply = ask_once(where, f"x.{zone}")
                assert reply is not None
                assert reply[3] & 15 == 3, "no such name in a zone of ours"
        assert udp.outcome.lost == []
        assert tcp.outcome.lost == []
        assert read_status(tmp_path / "data").restarts == 0
        server.config.write_text("listen: [nonsense]\nzones: []\nunknown: 1\n")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "the running configuration stays" in server.logged(), "refused")
        for key in ("listen", "zones", "unknown"):
            assert re.search(rf"error .*configuration .*meshdns.yaml: {key}", server.logged()), key
        assert served(server, NAMES[0]) == 1


@pytest.mark.skipif(not LONG, reason="takes 7 s; test_supervisor shows it with less patience")
def test_a_responder_that_hangs_is_replaced(tmp_path: Path) -> None:
    write_table(tmp_path, 1)
    with serving(tmp_path, CONFIG) as server:
        before = pid_of(tmp_path, "responder-0")
        os.kill(before, signal.SIGSTOP)
        stopped = time.monotonic()
        assert ask_once(server.listen[0], NAMES[0], 20.0) is not None
        assert 4.0 < time.monotonic() - stopped < 10.0
        assert start_of(before) is None
        assert f"responder-0 (process {before}) has not moved" in server.logged()


def test_nothing_of_a_killed_supervisor_stays(tmp_path: Path) -> None:
    write_table(tmp_path, 1)
    with serving(tmp_path, CONFIG) as server:
        children = [pid_of(tmp_path, "responder-0"), pid_of(tmp_path, "sync")]
        server.process.kill()
        server.process.wait()
        wait_until(lambda: not any(start_of(pid) for pid in children), "the children are gone")
        assert ask_once(server.listen[0], NAMES[0], 0.2) is None


def test_in_use_is_told_by_exit_code_3_with_the_holder(tmp_path: Path) -> None:
    write_table(tmp_path, 1)
    with serving(tmp_path, CONFIG) as server:
        for directory, config, culprit in (
            (tmp_path, CONFIG, f"data_dir {tmp_path / 'data'} is in use by process {server.process.pid}"),
            (tmp_path / "second", CONFIG.replace(":0", f":{server.port}"), f"127.0.0.1:{server.port}"),
        ):
            directory.mkdir(exist_ok=True)
            write_table(directory, 1)
            (directory / "meshdns.log").touch()
            with serving(directory, config, wait=False) as other:
                assert other.process.wait(20) == 3
                assert culprit in other.logged()
                assert str(server.process.pid) in other.logged()
        assert served(server, NAMES[0]) == 1


def test_a_log_that_nobody_reads_stops_nothing(tmp_path: Path) -> None:
    write_table(tmp_path, 1)
    (tmp_path / "meshdns.yaml").write_text(f"data_dir: data\nlog_level: debug\n{CONFIG}")
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    process = subprocess.Popen(
        [sys.executable, "-m", "meshdns", "serve", "--config", str(tmp_path / "meshdns.yaml")],
        stdin=subprocess.DEVNULL,
        stderr=writer,
        cwd=Path(__file__).parents[2],
    )
    try:
        wait_until(lambda: read_status(tmp_path / "data").ready, "ready")
        with datagrams(listens(tmp_path, process.pid), NAMES, patience=LIMIT) as load:
            for number in range(2, 5):
                write_table(tmp_path, number)
                os.kill(pid_of(tmp_path, "responder-0"), signal.SIGKILL)
                next_pid(tmp_path, "responder-0", 0)
                process.send_signal(signal.SIGHUP)
                time.sleep(0.3)
        assert load.outcome.lost == []
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        os.close(reader)
        os.close(writer)


def aside(directory: Path) -> list[Path]:
    return list((directory / "data").glob("store.damaged-*"))


def test_a_store_found_damaged_at_start_is_set_aside_and_filled_anew(tmp_path: Path) -> None:
    write_table(tmp_path, 1)
    with serving(tmp_path, CONFIG.replace("1s", "0s")) as server:
        assert server.stop() == 0
    data = tmp_path / "data" / "store" / "data.mdb"
    octets = bytearray(data.read_bytes())
    middle = len(octets) // 2
    octets[middle : middle + 4096] = os.urandom(4096)
    data.write_bytes(octets)
    with serving(tmp_path, CONFIG) as server:
        assert len(aside(tmp_path)) == 1
        assert f"it is now {aside(tmp_path)[0]}" in server.logged()
        assert {served(server, name) for name in random.sample(NAMES, 50)} == {1}


def test_a_store_damaged_while_it_is_served_is_set_aside_and_filled_anew(tmp_path: Path) -> None:
    write_table(tmp_path, 1)
    with serving(tmp_path, CONFIG) as server:
        os.truncate(tmp_path / "data" / "store" / "data.mdb", 8192)
        wait_until(lambda: ask_once(server.listen[0], random.choice(NAMES), 0.1) and aside(tmp_path), "set aside")
        wait_until(lambda: read_status(tmp_path / "data").ready, "ready again")
        wait_until(lambda: served(server, NAMES[0]) == 1, "served again")
        assert {served(server, name) for name in random.sample(NAMES, 50)} == {1}
        assert "ended: SIGBUS" in server.logged()
