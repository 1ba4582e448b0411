"""The servers of a forward zone as they are while we ask them: health, what they can read, connections."""

import ssl
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from meshdns.upstream.asking import Form
from meshdns.upstream.selection import Health
from meshdns.upstream.settings import Server, UpstreamSettings
from meshdns.upstream.stream import Streams
from meshdns.wire.name import parents, to_wire

REMEMBERED = 900.0
"""Seconds for which it is remembered that a server cannot read an OPT, or does not give case back."""

RECHECK = 30.0
"""Seconds until a server that forwards back to us is tried again."""

_PARENTS = 4_096


@dataclass(eq=False, slots=True)
class Peer:
    """One server. forwards_back: what we ask it comes back to us, so it is not asked.

    queries, answers, errors, timeouts: counts. last_error: the last reason why it gave no answer.
    """

    server: Server
    streams: Streams
    mixed_case: bool
    health: Health = field(default_factory=Health)
    forwards_back: bool = False
    checked: bool = False
    """Whether it was seen not to forward back to us, or to do so."""
    check_at: float = 0.0
    probing: bool = False
    queries: int = 0
    answers: int = 0
    errors: int = 0
    timeouts: int = 0
    last_error: str = ""
    suspect_wall: float | None = None
    """Unix time since which it is suspect."""
    name: str = field(init=False)
    """The server as text."""
    _plain_until: float = 0.0
    _same_case_until: float = 0.0

    def __post_init__(self) -> None:
        self.name = str(self.server)

    def form(self, now: float, *, stream: bool) -> Form:
        """Give how it is asked at *now*; over a stream nobody else can answer, so the case is left."""
        mixed = self.mixed_case and not stream and now >= self._same_case_until
        return Form(edns=now >= self._plain_until, mixed_case=mixed)

    def cannot_read_opt(self, now: float) -> None:
        """Take note that it refused a query because of its OPT, and not the same without."""
        self._plain_until = now + REMEMBERED

    def loses_case(self, now: float) -> None:
        """Take note that it answered in another case."""
        self._same_case_until = now + REMEMBERED

    @property
    def is_trusted(self) -> bool:
        """Whether nobody between it and us can alter its AD bit (RFC 6840 §5.7)."""
        return self.server.scheme == "tls" or self.server.host == "::1" or self.server.host.startswith("127.")


class ForwardZone:
    """One zone and who is asked about the names in it."""

    def __init__(self, settings: UpstreamSettings, context: ssl.SSLContext | None) -> None:
        self.settings = settings
        self.apex = to_wire(settings.zone)
        self.peers: list[Peer] = []
        self._context = context

    def use(self, servers: Iterable[Server]) -> list[Peer]:
        """Ask *servers* from now on; those asked already keep their health. Gives those that are not asked any more."""
        former = {peer.server: peer for peer in self.peers}
        self.peers = [former.pop(server) if server in former else self._peer(server) for server in servers]
        return list(former.values())

    def _peer(self, server: Server) -> Peer:
        context = self._context if server.scheme == "tls" else None
        return Peer(server, Streams(server, context), self.settings.randomize_case)


class ForwardZones:
    """All of them; the longest zone that a name is in counts (most labels, not most letters)."""

    def __init__(self, zones: Iterable[ForwardZone]) -> None:
        self._zones = {zone.apex: zone for zone in zones}
        self._under: dict[bytes, ForwardZone | None] = {}

    def __iter__(self) -> Iterator[ForwardZone]:
        return iter(self._zones.values())

    def of(self, name: bytes) -> ForwardZone | None:
        """Give the zone that *name* (lower-case wire form) is forwarded by, None if it is by none."""
        if name in self._zones or name == b"\0":
            return self._zones.get(name)
        parent = name[1 + name[0] :]
        try:
            return self._under[parent]
        except KeyError:
            pass
        found = self._zones.get(parent)
        if found is None and len(parent) > 1:
            found = next((self._zones[each] for each in parents(parent) if each in self._zones), None)
        found = found or self._zones.get(b"\0")
        if len(self._under) >= _PARENTS:
            self._under.clear()
        self._under[parent] = found
        return found
