"""What the processes of the query street load: neither gRPC nor protobuf, which cost 40 MiB and have threads."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["responder", "supervisor", "status"])
def test_the_query_street_loads_no_grpc_and_no_protobuf(module: str) -> None:
    script = f"import sys, meshdns.processes.{module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert f"meshdns.processes.{module}" in loaded
    foreign = ("grpc", "google", "envoy", "dnslib")
    assert [name for name in loaded if name.partition(".")[0] in foreign] == []


def test_the_supervisor_starts_no_thread() -> None:
    script = "import threading, meshdns.processes.supervisor; print(threading.active_count())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
