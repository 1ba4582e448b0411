"""The life of an instance, with stubs for its children: what is started again, when, and how it ends."""

import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest

from meshdns.processes.status_file import start_of
from tests.processes.stubbed import PATIENCE, READY, Stubbed, stubbed, wait_until
from tests.scale import bound


def gone(pid: int) -> None:
    wait_until(lambda: start_of(pid) is None, f"process {pid} is gone")


def test_ready_is_said_once_on_a_line_of_its_own(tmp_path: Path) -> None:
    with stubbed(tmp_path) as instance:
        instance.wait_ready()
        assert READY.search(instance.log())
        instance.order(b"exit 1")
        instance.wait_log("responder-0 (process")
        wait_until(lambda: instance.status().ready, "ready again")
        instance.signal(signal.SIGTERM)
        assert instance.process.wait(PATIENCE) == 0
        assert instance.log().count("ready listen=") == 1
        assert f"ready listen=127.0.0.1:{instance.port} names=28\n" in instance.log()
    assert not instance.status().running


def test_every_process_is_seen_in_the_status(tmp_path: Path) -> None:
    with stubbed(tmp_path, responders=2) as instance:
        instance.wait_ready()
        status = instance.status()
        assert (status.running, status.ready, status.draining, status.pid) == (True, True, False, instance.process.pid)
        assert [each.name for each in status.processes] == ["responder-0", "responder-1"]
        assert status.listen == (f"127.0.0.1:{instance.port}",)
        assert status.names == 28


def test_queries_wait_in_the_kernel_while_a_responder_is_reborn(tmp_path: Path) -> None:
    with stubbed(tmp_path) as instance:
        instance.wait_ready()
        for _ in range(4):
            before = instance.pid()
            os.kill(before, signal.SIGKILL)
            asked = time.monotonic()
            after, _ = instance.ask()
            assert after != before
            assert time.monotonic() - asked < bound(1.0)
        assert instance.status().restarts == 4
        assert instance.status().processes[0].restarts == 4


def test_counts_do_not_go_back_when_a_responder_is_reborn(tmp_path: Path) -> None:
    with stubbed(tmp_path) as instance:
        instance.wait_ready()
        for _ in range(5):
            instance.ask()
        os.kill(instance.pid(), signal.SIGKILL)
        instance.ask()
        assert wait_until(lambda: instance.status().udp, "counted") == 6


def test_who_keeps_dying_is_started_ever_later(tmp_path: Path) -> None:
    with stubbed(tmp_path) as instance:
        instance.wait_ready()
        for count in range(1, 6):
            instance.order(b"exit 3")
            instance.wait_log("ended: exit code 3", count)
        found = re.findall(r"responder-0 \(process \d+\) ended: exit code 3; started again(.*)", instance.log())
        assert found == ["", " in 0.1 s", " in 0.2 s", " in 0.4 s", " in 0.8 s"]
        assert instance.ask()


def test_a_responder_that_hangs_is_killed_and_replaced(tmp_path: Path) -> None:
    with stubbed(tmp_path, "--impatient") as instance:
        instance.wait_ready()
        before = instance.pid()
        os.kill(before, signal.SIGSTOP)
        after, _ = instance.ask()
        assert after != before
        gone(before)
        assert f"responder-0 (process {before}) has not moved for 1." in instance.log()


def test_nobody_is_killed_because_the_whole_machine_stood_still(tmp_path: Path) -> None:
    with stubbed(tmp_path, "--impatient") as instance:
        instance.wait_ready()
        before = instance.pid()
        os.killpg(instance.process.pid, signal.SIGSTOP)
        time.sleep(2.0)
        os.kill(instance.process.pid, signal.SIGCONT)
        instance.wait_log("this machine or process stood still for")
        time.sleep(0.2)  # of the second that children have
        os.killpg(instance.process.pid, signal.SIGCONT)
        assert instance.ask()[0] == before
        assert instance.status().restarts == 0


