"""The true sidecar, in a network namespace, by root or through a user namespace: clients know nothing of the mesh."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.needs("envoy", "netns", "iproute2", "nftables", "curl", "dig")
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module", params=["-nm", "-Urnm"], ids=["root", "rootless"])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of every step."""
    if request.param == "-nm" and os.geteuid() != 0:
        pytest.skip("needs root: run the tests as root")
    if subprocess.run(["unshare", request.param, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs user namespaces, which are off here")
    done = subprocess.run(
        ["unshare", request.param, sys.executable, "-m", "tests.real.sidecar", tmp_path_factory.mktemp("sidecar")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=100,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_an_unmodified_client_reaches_every_instance_on_port_80(found: dict[str, Any]) -> None:
    assert found["curl"] == ["one", "two"]
    assert found["curl tcp"] == [0, "three"]


def test_the_system_resolves_names_in_both_spellings(found: dict[str, Any]) -> None:
    code, said = found["getent"]
    assert code == 0
    assert said.split()[1] == "echo.default.svc.8080.mesh"
    code, said = found["getent other spelling"]
    assert code == 0
    assert said.startswith("240.0.0.")


def test_a_vip_that_nobody_listens_on_is_refused_at_once(found: dict[str, Any]) -> None:
    assert found["curl no listener"] in (7, 52, 56)  # not 28, which is a timeout


def test_unknown_names_are_unknown(found: dict[str, Any]) -> None:
    assert found["getent unknown"][0] == 2
    assert found["curl unknown"] == 6
    assert all(value for step, value in found.items() if step.startswith("dig unknown"))


def test_unknown_names_never_leave_the_namespace(found: dict[str, Any]) -> None:
    assert found["left"] == 0


def test_without_the_sidecar_they_do(found: dict[str, Any]) -> None:
    assert found["before"][0] == 2
    assert found["left before"] > 0
