"""systemd-resolved with the generated drop-in, on a machine of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.real.asking import QUESTIONS
from tests.real.daemon import open_directory

pytestmark = pytest.mark.needs("systemd-resolved", "root", "netns", "iproute2")


@pytest.mark.parametrize("dnssec", ["no", "yes"])
def test_every_question_is_answered_by_the_stub_of_the_machine(dnssec: str) -> None:
    with open_directory() as directory:
        done = subprocess.run(
            ["unshare", "-nm", sys.executable, "-m", "tests.real.resolved_machine", directory, dnssec],
            cwd=Path(__file__).parent.parent.parent,
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
    said = json.loads(done.stdout)
    assert said["told"] == {str(asked): [asked.rcode, list(asked.answer)] for asked in QUESTIONS}, said["log"]
    anchors = next(line for line in said["log"].splitlines() if line.startswith("Negative trust anchors:")).split()[3:]
    assert {"mesh", "local", "home.arpa", "168.192.in-addr.arpa"} <= set(anchors)