def test_children_end_with_a_supervisor_that_is_killed_and_a_new_one_can_start(tmp_path: Path) -> None:
    with stubbed(tmp_path, responders=2) as instance:
        instance.wait_ready()
        wait_until(instance.syncs, "sync runs")
        sync = int((tmp_path / "data" / "syncs").read_text().split()[0])
        children = [instance.pid("responder-0"), instance.pid("responder-1"), sync]
        os.kill(children[0], signal.SIGSTOP)
        instance.process.kill()
        with stubbed(tmp_path, listen=[f"127.0.0.1:{instance.port}"]) as second:
            second.wait_ready()
            for pid in children:
                assert start_of(pid) is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_serves_on_for_drain_and_then_answers_all_that_came(
    tmp_path: Path, number: signal.Signals
) -> None:
    with stubbed(tmp_path, drain=1.5) as instance:
        instance.wait_ready()
        told = time.monotonic()
        os.killpg(instance.process.pid, number)  # as service managers and terminals do: to every process
        wait_until(lambda: instance.status().draining, "draining")
        assert not instance.status().ready
        client, answered = instance.client(), 0
        try:
            while True:  # each query is answered, or refused because the service is gone
                client.send(b"%d" % answered)
                assert client.recv(512).endswith(b" %d" % answered)
                answered += 1
        except ConnectionRefusedError:
            pass
        assert time.monotonic() - told > 1.5
        assert answered > 20
        assert instance.process.wait(PATIENCE) == 0
        assert not instance.status().draining


def test_a_responder_that_dies_during_the_drain_is_started_again(tmp_path: Path) -> None:
    with stubbed(tmp_path, drain=2.0) as instance:
        instance.wait_ready()
        instance.signal(signal.SIGTERM)
        wait_until(lambda: instance.status().draining, "draining")
        instance.order(b"exit 1")
        assert instance.ask()
        assert instance.process.wait(PATIENCE) == 0


def test_told_again_it_ends_at_once(tmp_path: Path) -> None:
    with stubbed(tmp_path, drain=60.0) as instance:
        instance.wait_ready()
        instance.signal(signal.SIGTERM)
        instance.signal(signal.SIGTERM)  # timeout(1) says it twice
        time.sleep(0.3)
        assert instance.ask()
        told = time.monotonic()
        instance.signal(signal.SIGINT)
        assert instance.process.wait(PATIENCE) == 0
        assert time.monotonic() - told < 20


def test_who_does_not_finish_is_killed_after_two_seconds(tmp_path: Path) -> None:
    with stubbed(tmp_path) as instance:
        instance.wait_ready()
        instance.ask(b"deaf")
        told = time.monotonic()
        instance.signal(signal.SIGTERM)
        assert instance.process.wait(PATIENCE) == 0
        assert 2 <= time.monotonic() - told < 20
        assert "did not finish in 2 s: killed" in instance.log()


def test_a_good_configuration_is_applied_without_losing_a_query(tmp_path: Path) -> None:
    with stubbed(tmp_path, zones=["old"]) as instance:
        instance.wait_ready()
        wait_until(lambda: instance.syncs() == ["old"], "sync runs")
        before = instance.pid()
        instance.configure(zones=["new"], listen=["127.0.0.1:1"], responders=2)
        instance.signal(signal.SIGHUP)
        seen = []
        until = time.monotonic() + PATIENCE
        while start_of(before) is not None:
            assert time.monotonic() < until
            seen.append(instance.ask()[1])
        assert instance.ask()[1] == "new"
        assert seen[0] == "old" or "new" in seen
        wait_until(lambda: instance.syncs() == ["old", "new"], "sync runs anew")
        assert "listen, responders cannot change while running" in instance.log()
        assert instance.status().restarts == 0
        assert instance.status().ready


def test_a_bad_configuration_is_told_whole_and_changes_nothing(tmp_path: Path) -> None:
    with stubbed(tmp_path, zones=["old"]) as instance:
        instance.wait_ready()
        before = instance.pid()
        (tmp_path / "config.json").write_text("bad")
        instance.signal(signal.SIGHUP)
        instance.wait_log("the running configuration stays")
        for number in range(20):
            assert f"configuration config.json: key{number}: wrong" in instance.log()
        assert instance.ask() == (before, "old")
        assert instance.status().ready


def die(instance: Stubbed, times: int, how: bytes, word: str) -> None:
    already = instance.log().count(f"ended: {word}")
    for count in range(1, times + 1):
        instance.order(how)
        instance.wait_log(f"ended: {word}", already + count)


