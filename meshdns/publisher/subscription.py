"""What one stream wants of one type of resource, and what it has: the difference is what it is owed.

Of the xDS protocol: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field

from meshdns.publisher.packed import CLUSTER, LISTENER, Packed

ACK_PATIENCE = 5.0
"""Seconds after which a response that nobody acknowledged holds nothing up any more."""

_WILDCARD = "*"
_NOT_SENT = b""


@dataclass(slots=True)
class Subscription:
    """One type on one stream.

    whole: whether every response must hold all that is subscribed (SotW: listeners and clusters; what a response
    lacks is gone). wildcard, names: what is subscribed. held: what was sent last, by name. answered: whether there
    was a response at all. forced: to be sent though it is held. missing: to be told that they are not there (delta).
    nonce: of the last response. awaited: when it was sent, None when it was acknowledged.
    """

    type_url: str
    whole: bool
    wildcard: bool = False
    names: set[str] = field(default_factory=set)
    held: dict[str, Packed] = field(default_factory=dict)
    answered: bool = False
    forced: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    nonce: str = ""
    awaited: float | None = None
    sent: tuple[str, ...] = ()

    def waits(self, now: float) -> bool:
        """Tell whether the last response is still to be acknowledged."""
        return self.awaited is not None and now < self.awaited + ACK_PATIENCE

    def wanted(self, known: Mapping[str, Packed]) -> Mapping[str, Packed]:
        """Give what is subscribed of *known*."""
        return known if self.wildcard else {name: known[name] for name in sorted(self.names) if name in known}

    def additions(self, known: Mapping[str, Packed], forced: Set[str] = frozenset()) -> dict[str, Packed]:
        """Give what is subscribed, and not held as it is now. forced: more that is to be sent again."""
        return {
            name: packed
            for name, packed in self.wanted(known).items()
            if name not in self.held
            or self.held[name].version != packed.version
            or name in self.forced
            or name in forced
        }

    def removals(self, known: Mapping[str, Packed]) -> tuple[str, ...]:
        """Give the names that are held and not there any more."""
        if not self.held:
            return ()
        wanted = self.wanted(known)
        return tuple(name for name in self.held if name not in wanted)

    def subscribe_all(self, names: Iterable[str], *, first: bool) -> None:
        """Replace what is subscribed (SotW: each request says all of it).

        An empty first request for listeners or clusters means all there are, as ``*`` does.
        """
        names = set(names)
        self.wildcard = _WILDCARD in names or (not names and _legacy(self.type_url) and (first or self.wildcard))
        self.names = names - {_WILDCARD}
        if not self.wildcard:
            self.held = {name: packed for name, packed in self.held.items() if name in self.names}

    def subscribe(self, names: Iterable[str], *, first: bool, versions: Mapping[str, str]) -> None:
        """Add to what is subscribed (delta). versions: what the client has from before this stream."""
        names = set(names)
        self.wildcard = self.wildcard or _WILDCARD in names or (first and not names and _legacy(self.type_url))
        names.discard(_WILDCARD)
        self.names |= names
        self.missing |= names
        if first:
            mine = versions if self.wildcard else {name: versions[name] for name in names if name in versions}
            self.held = {name: Packed(version, _NOT_SENT) for name, version in mine.items()}
        else:
            self.forced |= names  # who subscribes again is to be told again

    def unsubscribe(self, names: Iterable[str]) -> None:
        """Take from what is subscribed (delta)."""
        names = set(names)
        if _WILDCARD in names:
            self.wildcard = False
        self.names -= names
        self.missing -= names
        if not self.wildcard:
            self.held = {name: packed for name, packed in self.held.items() if name in self.names}

    def note_sent(self, nonce: str, resources: Mapping[str, Packed], removed: Iterable[str], now: float) -> None:
        """Note a response: what it says is held from now on."""
        self.held.update(resources)
        for name in removed:
            self.held.pop(name, None)
        self.forced.difference_update(resources)
        self.missing.difference_update(resources, removed)
        self.answered, self.nonce, self.awaited = True, nonce, now
        self.sent = tuple(resources)


def _legacy(type_url: str) -> bool:
    return type_url in (CLUSTER, LISTENER)
