"""A client that is linked with musl: it fails on NXDOMAIN for AAAA, so an A-only name has to be NODATA there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.parts import which
from tests.real.daemon import open_directory

pytestmark = pytest.mark.needs("musl", "envoy", "netns", "iproute2")
HERE = Path(__file__).parent
Told = dict[str, dict[str, dict[str, object]]]


@pytest.fixture(scope="module")
def told() -> Told:
    """Give what clients of both libraries were told by both servers."""
    with open_directory() as directory:
        gai = directory / "gai"
        subprocess.run([which("musl-gcc"), "-static", "-o", gai, HERE / "gai.c"], check=True)
        flags = "-nm" if os.geteuid() == 0 else "-Urnm"
        done = subprocess.run(
            ["unshare", flags, sys.executable, "-m", "tests.real.stub_clients", directory, gai],
            cwd=HERE.parent.parent,
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
    result: Told = json.loads(done.stdout)
    return result


def test_musl_resolves_an_a_only_name_through_meshdns(told: Told) -> None:
    assert told["meshdns"]["musl A-only"] == {"code": 0, "lines": ["240.0.0.1"]}


def test_musl_fails_on_the_same_name_through_envoys_dns_filter(told: Told) -> None:
    assert told["envoy"]["musl A-only"] == {"code": 1, "lines": ["Name does not resolve"]}


@pytest.mark.parametrize("server", ["meshdns", "envoy"])
def test_glibc_resolves_it_through_both(told: Told, server: str) -> None:
    assert told[server]["glibc A-only"] == {"code": 0, "lines": ["240.0.0.1"]}


@pytest.mark.parametrize("server", ["meshdns", "envoy"])
@pytest.mark.parametrize("library", ["musl", "glibc"])
def test_a_name_with_both_families_gives_both(told: Told, server: str, library: str) -> None:
    found = told[server][f"{library} dual"]
    assert found["code"] == 0
    assert sorted(found["lines"]) == ["240.0.0.3", "fd00:fd00::3"]  # type: ignore[call-overload]


@pytest.mark.parametrize("library", ["musl", "glibc"])
def test_an_unknown_name_is_unknown(told: Told, library: str) -> None:
    assert told["meshdns"][f"{library} unknown"]["code"] == 1
