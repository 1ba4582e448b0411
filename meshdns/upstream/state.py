"""What a forwarder shows of itself: what it did so far, and how its cache and its servers are now."""

from dataclasses import dataclass
from typing import Any

from meshdns.upstream.cache import Cache
from meshdns.upstream.peer import ForwardZones


@dataclass(slots=True)
class Counts:
    """What a forwarder did, each number only growing."""

    hits: int = 0
    misses: int = 0
    joined: int = 0
    """Misses that found their question already asked."""
    stale: int = 0
    prefetched: int = 0
    special: int = 0
    failed: int = 0
    """Questions that nobody answered."""
    crowded: int = 0
    """Clients refused because too much waited."""
    flushed: int = 0


def state(zones: ForwardZones, cache: Cache, waiting: int) -> dict[str, Any]:
    """Give what ``status`` shows: the cache, questions that wait, each server; times in seconds and unix time."""
    held = cache.statistics
    return {
        "cache": {"entries": held.entries, "bytes": held.octets, "failures": held.failures},
        "waiting": waiting,
        "upstreams": [
            {
                "zone": zone.settings.zone,
                "server": str(peer.server),
                "rtt": None if peer.health.rtt is None else round(peer.health.rtt, 6),
                "suspect_since": peer.suspect_wall,
                "forwards_back": peer.forwards_back,
                "queries": peer.queries,
                "answers": peer.answers,
                "timeouts": peer.timeouts,
                "errors": peer.errors,
                "last_error": peer.last_error,
            }
            for zone in zones
            for peer in zone.peers
        ],
        "without_servers": [zone.settings.zone for zone in zones if not zone.peers],
    }
