"""From a question to an answer: exact, then lenient spelling, then wildcard; else NODATA or NXDOMAIN.

Pure: entries come through ``get``. RFC 1034 §4.3.2 and RFC 4592 for the order, RFC 2308 §2 for NODATA and NXDOMAIN.
"""

from collections.abc import Callable, Iterable
from enum import Enum, auto
from typing import NamedTuple

from meshdns.wire.name import parents, to_wire
from meshdns.wire.rrset import AAAA, ANY, HINFO, PTR, SOA, A, rrset
from meshdns.zone.entries import DELIVERED_KEY, LENIENT, WILDCARDS, Rules, rrset_key

Get = Callable[[bytes], bytes | None]

_A, _PTR = (rtype.to_bytes(2, "big") for rtype in (A, PTR))
_ARPA = to_wire("arpa")

NEGATIVE_TTL = 5
"""Seconds that a denial may be cached: SOA MINIMUM and the SOA's own TTL (RFC 2308 §5)."""

SOA_TIMERS = (3600, 600, 86400, NEGATIVE_TTL)
"""Refresh, retry, expire, minimum in seconds; only the last is ever used by anybody."""

REMEMBERED = 4_096
"""Parents whose zone is remembered; most names of a mesh have few parents. When full, forgotten."""

ANY_RRSET = rrset(HINFO, 3600, [b"\x07RFC8482\0"])
"""RFC 8482 §4.2: existing names say no more than this to ANY."""


class Question(NamedTuple):
    """What is asked: owner name in lower-case wire form, and type; the class is IN."""

    name: bytes
    qtype: int


class Found(Enum):
    """How an answer came about; ``explain`` says it in words."""

    EXACT = auto()
    LENIENT = auto()
    WILDCARD = auto()
    APEX = auto()
    NODATA = auto()
    NXDOMAIN = auto()
    NOT_READY = auto()
    NOT_OURS = auto()


_NODATA = Found.NODATA  # an attribute of an Enum costs three times a global


class Answer(NamedTuple):
    """The meaning of a reply.

    rrset: count and records that point at the question's name, empty for a denial. apex: the octet of the question's
    name at which the zone of the SOA begins, which stands in AUTHORITY of a denial and is the answer for ``SOA``
    at an apex (``found`` is APEX and rrset is empty). matched: the owner name whose entries answered.
    """

    found: Found
    rrset: bytes = b""
    apex: int = 0
    matched: bytes = b""


class Zones:
    """The zones and reverse zones of an instance, and the sources that must have delivered before it may deny.

    zones: as in :class:`Rules`. sources: names of the configured sources.
    """

    __slots__ = ("_apexes", "_complete", "_lenient", "_sources", "_under")

    def __init__(self, rules: Rules, sources: Iterable[str] = ()) -> None:
        self._lenient = frozenset(map(to_wire, rules.zones))
        self._apexes = self._lenient | frozenset(map(to_wire, rules.reverse_zones))
        self._sources = frozenset(source.encode() for source in sources)
        self._under: dict[bytes, bytes | None] = {}
        self._complete: bytes | None = None

    def apex_of(self, name: bytes) -> bytes | None:
        """Give the longest zone that *name* is in or under, on label boundaries; None if it is in none of ours."""
        if name in self._apexes:
            return name
        parent = name[1 + name[0] :]
        if len(parent) <= 1:
            return None
        try:
            return self._under[parent]
        except KeyError:
            pass
        apex = (
            parent if parent in self._apexes else next((each for each in parents(parent) if each in self._apexes), None)
        )
        if len(self._under) >= REMEMBERED:
            self._under.clear()
        self._under[parent] = apex
        return apex

    def is_lenient(self, apex: bytes) -> bool:
        """Tell whether spelling may be lenient in this zone: it may in the mesh's, not in reverse zones."""
        return apex in self._lenient

    def all_delivered(self, get: Get) -> bool:
        """Tell whether every configured source has delivered at least once."""
        delivered = get(DELIVERED_KEY)
        if delivered is None:
            return not self._sources
        if delivered != self._complete:
            if not self._sources <= set(delivered.split(b"\n")):
                return False
            self._complete = delivered
        return True


def lookup(get: Get, question: Question, zones: Zones) -> Answer:
    """Give the answer to *question* from the entries behind *get*."""
    name, qtype = question
    if (found := get(rrset_key(name, qtype))) is not None:
        return Answer(Found.EXACT, found, 0, name)
    return lookup_further(get, question, zones)


def lookup_further(get: Get, question: Question, zones: Zones) -> Answer:
    """Give the answer to *question* when it is known that no entry is exactly for it."""
    name, qtype = question
    apex = zones.apex_of(name)
    if name == apex and qtype == SOA:
        return Answer(Found.APEX, b"", 0, name)
    if _exists(get, name):
        zone = name if apex is None else apex  # a name outside the zones denies for itself alone
        at = len(name) - len(zone)
        return Answer(_NODATA, b"", at, name) if qtype != ANY else _existing(get, Found.EXACT, name, qtype, at)
    if apex is None:
        return Answer(Found.NOT_OURS)
    at = len(name) - len(apex)
    if not at:
        return Answer(Found.NODATA, b"", 0, name)
    if zones.is_lenient(apex):
        spelled = _every_dot(name, at)
        if spelled is not None and get(LENIENT + spelled) is not None:
            return _existing(get, Found.LENIENT, spelled, qtype, at)
    if get(WILDCARDS) is not None:
        wildcard = b"\x01*" + _closest_encloser(get, name, apex, lenient=zones.is_lenient(apex))
        if _exists(get, wildcard):
            return _existing(get, Found.WILDCARD, wildcard, qtype, at)
    return Answer(Found.NXDOMAIN if zones.all_delivered(get) else Found.NOT_READY, b"", at)


def _exists(get: Get, name: bytes) -> bool:
    """Tell whether *name* has a record or is between one and its zone: see ``zone.entries`` for how that is known."""
    if get(name + _A) is not None or get(name) is not None:
        return True
    return name.endswith(_ARPA) and get(name + _PTR) is not None


def _existing(get: Get, how: Found, owner: bytes, qtype: int, apex: int) -> Answer:
    """Give what *owner*, which exists, has of *qtype*, or NODATA."""
    found = get(rrset_key(owner, qtype))
    if found is None and qtype == ANY and any(get(rrset_key(owner, each)) for each in (A, AAAA, PTR)):
        found = ANY_RRSET
    if found is not None:
        return Answer(how, found, apex, owner)
    return Answer(_NODATA, b"", apex, owner)


def _every_dot(name: bytes, at: int) -> bytes | None:
    """Give *name* with a dot for each underscore left of octet *at*; None if it has none, or would be no name."""
    left = name[:at]
    if b"_" not in left:
        return None
    spelled = []
    here = 0
    while here < at:
        spelled += left[here + 1 : here + 1 + left[here]].split(b"_")
        here += 1 + left[here]
    if not all(spelled):
        return None
    return b"".join(bytes((len(label),)) + label for label in spelled) + name[at:]


def _closest_encloser(get: Get, name: bytes, apex: bytes, *, lenient: bool) -> bytes:
    """Give the longest existing ancestor of *name* (RFC 4592 §3.3.1); the apex always exists."""
    for parent in parents(name):
        if parent == apex or _exists(get, parent):
            return parent
        spelled = _every_dot(parent, len(parent) - len(apex)) if lenient else None
        if spelled is not None and get(LENIENT + spelled) is not None:
            return parent
    return apex
