"""The supervisor executed anew, with stubs for its children: what stays, what is refused, what signals do meanwhile."""

import fcntl
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from meshdns.processes.status_file import start_of
from tests.processes.stubbed import PATIENCE, Stubbed, stubbed, wait_until
from tests.scale import LONG, bound, scale

DONE = "upgrade: done, version"


def upgrade(instance: Stubbed) -> None:
    """Have *instance* upgraded, and wait until nothing of the former image is left."""
    already = instance.log().count(DONE)
    instance.signal(signal.SIGUSR2)
    instance.wait_log(DONE, already + 1)


def fails(instance: Stubbed) -> str:
    """Have *instance* try an upgrade that must not take place; give what is logged."""
    already = instance.log().count("its trial failed")
    before = instance.pid()
    instance.signal(signal.SIGUSR2)
    instance.wait_log("its trial failed", already + 1)
    assert instance.ask()[0] == before
    assert instance.status().ready
    return instance.log()


def kept_out(instance: Stubbed) -> None:
    """Find that no second instance can use the data directory of *instance*."""
    lock = instance.directory / "data" / "lock"
    assert int(lock.read_text()) == instance.process.pid
    with lock.open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_the_process_stays_and_everything_in_it_is_new(tmp_path: Path) -> None:
    with stubbed(tmp_path, zones=["old"], responders=2) as instance:
        instance.wait_ready()
        wait_until(lambda: instance.syncs() == ["old"], "sync runs")
        os.kill(instance.pid("responder-1"), signal.SIGKILL)
        wait_until(lambda: instance.status().restarts == 1, "counted")
        wait_until(lambda: instance.status().ready, "ready again")
        before = {instance.pid("responder-0"), instance.pid("responder-1")}
        instance.configure(zones=["new"])
        os.killpg(instance.process.pid, signal.SIGUSR2)  # as systemctl kill does: to every process
        seen: list[str] = []
        counted: list[int] = []
        while DONE not in instance.log():
            seen.append(instance.ask()[1])
            counted.append(instance.status().udp)
            assert instance.status().ready
            time.sleep(0.005)  # for those who share the machine
        assert counted == sorted(counted)
        assert instance.status().udp == len(seen)
        assert seen[0] == "old"
        assert seen[-1] == "new"
        assert not before & {instance.pid("responder-0"), instance.pid("responder-1")}
        assert [start_of(pid) for pid in before] == [None, None]
        wait_until(lambda: instance.syncs() == ["old", "new"], "sync runs anew, and alone")
        status = instance.status()
        assert (status.pid, status.restarts) == (instance.process.pid, 1)
        assert instance.log().count("ready listen=") == 1
        assert "not ready" not in instance.log().partition("is tried")[2]
        instance.signal(signal.SIGTERM)
        assert instance.process.wait(PATIENCE) == 0


def test_nothing_is_left_behind_by_upgrades(tmp_path: Path) -> None:
    with stubbed(tmp_path) as instance:
        instance.wait_ready()
        wait_until(instance.syncs, "sync runs")
        upgrade(instance)
        wait_until(lambda: len(instance.syncs()) == 2, "sync runs anew")
        first, files = (
            descriptors(instance.process.pid),
            sorted(path.name for path in (tmp_path / "data" / "status").iterdir()),
        )
        responders = descriptors(instance.pid())
        for count in range(scale(10)):
            upgrade(instance)
            wait_until(lambda: len(instance.syncs()) == 3 + count, "sync runs anew")  # noqa: B023
        assert descriptors(instance.process.pid) == first
        assert descriptors(instance.pid()) == responders
        assert sorted(path.name for path in (tmp_path / "data" / "status").iterdir()) == files
        environment = Path(f"/proc/{instance.pid()}/environ").read_bytes()
        assert instance.status().restarts == 0
        assert b"LISTEN" not in environment


def test_what_cannot_start_is_told_and_changes_nothing(tmp_path: Path) -> None:
    with stubbed(tmp_path) as instance, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        instance.wait_ready()
        good = (tmp_path / "config.json").read_text()
        (tmp_path / "config.json").write_text("bad")
        assert "upgrade: config.json: key0: wrong" in fails(instance)
        (tmp_path / "config.json").write_text(good)
        instance.configure(data_dir=str(tmp_path / "other"))
        assert f"data_dir cannot change by an upgrade (it is {tmp_path / 'data'}" in fails(instance)
        taken.bind(("127.0.0.1", 0))
        used = f"127.0.0.1:{taken.getsockname()[1]}"
        instance.configure(data_dir=str(tmp_path / "data"), listen=["127.0.0.1:0", used])
        assert f"upgrade: cannot listen on {used} (UDP): address in use" in fails(instance)
        (tmp_path / "config.json").write_text(good)
        (tmp_path / "broken").touch()
        count = descriptors(instance.process.pid)
        assert "upgrade: RuntimeError: this version cannot start" in fails(instance)
        assert descriptors(instance.process.pid) == count


