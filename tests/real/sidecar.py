"""Run in a network and mount namespace of its own: a whole sidecar, and clients that know nothing of it.

``python -m tests.real.sidecar FOLDER``. All DNS is redirected to meshdns and all traffic to VIPs to Envoy, as Kuma's
transparent proxy does it. Prints a JSON object: step → what came of it.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from meshdns.publisher.bootstrap import ControlPlane, Proxy
from tests.parts import which
from tests.publisher.meshes import PROTOCOL, dataplane, gateway, written
from tests.real.proxy import envoy, workload
from tests.serving import serving

DNS, ADS, REDIRECTED = 15053, 5678, 15001
NAMESERVER = "192.0.2.53"
"""Any server: nobody is there."""

WATCH = """
table ip watch {
  counter left { }
  chain postrouting {
    type filter hook postrouting priority 100; policy accept;
    oifname "vx0" meta l4proto { tcp, udp } th dport 53 counter name left
  }
}
"""
REDIRECT = f"""
table ip mesh {{
  chain output {{
    type nat hook output priority -100; policy accept;
    udp dport 53 redirect to :{DNS}
    tcp dport 53 redirect to :{DNS}
    ip daddr 240.0.0.0/4 tcp dport 1-65535 redirect to :{REDIRECTED}
  }}
}}
"""
CONFIG = {
    "data_dir": "data",
    "listen": [f"127.0.0.1:{DNS}"],
    "drain": "0s",
    "sources": [
        {
            "name": "own", "type": "publisher", "path": "mesh", "vips": "transparent", "plaintext": True,
            "tokens": False, "listen": f"127.0.0.1:{ADS}",
        }
    ],
}  # fmt: skip


def command(*words: str | Path, given: str = "") -> None:
    subprocess.run(words, input=given, text=True, check=True, stdout=subprocess.DEVNULL)


async def say(*words: str) -> tuple[int, str]:
    """What a command gives: exit code and output."""
    process = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, stdin=asyncio.subprocess.DEVNULL
    )
    said, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode is not None
    return process.returncode, said.decode().strip()


def prepare(directory: Path) -> None:
    """A way out of the namespace that leads nowhere, a counter on it, and a foreign name server."""
    ip = which("ip")
    command(ip, "link", "set", "lo", "up")
    command(ip, "link", "add", "vx0", "type", "veth", "peer", "name", "vx1")
    command(ip, "address", "add", "10.255.0.1/30", "dev", "vx0")
    for device in ("vx0", "vx1"):
        command(ip, "link", "set", device, "up")
    command(ip, "neighbour", "add", "10.255.0.2", "lladdr", "02:00:00:00:00:01", "dev", "vx0")
    command(ip, "route", "add", "default", "via", "10.255.0.2")
    resolv = directory / "resolv.conf"
    resolv.write_text(f"nameserver {NAMESERVER}\noptions timeout:1 attempts:1\n")
    command("mount", "--bind", resolv, "/etc/resolv.conf")
    command(which("nft"), "-f", "-", given=WATCH)


def left() -> int:
    """How many packets to port 53 left the namespace."""
    done = subprocess.run([which("nft"), "-j", "list", "counters"], capture_output=True, text=True, check=True)
    counters = [each["counter"] for each in json.loads(done.stdout)["nftables"] if "counter" in each]
    return int(counters[0]["packets"])


async def try_it(found: dict[str, Any]) -> None:
    """Everything that clients do."""
    url = "http://echo.default.svc.8080.mesh/"
    found["ready"] = await _until("one", "curl", "--silent", "--max-time", "5", url)
    found["curl"] = sorted({(await say("curl", "--silent", "--max-time", "5", url))[1] for _ in range(12)})
    found["curl tcp"] = await say("curl", "--silent", "--max-time", "5", "http://lines_default_svc_7000.mesh/")
    found["getent"] = await say("getent", "hosts", "echo.default.svc.8080.mesh")
    found["getent other spelling"] = await say("getent", "ahostsv4", "echo_default_svc_8080.mesh")
    found["curl no listener"] = (await say("curl", "--silent", "--max-time", "5", "http://240.0.99.99/"))[0]
    found["getent unknown"] = await say("getent", "hosts", "nobody.mesh")
    found["curl unknown"] = (await say("curl", "--silent", "--max-time", "5", "http://nobody.default.svc.80.mesh/"))[0]
    for options in (["A"], ["AAAA"], ["MX"], ["A", "+tcp"]):
        _, said = await say("dig", "+noall", "+comments", "+tries=1", "+time=3", "nobody.mesh", *options)
        found["dig unknown " + " ".join(options)] = "NXDOMAIN" in said
    found["left"] = left()


async def _until(wanted: str, *words: str) -> bool:
    async with asyncio.timeout(20):
        while (await say(*words))[1] != wanted:  # noqa: ASYNC110 - another process is waited for
            await asyncio.sleep(0.1)
    return True


async def main(directory: Path) -> dict[str, Any]:
    """Set everything up, and try."""
    prepare(directory)
    found: dict[str, Any] = {"before": await say("getent", "hosts", "nobody.mesh"), "left before": left()}
    command(which("nft"), "reset", "counters")
    command(which("nft"), "-f", "-", given=REDIRECT)
    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(workload(name)) for name in ("one", "two", "three")]
        tags = {PROTOCOL: "http"}
        resources = [
            gateway("client"),
            dataplane("e1", "echo_default_svc_8080", ports[0], address="127.0.0.1", tags=tags),
            dataplane("e2", "echo_default_svc_8080", ports[1], address="127.0.0.1", tags=tags),
            dataplane("l1", "lines_default_svc_7000", ports[2], address="127.0.0.1"),
        ]
        (directory / "mesh").mkdir()
        (directory / "mesh" / "mesh.yaml").write_text(written(*resources))
        blocks: Sequence[Any] = (
            serving(directory, json.dumps(CONFIG)),
            envoy(directory, Proxy("default", "client"), ControlPlane("127.0.0.1", ADS), "delta"),
        )
        for block in blocks:
            await asyncio.to_thread(block.__enter__)
            stack.push_async_callback(asyncio.to_thread, block.__exit__, None, None, None)
        await try_it(found)
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(Path(sys.argv[1])))))
