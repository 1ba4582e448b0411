"""What an instance holds in memory (PSS), with a table from a file and as a sidecar of kuma-dp."""

import hashlib
import json
import socketserver
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from bench.instance import Running, address, answers, names_of, own_directory, pss, serving
from bench.probing import Seen, build_prober, probe, write_probes
from bench.programs import missing
from bench.row import LeftOut, Row, at_most
from bench.settings import Settings

FILES = ((1_000, 40, 30, 110), (100_000, 90, 70, 220))
"""(names, one responder must, stretch, all processes must), in MiB."""

SIDECAR_NAMES, SIDECAR_MUST, SIDECAR_STRETCH = 1_000, 70, 50

ASKED = 20_000
"""Queries a second before memory is read: what is answered has been touched."""

SETTLED, LOOKS = 0.25, 40
"""Two readings of memory that differ by less (MiB) end the wait, or so many looks, one each quarter of a second."""


def rows(settings: Settings) -> Iterator[Row | LeftOut]:
    """Give the rows ``memory-…``."""
    keys = [f"memory-{what}-{count}" for count, *_ in FILES for what in ("responder", "all")]
    if not settings.wants_any([*keys, "memory-sidecar"]):
        return
    if why := missing("cc"):
        yield from (LeftOut(key, why) for key in [*keys, "memory-sidecar"] if settings.wants(key))
        return
    with own_directory() as here:
        prober = build_prober(here)
        for count, must, stretch, all_must in FILES:
            if settings.wants_any((f"memory-responder-{count}", f"memory-all-{count}")):
                found = [_file(settings, prober, here, count) for _ in range(_rounds(settings))]
                yield from (row for row in _of_file(count, must, stretch, all_must, found) if settings.wants(row.key))
        if settings.wants("memory-sidecar"):
            yield _of_sidecar([_sidecar(settings, prober, here) for _ in range(_rounds(settings))])


def _rounds(settings: Settings) -> int:
    return 1 if settings.quick else min(3, settings.rounds)


Parts = dict[str, float]
"""MiB of each process."""


def _of_file(count: int, must: float, stretch: float, all_must: float, found: Sequence[Parts]) -> list[Row]:
    details = {name: [parts[name] for parts in found] for name in found[0]}
    responders = tuple(parts["responder"] for parts in found)
    what = f"memory (PSS), {count:,} names from a file"
    return [
        Row(f"memory-responder-{count}", f"{what}: responder", responders, "MiB", at_most(must), at_most(stretch)),
        Row(f"memory-all-{count}", f"{what}: all processes", _all(found), "MiB", at_most(all_must), None, details),
    ]


def _of_sidecar(found: Sequence[Parts]) -> Row:
    return Row(
        "memory-sidecar",
        f"memory (PSS), {SIDECAR_NAMES:,} names from kuma-dp: all processes",
        _all(found),
        "MiB",
        at_most(SIDECAR_MUST),
        at_most(SIDECAR_STRETCH),
        {name: [parts[name] for parts in found] for name in found[0]},
    )


def _all(found: Sequence[Parts]) -> tuple[float, ...]:
    return tuple(sum(parts.values()) for parts in found)


def _file(settings: Settings, prober: Path, here: Path, count: int) -> Parts:
    names = names_of(count)
    with serving(names) as server:
        return _measure(settings, prober, here, names, server)


def _sidecar(settings: Settings, prober: Path, here: Path) -> Parts:
    names = names_of(SIDECAR_NAMES)
    path = here / "kuma-dp.sock"
    with (
        _kuma_dp(path, names),
        serving(
            names,
            sources=f"[{{name: sidecar, type: kuma-dp, socket: {path}}}]",
            ready=lambda port: answers(port, names[-1]),
        ) as server,
    ):
        return _measure(settings, prober, here, names, server)


def _measure(settings: Settings, prober: Path, here: Path, names: list[str], server: Running) -> Parts:
    """Ask for a while, wait until memory rests, and read it."""
    seen: Seen = probe(prober, server.port, write_probes(here / "queries", names), settings.seconds, rate=ASKED)
    assert seen.sent
    before = 0.0
    for _ in range(LOOKS):
        now = pss(server.pids)
        if abs(now - before) < SETTLED:
            break
        before = now
        time.sleep(0.25)
    return {_role(server, pid): pss([pid]) for pid in server.pids}


def _role(server: Running, pid: int) -> str:
    if pid == server.process.pid:
        return "supervisor"
    command = Path(f"/proc/{pid}/cmdline").read_bytes()
    return "sync" if b"meshdns.processes.sync" in command else "responder"


@contextmanager
def _kuma_dp(path: Path, names: Sequence[str]) -> Iterator[None]:
    """Serve the ``/dns`` document on a unix socket as kuma-dp does: an ETag, 304 to who has it."""
    table = [{"name": name, "ips": [address(i)]} for i, name in enumerate(names)]
    body = json.dumps({"records": table, "ttl": 30}).encode()
    etag = hashlib.sha256(body).hexdigest()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers.get("If-None-Match") == etag
            self.send_response(304 if known else 200)
            self.send_header("ETag", etag)
            self.send_header("Content-Length", "0" if known else str(len(body)))
            self.end_headers()
            if not known:
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

        def address_string(self) -> str:
            return "local"

    path.unlink(missing_ok=True)
    with socketserver.UnixStreamServer(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
