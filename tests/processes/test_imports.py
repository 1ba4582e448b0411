"""What the processes of the query street load: neither gRPC nor protobuf, which cost 40 MiB and have threads."""

import json
import subprocess
import sys
from pathlib import Path

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


def test_sync_loads_grpc_and_protobuf_only_for_a_source_that_needs_them(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from meshdns.config import Config\n"
        "from meshdns.processes.sync import make_sources\n"
        "config = Config.model_validate_json(sys.argv[1])\n"
        "print(len(make_sources(config)), *sys.modules)\n"
    )
    own = [
        {"name": "sidecar", "type": "kuma-dp", "socket": "/run/dp.sock"},
        {"name": "extra", "type": "file", "path": "/etc/records.yaml"},
    ]
    kuma = {"name": "kuma", "type": "kuma", "address": "127.0.0.1:5678", "plaintext": True}
    loaded = []
    for sources in (own, [*own, kuma]):
        config = json.dumps({"data_dir": str(tmp_path), "sources": sources})
        done = subprocess.run([sys.executable, "-c", script, config], capture_output=True, text=True, check=True)
        made, *modules = done.stdout.split()
        assert int(made) == len(sources)
        loaded.append({each.partition(".")[0] for each in modules} & {"grpc", "google", "envoy"})
    assert loaded == [set(), {"grpc", "google", "envoy"}]
