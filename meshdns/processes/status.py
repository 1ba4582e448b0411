"""The state of an instance as one value, put together from the status files of its processes.

Needs no server that answers: it reads what the processes wrote, and says whether they still live.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from meshdns.processes.status_file import COUNTS, Number, StatusError, Written, directory, read_file
from meshdns.processes.upstream_status import ForwardingState, forwarding_state

FRESH = 5.0
"""Seconds. A heartbeat (one each second) that is older belongs to a process that hangs."""

_TRIES = 50
_PAUSE = 0.001
"""The files are read again so often, after so many seconds, when a process was succeeded meanwhile."""

SHOWN = 20
"""Names and lines of one kind that a document holds; how many there are in all stands beside them."""

RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 16: "BADVERS"}
"""Places of the row that count replies by rcode."""

DROPS = {
    "not_a_query": 17,
    "not_allowed": Number.NOT_ALLOWED,
    "rate_limited": Number.RATE_LIMITED,
    "queue_full": Number.QUEUE_DROPPED,
    "send_failed": Number.SEND_FAILED,
}
"""Reasons for which no (full) reply was sent → their place in the row."""


@dataclass(frozen=True, slots=True)
class LastError:
    """The last thing that went wrong with a source. since: unix time of the first of its like in a row."""

    problem: str
    remedy: str
    since: float


@dataclass(slots=True)
class SourceState:
    """One source as ``sync`` knows it; it writes these, everybody else reads them. Times are unix times."""

    name: str
    type: str
    connected: bool = False
    connected_since: float | None = None
    peer: str = ""
    protocol: str = ""
    pushed: float | None = None
    """When its last push was taken."""
    heard: float | None = None
    """When it last pushed or confirmed its table."""
    age: float | None = None
    """Seconds since ``heard``, of a clock that nobody sets; filled in by who reads."""
    heard_monotonic: float | None = None
    version: str = ""
    names: int | None = None
    """Names of its table, as far as they were pushed since ``sync`` started."""
    delivered: bool = False
    last_error: LastError | None = None
    skipped: tuple[str, ...] = ()
    skipped_count: int = 0
    notices: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    held_count: int = 0
    hold_ends_in: float | None = None
    """Seconds of connected time until removed names that the guard keeps are let go."""

    def to_document(self) -> dict[str, Any]:
        """Give what JSON can hold of it."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "SourceState":
        """Give what :meth:`to_document` gave, as far as it is known here: another version may have written it."""
        values = {each.name: document[each.name] for each in fields(cls) if each.name in document}
        error = values.get("last_error")
        values["last_error"] = LastError(**error) if error else None
        for key in ("skipped", "notices", "held"):
            values[key] = tuple(values.get(key, ()))
        return cls(**values)


@dataclass(frozen=True, slots=True)
class ProcessState:
    """One process. age: seconds since its last heartbeat. restarts: how often it was started again."""

    name: str
    pid: int
    running: bool
    age: float
    restarts: int


@dataclass(frozen=True, slots=True)
class Status:
    """An instance as an operator should see it.

    running: its supervisor lives and beats. ready: it can answer. draining: it was told to end. problem: why nothing
    (more) is known. started: unix time. names, generation: of the store. queries: replies by rcode. drops: by reason.
    """

    data_dir: Path
    running: bool = False
    ready: bool = False
    draining: bool = False
    problem: str = ""
    version: str = ""
    pid: int | None = None
    started: float | None = None
    listen: tuple[str, ...] = ()
    names: int | None = None
    generation: int | None = None
    sources: tuple[SourceState, ...] = ()
    queries: Mapping[str, int] = field(default_factory=dict)
    udp: int = 0
    tcp: int = 0
    tcp_open: int = 0
    truncated: int = 0
    failed: int = 0
    drops: Mapping[str, int] = field(default_factory=dict)
    processes: tuple[ProcessState, ...] = ()
    forwarding: ForwardingState | None = None
    """None where names that are not ours are refused."""

    @property
    def restarts(self) -> int:
        """How often a process was started again, all together."""
        return sum(process.restarts for process in self.processes)

    def to_json(self) -> dict[str, Any]:
        """Give what ``status --json`` prints; times are RFC 3339 in UTC, durations seconds."""
        return {
            "running": self.running,
            "ready": self.ready,
            "draining": self.draining,
            "problem": self.problem or None,
            "version": self.version or None,
            "pid": self.pid,
            "started": _moment(self.started),
            "listen": list(self.listen),
            "names": self.names,
            "generation": self.generation,
            "sources": [_source(source) for source in self.sources],
            "queries": {
                "total": sum(self.queries.values()),
                "by_rcode": dict(self.queries),
                "udp": self.udp,
                "tcp": self.tcp,
                "truncated": self.truncated,
                "failed": self.failed,
            },
            "tcp_connections": self.tcp_open,
            "drops": dict(self.drops),
            "restarts": {process.name: process.restarts for process in self.processes},
            "processes": [
                {"name": each.name, "pid": each.pid, "running": each.running, "heartbeat_age": round(each.age, 3)}
                for each in self.processes
            ],
            "forwarding": None if self.forwarding is None else _forwarding(self.forwarding),
        }


