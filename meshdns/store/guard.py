"""The guard on removals: a control plane that has just restarted may push an empty table before the right one.

It delays removals only. When a push within ``WINDOW`` of a (re)connect would remove more than ``SHARE`` and more
than ``FEW`` of a source's names, the missing names are kept for a number of seconds of *connected* time. A kept name
ends at once when it reappears, when its address is pushed for another service, or when that time is over.

Pure values: the clock comes as an argument, and a guard is replaced, never changed, so a commit that fails leaves
the old one.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from meshdns.inventory.record import IPAddress, NameRecord, Table

WINDOW = 60.0
"""Seconds after a (re)connect in which a shrinking table is doubted."""

SHARE = 0.5
"""More than this part of a source's names must go before the guard doubts."""

FEW = 10
"""And more than this many: small tables really do change by half."""


@dataclass(frozen=True, slots=True)
class Guard:
    """One source's guard.

    hold: seconds of connected time for which a doubted name is kept; 0: never. heard: seconds for which the source
    has been connected, up to ``since``. since: when it connected, None while it is not. until: kept names, each
    with the ``heard`` at which its hold ends.
    """

    hold: float
    heard: float = 0.0
    since: float | None = None
    until: Mapping[str, float] = field(default_factory=dict)

    def connected(self, now: float) -> "Guard":
        """Give the guard after a (re)connect."""
        return replace(self, heard=self.heard_at(now), since=now)

    def disconnected(self, now: float) -> "Guard":
        """Give the guard after the stream was lost: holds stop running."""
        return replace(self, heard=self.heard_at(now), since=None)

    def heard_at(self, now: float) -> float:
        """Give the seconds for which the source has been connected."""
        return self.heard if self.since is None else self.heard + max(0.0, now - self.since)

    def doubts(self, missing: int, listed: int, now: float) -> bool:
        """Tell whether a push that takes *missing* of *listed* names away is to be doubted."""
        fresh = self.since is not None and now - self.since <= WINDOW
        return fresh and self.hold > 0 and missing > FEW and missing > SHARE * listed

    def candidates(self, missing: Collection[str], listed: int, now: float) -> frozenset[str]:
        """Give those of the *missing* names that are to be kept, unless their addresses were taken over.

        missing: every stored name that the push lacks, those kept already too. listed: how many names the source
        listed in its last push, those kept not counted.
        """
        heard = self.heard_at(now)
        kept = {name for name in missing if self.until.get(name, heard) > heard}
        lost = [name for name in missing if name not in self.until]
        return frozenset(kept.union(lost) if self.doubts(len(lost), listed, now) else kept)

    def keeping(self, names: Iterable[str], now: float) -> "Guard":
        """Give the guard that keeps exactly *names*: what was kept before ends when it would have, the rest is new."""
        end = self.heard_at(now) + self.hold
        return replace(self, until={name: self.until.get(name, end) for name in names})

    def ended(self, now: float) -> frozenset[str]:
        """Give the kept names whose hold is over."""
        heard = self.heard_at(now)
        return frozenset(name for name, end in self.until.items() if end <= heard)

    def ends_in(self, now: float) -> float | None:
        """Give the seconds of connected time until the next hold ends, None when nothing is kept."""
        return max(0.0, min(self.until.values()) - self.heard_at(now)) if self.until else None


def taken_over(missing: Iterable[NameRecord], table: Table) -> frozenset[str]:
    """Give the names (lower case) among *missing* of which an address now belongs to another service in *table*.

    Where either service is unknown, another name at the address counts as another service: better to deny
    a name than to send its clients somewhere else.
    """
    services: dict[IPAddress, set[str | None]] = {}
    for record in table.records.values():
        for address in record.addresses:
            services.setdefault(address, set()).add(record.service)
    listening: dict[IPAddress, set[str]] = {}
    for (address, _port), service in table.listeners.items():
        listening.setdefault(address, set()).add(service)
    taken = set()
    for record in missing:
        own = set() if record.service is None else {record.service}
        reached = own | {port.target for port in record.ports}
        for address in record.addresses:
            others = services.get(address, set()) - own
            if others or (reached and not listening.get(address, set()) <= reached):
                taken.add(record.name.lower())
    return frozenset(taken)