@pytest.mark.parametrize(("how", "word"), [(b"bus", "SIGBUS"), (b"exit 65", "found the store damaged")])
def test_three_deaths_as_of_a_damaged_store_have_it_checked(tmp_path: Path, how: bytes, word: str) -> None:
    with stubbed(tmp_path) as instance:
        instance.wait_ready()
        die(instance, 3, how, word)
        wait_until(lambda: instance.checks() == ["sound", "sound"], "checked again")
        assert instance.ask()
        wait_until(lambda: instance.status().ready, "ready again")


@pytest.mark.parametrize(
    ("how", "word", "checks"),
    [
        (b"abort", "SIGABRT", ["sound", "sound", "set aside", "sound"]),
        (b"exit 65", "found the store damaged", ["sound", "sound", "sound"]),
    ],
)
def test_a_store_found_sound_is_set_aside_when_children_die_of_it_again(
    tmp_path: Path, how: bytes, word: str, checks: list[str]
) -> None:
    with stubbed(tmp_path) as instance:
        instance.wait_ready()
        die(instance, 3, how, word)
        wait_until(lambda: len(instance.checks()) == 2, "checked")
        instance.ask()
        die(instance, 3, how, word)
        wait_until(lambda: instance.checks() == checks, f"checked: {checks}")
        assert instance.ask()


def test_sync_alone_that_crashes_takes_no_store_and_no_answer_away(tmp_path: Path) -> None:
    with stubbed(tmp_path) as instance:
        instance.wait_ready()
        for count in range(1, 7):
            wait_until(lambda: len(instance.syncs()) == count, f"sync runs for the {count}. time")  # noqa: B023
            os.kill(int((tmp_path / "data" / "syncs").read_text().split()[-2]), signal.SIGSEGV)
            instance.wait_log("ended: SIGSEGV", count)
        instance.wait_log("the last tables are served on")
        assert instance.checks() == ["sound", "sound"]
        before = instance.pid()
        assert instance.ask()[0] == before


def test_a_second_instance_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    with stubbed(tmp_path) as instance:
        instance.wait_ready()
        with stubbed(tmp_path / "second", data_dir=str(tmp_path / "data")) as second:
            assert second.process.wait(PATIENCE) == 3
            assert f"data_dir {tmp_path / 'data'} is in use by process {instance.process.pid}" in second.log()
        assert instance.ask()


def test_an_address_in_use_is_refused_with_its_holder(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        with stubbed(tmp_path, listen=[address]) as instance:
            assert instance.process.wait(PATIENCE) == 3
            assert address in instance.log()
            assert str(os.getpid()) in instance.log()


def test_a_directory_that_cannot_be_used_is_a_fault_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with stubbed(tmp_path, data_dir=str(tmp_path / "file" / "data")) as instance:
        assert instance.process.wait(PATIENCE) == 2
        assert f"data_dir {tmp_path / 'file' / 'data'}: Not a directory" in instance.log()


def test_a_store_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    with stubbed(tmp_path, "--newer") as instance:
        assert instance.process.wait(PATIENCE) == 2
        assert f"{tmp_path / 'data'}: the store has format 2" in instance.log()


def test_a_reborn_responder_inherits_no_more_than_the_first(tmp_path: Path) -> None:
    with stubbed(tmp_path) as instance:
        instance.wait_ready()

        def descriptors() -> list[str]:
            folder = Path(f"/proc/{instance.pid()}/fd")
            return sorted(re.sub(r"\d+", "N", str(entry.readlink())) for entry in folder.iterdir())

        first = descriptors()
        for _ in range(3):
            before = instance.pid()
            os.kill(before, signal.SIGKILL)
            assert instance.ask()[0] != before
        assert descriptors() == first


def test_a_full_pipe_for_a_log_stops_nothing(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    with stubbed(tmp_path, stderr=writer) as instance:
        wait_until(lambda: instance.status().ready, "ready")
        instance.port = int(instance.status().listen[0].rpartition(":")[2])
        for _ in range(3):
            instance.order(b"exit 1")
            assert instance.ask()
        os.set_blocking(reader, False)
        text = b""

        def told() -> bool:
            nonlocal text
            try:
                text += os.read(reader, 65536)
            except BlockingIOError:
                pass
            return b"\nready listen=" in text.replace(b"x" * 4096, b"\n")

        wait_until(told, "the ready line, late")
        instance.signal(signal.SIGTERM)
        assert instance.process.wait(PATIENCE) == 0
    os.close(reader)
    os.close(writer)