def read_status(data_dir: Path) -> Status:
    """Give the state of the instance that uses *data_dir*; never raises: what is not known says so in ``problem``."""
    try:
        supervisor, files = _read_all(directory(data_dir))
    except StatusError as fault:
        return Status(data_dir, problem=f"no instance has run here: {fault}")
    about = supervisor.document
    running = supervisor.alive and supervisor.age < FRESH
    restarts: Mapping[str, int] = about.get("restarts", {})
    responders = [each for name, each in files.items() if name != "sync" and each]
    row = [sum(numbers) for numbers in zip(supervisor.row, *(each.row for each in responders), strict=True)]
    newest = max(responders, key=lambda each: each.row[Number.GENERATION], default=None)
    problem = ""
    if not running:
        ended = f"process {supervisor.pid} does not run any more"
        problem = f"process {supervisor.pid} hangs" if supervisor.alive else ended
    return Status(
        data_dir,
        running=running,
        ready=running and bool(about.get("ready")),
        draining=running and bool(about.get("draining")),
        problem=problem,
        version=about.get("version", ""),
        pid=supervisor.pid,
        started=supervisor.born,
        listen=tuple(about.get("listen", ())),
        names=newest.row[Number.NAMES] if newest else None,
        generation=newest.row[Number.GENERATION] if newest else None,
        sources=_sources(files.get("sync")),
        queries={name: row[place] for place, name in RCODES.items()},
        udp=row[Number.UDP_QUERIES],
        tcp=row[Number.TCP_QUERIES],
        tcp_open=row[Number.TCP_OPEN] if running else 0,
        truncated=row[18],
        failed=row[19],
        drops={name: row[place] for name, place in DROPS.items()},
        processes=tuple(
            ProcessState(name, each.pid, each.alive and each.age < FRESH, each.age, restarts[name])
            for name, each in files.items()
            if each
        ),
        forwarding=forwarding_state(responders),
    )


def responders_read(data_dir: Path, mark: int) -> bool:
    """Tell whether every responder has read the flush requests up to *mark*, or has begun after them."""
    files = [_read(path) for path in directory(data_dir).glob("responder-*")]
    return all(each is None or not each.alive or each.row[Number.FLUSH_READ] >= mark for each in files)


def _read_all(folder: Path) -> tuple[Written, dict[str, Written | None]]:
    """Read the supervisor's file and those that it names, while no counts move from one to another."""
    supervisor = read_file(folder / "supervisor")
    for _ in range(_TRIES):
        files = {name: _read(folder / name) for name in supervisor.document.get("restarts", {})}
        before, supervisor = supervisor, read_file(folder / "supervisor")
        moves = before.row[Number.MOVES]
        if not moves & 1 and (moves, before.row[:COUNTS]) == (supervisor.row[Number.MOVES], supervisor.row[:COUNTS]):
            break
        time.sleep(_PAUSE)
    return supervisor, {name: files.get(name) for name in supervisor.document.get("restarts", {})}


def _read(path: Path) -> Written | None:
    try:
        return read_file(path)
    except StatusError:
        return None


def _sources(sync: Written | None) -> tuple[SourceState, ...]:
    if sync is None:
        return ()
    sources = []
    for document in sync.document.get("sources", ()):
        source = SourceState.from_document(document)
        if source.heard is not None and source.heard_monotonic is not None:
            now, heard = (
                (time.monotonic(), source.heard_monotonic) if sync.alive else (time.time(), source.heard)
            )  # after a reboot the monotonic clock has begun anew
            source.age = max(0.0, now - heard)
        source.connected = source.connected and sync.alive
        sources.append(source)
    return tuple(sources)


def _source(source: SourceState) -> dict[str, Any]:
    error = source.last_error
    return {
        "name": source.name,
        "type": source.type,
        "connected": source.connected,
        "connected_since": _moment(source.connected_since) if source.connected else None,
        "peer": source.peer or None,
        "protocol": source.protocol or None,
        "delivered": source.delivered,
        "last_push": _moment(source.pushed),
        "age": None if source.age is None else round(source.age, 3),
        "version": source.version or None,
        "names": source.names,
        "last_error": error and {"problem": error.problem, "remedy": error.remedy, "since": _moment(error.since)},
        "skipped": {"count": source.skipped_count, "first": list(source.skipped)},
        "notices": list(source.notices),
        "held": {
            "count": source.held_count,
            "first": list(source.held),
            "ends_in": None if source.hold_ends_in is None else round(source.hold_ends_in, 3),
        },
    }


def _forwarding(state: ForwardingState) -> dict[str, Any]:
    told = state.to_json()
    for server in told["upstreams"]:
        server["suspect_since"] = _moment(server["suspect_since"])
    return told


def _moment(unix: float | None) -> str | None:
    if unix is None:
        return None
    return datetime.fromtimestamp(unix, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
