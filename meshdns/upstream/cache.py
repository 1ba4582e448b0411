"""What others answered, kept for its time: bounded in entries and in octets, on a clock that nobody sets.

An entry is octets that stand behind any spelling of its question, under any id; only its TTLs are written anew, at
most once a second. A name belongs to one forward zone, so no zone's servers can answer for another's (MaginotDNS).
What is past its time stays for a while, to stand in when nobody answers (RFC 8767).
"""

import struct
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import cachetools
from cachetools import LRUCache, TLRUCache

from meshdns.upstream.checking import Checked
from meshdns.upstream.settings import CacheSettings
from meshdns.wire.name import parents

STALE_TTL = 30
"""Seconds told with an answer past its time (RFC 8767 §4)."""

FIRST_FAILURE, LONGEST_FAILURE = 2.0, 30.0
"""Seconds for which a question that nobody answered is not asked again; doubled each time (RFC 9520 §3.2)."""

PREFETCH_HITS = 3
PREFETCH_SHARE = 0.1
"""An entry asked for so often is renewed when so much of its time is left."""

OVERHEAD = 1_100
"""Octets of memory that an entry takes besides its records, measured."""


class Entry:
    """One answer. stored, expires: monotonic seconds. counts: ANCOUNT and NSCOUNT as octets. server: who gave it."""

    __slots__ = (
        "_aged",
        "_aged_by",
        "authentic",
        "body",
        "counts",
        "expires",
        "hits",
        "places",
        "rcode",
        "renewing",
        "server",
        "stored",
        "tail",
        "ttl",
    )

    def __init__(self, checked: Checked, *, server: str, authentic: bool, now: float) -> None:
        self.rcode = checked.rcode
        self.counts = struct.pack("!HH", checked.answers, checked.authorities)
        self.body = checked.body
        self.places = checked.places
        self.ttl = checked.ttl
        self.tail = checked.tail
        self.authentic = authentic
        self.server = server
        self.stored = now
        self.expires = now + checked.ttl
        self.hits = 0
        self.renewing = False
        self._aged_by = 0
        self._aged = checked.body

    def aged(self, seconds: int) -> bytes:
        """Give the records with their TTLs counted down by *seconds* (RFC 1035 §7.4), none below 1."""
        if seconds != self._aged_by:
            body = bytearray(self.body)
            for at, ttl in self.places:
                struct.pack_into("!I", body, at, ttl - seconds if ttl > seconds else 1)
            self._aged, self._aged_by = bytes(body), seconds
        return self._aged

    def stale(self) -> bytes:
        """Give the records as told when their time is over."""
        body = bytearray(self.body)
        for at, _ in self.places:
            struct.pack_into("!I", body, at, STALE_TTL)
        return bytes(body)

    @property
    def size(self) -> int:
        """Octets of memory that it takes."""
        return OVERHEAD + 2 * len(self.body) + 64 * len(self.places)


class Failure(NamedTuple):
    """A question that nobody answered. until: when it may be asked again. wait: seconds from the failure until then."""

    until: float
    wait: float
    rcode: int
    reason: str


class CacheStatistics(NamedTuple):
    """What a cache holds now: entries, octets, questions that failed."""

    entries: int
    octets: int
    failures: int


def cache_key(question: bytes, *, dnssec: bool, unchecked: bool) -> bytes:
    """Give the key of *question* (name in lower case, type, class), asked with DO and CD as told."""
    return question + _FLAGS[dnssec, unchecked]


_FLAGS = {(False, False): b"\0", (True, False): b"\1", (False, True): b"\2", (True, True): b"\3"}


class _Entries(TLRUCache[bytes, Entry]):
    """Entries until they are too old even to stand in; None for a key without one, which is no rare thing here."""

    def __missing__(self, key: bytes) -> Any:
        return None

    def __len__(self) -> int:
        return cachetools.Cache.__len__(self)  # what is too old goes with the next that comes


class Cache:
    """Entries and failures by ``cache_key``. clock: monotonic seconds."""

    def __init__(self, settings: CacheSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = settings.entries if settings.bytes else 0
        self._clock = clock
        stale = settings.stale
        self._entries = _Entries(
            maxsize=settings.bytes,
            ttu=lambda _, entry, __: entry.expires + stale,
            timer=clock,
            getsizeof=lambda entry: entry.size,
        )
        self._failures: LRUCache[bytes, Failure] = LRUCache(max(1_000, self._most))

    def get(self, key: bytes) -> Entry | None:
        """Give the entry of *key*, within its time or past it; None when there is none."""
        return self._entries[key]

    def put(self, key: bytes, entry: Entry) -> None:
        """Keep *entry*, if it may be kept; its question is no failure any more."""
        self._failures.pop(key, None)
        if entry.ttl <= 0 or not self._most:
            return
        entries = self._entries
        if key not in entries:
            while len(entries) >= self._most:
                entries.popitem()
        try:
            entries[key] = entry
        except ValueError:  # larger than all of the cache
            pass

    def discard(self, key: bytes) -> None:
        """Forget the entry of *key*."""
        self._entries.pop(key, None)

    def failure(self, key: bytes) -> Failure | None:
        """Give the failure of *key* while it lasts."""
        failure = self._failures.get(key)
        return failure if failure is not None and self._clock() < failure.until else None

    def fail(self, key: bytes, rcode: int, reason: str) -> Failure:
        """Keep that nobody answered *key*; an earlier answer stays, to stand in."""
        former = self._failures.get(key)
        now = self._clock()
        again = former is not None and now < former.until + LONGEST_FAILURE
        wait = min(LONGEST_FAILURE, 2 * former.wait) if former is not None and again else FIRST_FAILURE
        failure = self._failures[key] = Failure(now + wait, wait, rcode, reason)
        return failure

    def forget_failures(self) -> None:
        """Let everything be asked again: a server has come back."""
        self._failures.clear()

    def flush(self, name: bytes | None = None) -> int:
        """Forget everything, or everything at and under *name* (lower-case wire form); give how many entries."""
        if name is None or name == b"\0":
            count = self.statistics.entries
            self._entries.clear()
            self._failures.clear()
            return count
        for key in [key for key in self._failures if _is_at_or_under(key[:-5], name)]:
            del self._failures[key]
        gone = [key for key in self._entries if _is_at_or_under(key[:-5], name)]
        for key in gone:
            self._entries.pop(key, None)
        return len(gone)

    @property
    def statistics(self) -> CacheStatistics:
        """What it holds; entries past their time are counted with it."""
        octets = round(self._entries.currsize)  # first: what is too old goes with that
        return CacheStatistics(len(self._entries), octets, len(self._failures))


def _is_at_or_under(name: bytes, zone: bytes) -> bool:
    return name.endswith(zone) and (name == zone or any(parent == zone for parent in parents(name)))
