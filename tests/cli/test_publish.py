"""``publish``, ``publish token`` and ``bootstrap``: what they print is what a data plane needs."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshdns.cli.main import main
from meshdns.inventory.event import Pushed
from meshdns.publisher.tokens import check, read_key
from tests.publisher.meshes import dataplane, gateway, written
from tests.real.daemon import free_port
from tests.xds.listening import Listening, source

ROOT = Path(__file__).parent.parent.parent


def configure(directory: Path, listen: str = "127.0.0.1:5678", **more: Any) -> Path:
    """A configuration with a publisher; gives its path."""
    (directory / "mesh").mkdir()
    (directory / "mesh" / "mesh.yaml").write_text(written(gateway("client"), dataplane("e1", "echo", 18080)))
    publisher = {"name": "own", "type": "publisher", "path": "mesh", "listen": listen, "plaintext": True} | more
    path = directory / "meshdns.yaml"
    path.write_text(yaml.safe_dump({"data_dir": "data", "sources": [publisher]}))
    return path


def said(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    assert main([str(word) for word in words]) == 0
    return capsys.readouterr().out


def test_a_token_is_for_one_data_plane(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = configure(tmp_path)
    for words in (
        ("publish", "--config", config, "token", "--name", "client"),
        ("publish", "token", "--name", "client", "--config", config, "--valid-for", "12h"),
    ):
        token = said(capsys, *words).strip()
        check(token, "default", "client", read_key(tmp_path / "data"), now=time.time())


def test_a_bootstrap_is_complete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = yaml.safe_load(said(capsys, "bootstrap", "--config", configure(tmp_path), "--name", "client"))
    assert document["node"]["id"] == "default.client"
    assert document["admin"]["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 9901}
    service = document["dynamic_resources"]["ads_config"]["grpc_services"][0]
    check(service["initial_metadata"][0]["value"], "default", "client", read_key(tmp_path / "data"), now=time.time())
    (cluster,) = document["static_resources"]["clusters"]
    assert "transport_socket" not in cluster
    assert document["dynamic_resources"]["ads_config"]["api_type"] == "DELTA_GRPC"


@pytest.mark.needs("openssl")
def test_a_bootstrap_trusts_the_self_made_certificate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = configure(tmp_path, "0.0.0.0:5678", plaintext=False, tokens=False)
    words = ("bootstrap", "--config", config, "--name", "client", "--address", "cp.example:5678", "--protocol", "sotw")
    document = yaml.safe_load(said(capsys, *words, "--dns-port", "15053", "--admin-port", "0"))
    (cluster,) = document["static_resources"]["clusters"]
    tls = cluster["transport_socket"]["typed_config"]
    chain = (tmp_path / "data" / "tls" / "0.0.0.0.crt").read_text()
    assert tls["common_tls_context"]["validation_context"]["trusted_ca"] == {"inline_string": chain}
    assert tls["sni"] == "cp.example"
    assert cluster["type"] == "STRICT_DNS"
    assert document["dynamic_resources"]["ads_config"]["api_type"] == "GRPC"
    assert "initial_metadata" not in document["dynamic_resources"]["ads_config"]["grpc_services"][0]
    assert document["node"]["metadata"]["dataplane.dns.port"] == "15053"


FAULTS = [
    (("bootstrap", "--name", "x", "--mesh", "other"), 2, "publishes mesh 'default', not 'other'"),
    (("bootstrap", "--name", "x", "--address", "nowhere"), 1, "--address: nowhere is not a host and a port"),
    (("bootstrap", "--name", "x", "--ca-file", "/nonexistent"), 0, ""),  # plaintext: nothing to trust
    (("bootstrap", "--name", "x", "--dataplane", "/nonexistent"), 1, "/nonexistent: No such file or directory"),
    (("bootstrap", "--name", "x", "--valid-for", "never"), 2, "must be hours or days such as 12h or 30d"),
    (("bootstrap",), 2, "--name"),
    (("publish", "token"), 2, "--name"),
]


@pytest.mark.parametrize(("words", "code", "problem"), FAULTS)
def test_what_is_wrong_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, problem: str
) -> None:
    config = configure(tmp_path)
    assert main([words[0], "--config", str(config), *words[1:]]) == code
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["publish", "bootstrap"])
def test_a_configuration_without_a_publisher_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    (tmp_path / "records.yaml").write_text("records: {}\n")
    config = tmp_path / "meshdns.yaml"
    config.write_text("sources: [{name: a, type: file, path: records.yaml}]\n")
    more = ("--name", "x") if verb == "bootstrap" else ()
    assert main([verb, "--config", str(config), *more]) == 2
    assert "sources: none is of type publisher" in capsys.readouterr().err


async def names(port: int) -> set[str]:
    """What our own client hears."""
    async with Listening(source(f"127.0.0.1:{port}", dataplane="observer")) as listening:
        return set((await listening.next(Pushed)).table.records)


def test_publish_publishes_without_dns_until_told_to_end(tmp_path: Path) -> None:
    port = free_port()
    config = configure(tmp_path, f"127.0.0.1:{port}", tokens=False)
    command = [sys.executable, "-m", "meshdns", "publish", "--config", str(config)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            lines = []
            for line in process.stderr:
                lines.append(line)
                if line.startswith("ready "):
                    break
            assert lines[-1] == f"ready publish=127.0.0.1:{port} names=1\n", lines
            assert asyncio.run(names(port)) == {"echo.mesh"}
            second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
            assert second.returncode == 3
            assert f"is in use by process {process.pid}" in second.stderr
            elsewhere = [*command, "--data-dir", str(tmp_path / "second")]
            third = subprocess.run(elsewhere, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
            assert third.returncode == 3
            assert f"cannot listen on 127.0.0.1:{port}" in third.stderr
        finally:
            os.kill(process.pid, signal.SIGTERM)
        assert process.wait(20) == 0
        assert "Traceback" not in process.stderr.read()
