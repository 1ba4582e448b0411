"""What the responders of an instance say about forwarding, put together: servers, cache, counts."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from meshdns.processes.status_file import Number, Written


@dataclass(frozen=True, slots=True)
class UpstreamState:
    """One server of one zone. rtt: seconds, None before its first answer. suspect_since: unix time, None while well.

    forwards_back: what it is asked comes back to this instance, so it is not asked.
    """

    zone: str
    server: str
    rtt: float | None = None
    suspect_since: float | None = None
    forwards_back: bool = False
    queries: int = 0
    answers: int = 0
    timeouts: int = 0
    errors: int = 0
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class ForwardingState:
    """Forwarding as an operator should see it. entries, octets: of all caches. waiting: questions being asked."""

    upstreams: tuple[UpstreamState, ...] = ()
    without_servers: tuple[str, ...] = ()
    entries: int = 0
    octets: int = 0
    waiting: int = 0
    hits: int = 0
    misses: int = 0
    stale: int = 0
    prefetched: int = 0
    failed: int = 0
    crowded: int = 0
    special: int = 0
    flushed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Give what ``status --json`` prints; times are unix times here."""
        return asdict(self)


def forwarding_state(responders: Iterable[Written]) -> ForwardingState | None:
    """Give what *responders* say, None when they do not forward."""
    told = [each for each in responders if "upstreams" in each.document]
    if not told:
        return None
    servers: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for each in told:
        for server in each.document["upstreams"]:
            servers.setdefault((server["zone"], server["server"]), []).append(server)

    def total(place: Number) -> int:
        return sum(each.row[place] for each in told)

    return ForwardingState(
        upstreams=tuple(_merged(states) for states in servers.values()),
        without_servers=tuple(dict.fromkeys(zone for each in told for zone in each.document["without_servers"])),
        entries=sum(each.document["cache"]["entries"] for each in told),
        octets=sum(each.document["cache"]["bytes"] for each in told),
        waiting=sum(each.document["waiting"] for each in told),
        hits=total(Number.CACHE_HITS),
        misses=total(Number.CACHE_MISSES),
        stale=total(Number.CACHE_STALE),
        prefetched=total(Number.PREFETCHED),
        failed=total(Number.UPSTREAM_FAILED),
        crowded=total(Number.CROWDED),
        special=total(Number.SPECIAL),
        flushed=total(Number.FLUSHED),
    )


def _merged(states: list[Mapping[str, Any]]) -> UpstreamState:
    """Give one server as all responders see it: counts together, times in the mean, the earliest suspicion."""
    rtts = [state["rtt"] for state in states if state["rtt"] is not None]
    since = [state["suspect_since"] for state in states if state["suspect_since"] is not None]
    return UpstreamState(
        zone=states[0]["zone"],
        server=states[0]["server"],
        rtt=sum(rtts) / len(rtts) if rtts else None,
        suspect_since=min(since, default=None),
        forwards_back=any(state["forwards_back"] for state in states),
        queries=sum(state["queries"] for state in states),
        answers=sum(state["answers"] for state in states),
        timeouts=sum(state["timeouts"] for state in states),
        errors=sum(state["errors"] for state in states),
        last_error=next((state["last_error"] for state in states if state["last_error"]), ""),
    )
