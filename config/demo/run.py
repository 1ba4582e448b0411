"""``make run``: a replayed control plane, ``meshdns serve`` against it, and what to try; ends with Ctrl-C."""

import argparse
import asyncio
import os
import shutil
import signal
import sys
from pathlib import Path

from replay import Replay

HERE = Path(__file__).parent
STEP_AFTER = 30.0
"""Seconds between two changes of the replayed mesh."""


async def run(listen: str, data_dir: Path) -> int:
    """Run the demonstration until a signal or the end of the server; give the server's exit code."""
    replay = Replay()
    control_plane = await replay.start()
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "meshdns", "serve", "--config", str(HERE / "meshdns.yaml"), "--data-dir", str(data_dir),
        env={**os.environ, "MESHDNS_DEMO_CONTROL_PLANE": control_plane, "MESHDNS_DEMO_LISTEN": listen},
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _end, server)
    assert server.stderr is not None
    steps: asyncio.Task[None] | None = None
    async for line in server.stderr:
        print(line.decode(errors="replace"), end="", file=sys.stderr, flush=True)
        if line.startswith(b"ready listen="):
            print(_what_to_try(line.decode().split()[1].removeprefix("listen="), data_dir), flush=True)
            steps = asyncio.create_task(_move(replay))
    if steps is not None:
        steps.cancel()
    code = await server.wait()
    await replay.stop()
    return code


def _end(server: asyncio.subprocess.Process) -> None:
    if server.returncode is None:
        server.send_signal(signal.SIGTERM)


async def _move(replay: Replay) -> None:
    for what in ("a service joined the mesh: cart_default_svc_80", "it left again"):
        await asyncio.sleep(STEP_AFTER)
        await replay.step()
        print(f"demo: {what}", flush=True)


def _what_to_try(listen: str, data_dir: Path) -> str:
    host, _, port = listen.split(",", maxsplit=1)[0].rpartition(":")
    meshdns = os.path.relpath(Path(sys.executable).parent / "meshdns")
    here = Path.cwd()
    instance = f"--data-dir {data_dir.relative_to(here) if data_dir.is_relative_to(here) else data_dir}"
    server = "" if listen == "127.0.0.1:15053" else f" --server {listen}"
    lines = [
        f"{meshdns} query echo.default.svc.80.mesh{server}",
        f"{meshdns} query httpbin.org AAAA --tcp{server}",
        f"{meshdns} names {instance}",
        f"{meshdns} listeners {instance}",
        f"{meshdns} explain echo_default.svc.80.mesh {instance}",
        f"{meshdns} status {instance}",
    ]
    if shutil.which("dig"):
        lines.append(f"dig @{host.strip('[]')} -p {port} echo.default.svc.80.mesh")
        lines.append(f"dig @{host.strip('[]')} -p {port} -x 240.0.0.3 +tcp +short")
    return "\n".join(("", "A recorded Kuma control plane is replayed, and meshdns answers. In a second shell:", "",
                      *(f"  {line}" for line in lines), "", "Ctrl-C ends it.", ""))  # fmt: skip


def main() -> int:
    """Read the words of the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:15053", help="where to answer; port 0 takes a free one")
    parser.add_argument("--data-dir", type=Path, default=HERE.parent.parent / "meshdns-data")
    words = parser.parse_args()
    return asyncio.run(run(words.listen, words.data_dir.absolute()))


if __name__ == "__main__":
    sys.exit(main())