def test_responders_that_never_answer_leave_the_former_ones_serving(tmp_path: Path) -> None:
    with stubbed(tmp_path) as instance:
        instance.wait_ready()
        before = instance.pid()
        (tmp_path / "mute").touch()
        instance.signal(signal.SIGUSR2)
        instance.wait_log("ended: exit code 4", 3)
        assert instance.ask()[0] == before
        assert instance.status().ready
        kept_out(instance)
        (tmp_path / "mute").unlink()
        upgrade(instance)  # mended by another one
        kept_out(instance)
        assert instance.ask()[0] != before
        assert start_of(before) is None


def test_a_second_signal_in_the_trial_begins_it_anew_and_sighup_is_served(tmp_path: Path) -> None:
    with stubbed(tmp_path, zones=["old"]) as instance:
        instance.wait_ready()
        (tmp_path / "slow").touch()
        instance.signal(signal.SIGUSR2)
        instance.wait_log("an upgrade is tried")
        instance.configure(zones=["new"])
        instance.signal(signal.SIGHUP)
        wait_until(lambda: instance.ask()[1] == "new", "the configuration is applied")
        instance.configure(zones=["newer"])
        instance.signal(signal.SIGUSR2)
        instance.wait_log("an upgrade is tried", 2)
        (tmp_path / "slow").unlink()
        instance.wait_log(DONE)
        assert instance.ask()[1] == "newer"
        assert instance.log().count("is executed") == 1


@pytest.mark.parametrize("when", ["in the trial", "at once", "before the new ones answer"])
def test_told_to_end_meanwhile_it_ends_as_ever(tmp_path: Path, when: str) -> None:
    with stubbed(tmp_path, drain=0.2) as instance:
        instance.wait_ready()
        before = instance.pid()
        if when == "in the trial":
            (tmp_path / "slow").touch()
        elif when == "before the new ones answer":
            (tmp_path / "mute").touch()
        instance.signal(signal.SIGUSR2)
        if when == "in the trial":
            instance.wait_log("an upgrade is tried")
        elif when == "at once":
            instance.wait_log("is executed")
        else:
            instance.wait_log("ended: exit code 4", 2)
        instance.signal(signal.SIGTERM)
        answered = 0
        client = instance.client()
        try:
            while True:
                client.send(b"who")
                client.recv(512)
                answered += 1
        except ConnectionRefusedError:
            pass
        assert answered > 10
        assert instance.process.wait(PATIENCE) == 0
        assert start_of(before) is None
        assert "Traceback" not in instance.log()


def test_children_of_both_images_end_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    with stubbed(tmp_path) as instance:
        instance.wait_ready()
        before = instance.pid()
        wait_until(instance.syncs, "sync runs")
        sync = int((tmp_path / "data" / "syncs").read_text().split()[0])
        (tmp_path / "mute").touch()
        instance.signal(signal.SIGUSR2)
        instance.wait_log("ended: exit code 4")
        os.kill(before, signal.SIGSTOP)
        instance.process.kill()
        (tmp_path / "mute").unlink()
        with stubbed(tmp_path, listen=[f"127.0.0.1:{instance.port}"]) as second:
            second.wait_ready()
            assert [start_of(pid) for pid in (before, sync)] == [None, None]


def test_fewer_and_more_responders_lose_nothing(tmp_path: Path) -> None:
    with stubbed(tmp_path, responders=1) as instance:
        instance.wait_ready()
        total = 0
        for responders in (3, 2, 1) if LONG else (2, 1):
            instance.configure(responders=responders)
            already = instance.log().count(DONE)
            instance.signal(signal.SIGUSR2)
            while instance.log().count(DONE) == already:
                instance.ask()
                total += 1
                assert instance.status().udp <= total
                time.sleep(0.005)
            names = [each.name for each in instance.status().processes if each.name != "sync"]
            assert names == [f"responder-{index}" for index in range(responders)]
            assert instance.status().udp == total
            began = time.monotonic()
            for _ in range(20):
                instance.ask()
                total += 1
            assert time.monotonic() - began < bound(5)
