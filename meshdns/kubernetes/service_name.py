"""What a Service is called: a name from the mesh's service, longer only where two would be called the same.

A Service's name is an RFC 1035 label (Kubernetes' own rule): lower case, a letter first, at most 63 octets.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from meshdns.inventory.kri import parse_kri
from meshdns.inventory.name import dotted
from meshdns.inventory.record import NameRecord

MAX_LABEL = 63
"""RFC 1035 §2.3.4."""

_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?\Z")
_OTHER = re.compile(r"[^a-z0-9]+")
_HASH = 8

# <svc>_<ns>_svc_<port>, and <name>_<ns>_svc for a pod without Service: the only texts that Kuma makes itself
_KUBERNETES_SERVICE = re.compile(r"([^_]+)_([^_]+)_svc(?:_([0-9]+))?\Z")
_LEGACY_HOST = re.compile(r"([^.]+)\.([^.]+)\.svc\.([0-9]+)\Z")
# What Kuma's default HostnameGenerators make: <name>[.<ns>].svc[.<zone>], <name>.extsvc, <name>.mzsvc
_GENERATED_HOST = re.compile(r"([^.]+)(?:\.([^.]+))?\.(svc|extsvc|mzsvc)(?:\.([^.]+))?\Z")
_KINDS = {"svc": "msvc", "extsvc": "extsvc", "mzsvc": "mzsvc"}


@dataclass(frozen=True, slots=True)
class Subject:
    """What a service is called in the mesh, taken apart; empty where the mesh does not say.

    host: the whole name that resolves to it, which is unique.
    """

    base: str
    host: str
    port: str = ""
    namespace: str = ""
    zone: str = ""
    kind: str = ""


def is_service_name(text: str) -> bool:
    """Tell whether Kubernetes takes *text* as the name of a Service."""
    return len(text) <= MAX_LABEL and _LABEL.match(text) is not None


def subject(record: NameRecord, zone: str | None) -> Subject:
    """Take the service of *record* apart; zone: that of its name, None when it is in none of ours."""
    host = record.name.lower()
    kri = parse_kri(record.service or "")
    if kri is not None:
        return Subject(kri.name, host, "", kri.namespace, kri.zone, kri.kind)
    if record.service and zone is not None and is_own_name(host, record.service, zone):
        if match := _KUBERNETES_SERVICE.match(record.service):
            return Subject(match[1], host, match[3] or "", match[2])
        return Subject(record.service, host)
    left = host if zone is None else host.removesuffix(zone).rstrip(".")
    if match := _LEGACY_HOST.match(left):
        return Subject(match[1], host, match[3], match[2])
    if zone is not None and (match := _GENERATED_HOST.match(left)):
        return Subject(match[1], host, "", match[2] or "", match[4] or "", _KINDS[match[3]])
    return Subject(left or host, host)


def is_own_name(host: str, service: str, zone: str) -> bool:
    """Tell whether *host* (lower case) is one of the two spellings of a ``kuma.io/service`` in *zone*."""
    own = f"{service}.{zone}".lower()
    return host in (own, dotted(own, zone))


def service_names(subjects: Sequence[Subject], suffix: str = "") -> list[str]:
    """Give each of *subjects* its Service's name, all different; *suffix* ends each.

    The name is the service's own. Those that would share it get what tells them apart, the first of: port,
    namespace, zone, kind; else as much of it as is needed; else the whole host; else a hash of it. Hosts differ.
    """
    assert len({each.host for each in subjects}) == len(subjects)
    families = [[place] for place in range(len(subjects))]
    levels = [0] * len(subjects)
    names = [_name(each, 0, suffix) for each in subjects]
    while True:
        family_of = {place: number for number, family in enumerate(families) for place in family}
        clashing = _clashing(names, family_of)
        if not clashing:
            return names
        for together in clashing:
            family = sorted(place for number in together for place in families[number])
            level = max(levels[place] for place in family) + (len(together) == 1)
            while level < _LEVELS - 1 and not _tells_apart(subjects, family, level, suffix):
                level += 1
            for place in family:
                levels[place] = level
                names[place] = _name(subjects[place], level, suffix)
            for number in together:
                families[number] = []
            families[min(together)] = family


_QUALIFIERS = tuple(chosen for size in range(5) for chosen in combinations(("port", "namespace", "zone", "kind"), size))
"""What is added to a service's own name, in the order in which it is tried."""

_ORDER = ("namespace", "zone", "port", "kind")
_LEVELS = len(_QUALIFIERS) + 2


def _clashing(names: Sequence[str], family_of: dict[int, int]) -> list[set[int]]:
    """Give the families that share a name, each family in one set only."""
    by_name: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        by_name.setdefault(name, []).append(place)
    joined: dict[int, set[int]] = {}
    for places in by_name.values():
        if len(places) > 1:
            together = {family_of[place] for place in places}
            for number in list(together):
                together |= joined.get(number, set())
            for number in together:
                joined[number] = together
    return [together for number, together in joined.items() if number == min(together)]


def _tells_apart(subjects: Sequence[Subject], family: Sequence[int], level: int, suffix: str) -> bool:
    counted = Counter(_name(subjects[place], level, suffix) for place in family)
    return len(counted) == len(family)


def _name(each: Subject, level: int, suffix: str) -> str:
    if level < len(_QUALIFIERS):
        chosen = _QUALIFIERS[level]
        words = [each.base, *(getattr(each, word) for word in _ORDER if word in chosen)]
    else:
        words = [each.host]
    if level == _LEVELS - 1:
        words.append(_digest(each.host))
    return _as_label("-".join(word for word in words if word), suffix)


def _as_label(text: str, suffix: str) -> str:
    label = _OTHER.sub("-", text.lower()).strip("-")
    if not label[:1].isalpha():
        label = f"mesh-{label}".rstrip("-")
    if len(label) + len(suffix) > MAX_LABEL:
        kept = MAX_LABEL - len(suffix) - _HASH - 1
        label = f"{label[:kept].rstrip('-')}-{_digest(text)}"
    return label + suffix


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH]
