"""One ADS stream as a state machine without any I/O, in both variants of the protocol.

Make before break: clusters, then their endpoints, then the listeners that lead to them, once both are acknowledged;
what goes, goes the other way round, after everything else. Endpoints do not wait for the word that clusters were
taken: Envoy gives it only when it has the endpoints. At most one response of a type is under way, so a slow client
gets the latest state and never a queue of old ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal, TypeAlias

from meshdns.publisher.packed import CLUSTER, ENDPOINT, LISTENER, Packed
from meshdns.publisher.snapshot import ORDER, Snapshot
from meshdns.publisher.subscription import ACK_PATIENCE, Subscription

Protocol: TypeAlias = Literal["delta", "sotw"]

WARM_PATIENCE = 1.0
"""Seconds that listeners wait for the client to take clusters, and to ask for the endpoints of a new one; a name of
an external service that nobody resolves must not hold up the others for longer."""

RETRY_REFUSED = 30.0
"""Seconds after which what was refused is sent again: an address that was taken may be free then."""

CHUNK = 2 << 20
"""Octets of resources in one delta response; clients refuse messages that are longer than 4 MiB (gRPC's default)."""

MAX_TYPES = 32
"""Types of resources that one stream may ask for; more is no client of this kind."""

_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Request:
    """What a client says. version: SotW only. names: all that are subscribed (SotW), those to be added (delta).

    unsubscribed, initial_versions: delta only. error: the text of a NACK.
    """

    type_url: str
    nonce: str = ""
    version: str = ""
    names: tuple[str, ...] = ()
    unsubscribed: tuple[str, ...] = ()
    initial_versions: Mapping[str, str] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """What is to be sent: resources by name. removed: names, delta only."""

    type_url: str
    version: str
    nonce: str
    resources: Mapping[str, Packed]
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """A NACK that still stands: which resources (as far as the text names them, else all that were sent), and why."""

    type_url: str
    names: tuple[str, ...]
    reason: str
    retry_at: float = field(compare=False)

    def __str__(self) -> str:
        kind = self.type_url.rpartition(".")[2]
        shown = ", ".join(self.names[:3]) + (f" and {len(self.names) - 3} more" if len(self.names) > 3 else "")
        return f"{kind} {shown}: {self.reason}" if shown else f"{kind}: {self.reason}"


class Session:
    """One stream. Times are seconds of any clock that only goes forward.

    Give it what is to be published (``offer``) and what the client says (``receive``), then send what ``poll`` gives
    until it gives nothing.
    """

    def __init__(self, protocol: Protocol, snapshot: Snapshot) -> None:
        self.protocol: Protocol = protocol
        self._snapshot = snapshot
        self._subscriptions: dict[str, Subscription] = {}
        self._refusals: dict[str, Refusal] = {}
        self._warming: dict[str, float] = {}
        self._nonce = 0

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """What the client refuses now."""
        return tuple(self._refusals.values())

    def offer(self, snapshot: Snapshot) -> None:
        """Publish *snapshot* from now on."""
        self._snapshot = snapshot
        self._warming = {name: until for name, until in self._warming.items() if name in self._known(ENDPOINT)}
        for type_url, refusal in list(self._refusals.items()):
            known = self._known(type_url)
            self._narrow(refusal, tuple(name for name in refusal.names if name in known))

    def receive(self, request: Request, now: float) -> Refusal | None:
        """Take *request* in; gives the refusal where it is a NACK."""
        subscription = self._subscriptions.get(request.type_url)
        first = subscription is None
        if subscription is None:
            if len(self._subscriptions) >= MAX_TYPES:
                return None
            whole = self.protocol == "sotw" and request.type_url != ENDPOINT
            subscription = self._subscriptions[request.type_url] = Subscription(request.type_url, whole)
        if self.protocol == "sotw":
            if not first and request.nonce != subscription.nonce:
                return None  # it was written before the last response was read; the answer to that will come
            subscription.subscribe_all(request.names, first=first)
        else:
            subscription.subscribe(request.names, first=first, versions=request.initial_versions)
            subscription.unsubscribe(request.unsubscribed)
        if request.nonce and request.nonce == subscription.nonce:
            return self._answered(subscription, request.error, now)
        return None

    def poll(self, now: float) -> Response | None:
        """Give the next response that is to be sent now, if there is one."""
        for type_url, subscription in self._subscriptions.items():
            if type_url not in ORDER and not subscription.waits(now) and self._owed(subscription):
                return self._respond(subscription, self._owes(subscription), (), now)
        for subscription in self._in_order():
            type_url = subscription.type_url
            if type_url == LISTENER and self._warms_until() > now:
                return None
            if subscription.waits(now):
                continue
            self._force_refused(type_url, now)
            additions = self._owes(subscription)
            removals = subscription.removals(self._known(type_url)) if type_url == LISTENER else ()
            if additions or removals or self._owed(subscription):
                return self._respond(subscription, additions, removals, now)
        return self._break(now)

    def wakes_at(self, now: float) -> float | None:
        """Give when ``poll`` should be asked again though nothing was heard; None: not before."""
        times = [self._warms_until()]
        times += [refusal.retry_at for refusal in self._refusals.values()]
        times += [each.awaited + ACK_PATIENCE for each in self._subscriptions.values() if each.awaited is not None]
        return min((each for each in times if each > now), default=None)

    def _warms_until(self) -> float:
        """Give until when listeners wait for the clusters that they lead to."""
        times = [*self._warming.values()]
        for type_url in (CLUSTER, ENDPOINT):
            subscription = self._subscriptions.get(type_url)
            if subscription is not None and subscription.awaited is not None:
                times.append(subscription.awaited + WARM_PATIENCE)
        return max(times, default=float("-inf"))

    def _in_order(self) -> list[Subscription]:
        return [self._subscriptions[type_url] for type_url in ORDER if type_url in self._subscriptions]

    def _known(self, type_url: str) -> Mapping[str, Packed]:
        return self._snapshot.resources.get(type_url, {})

    def _owes(self, subscription: Subscription) -> dict[str, Packed]:
        forced = self._warming.keys() if subscription.type_url == ENDPOINT else frozenset[str]()
        return subscription.additions(self._known(subscription.type_url), forced)

    def _owed(self, subscription: Subscription) -> bool:
        """Tell whether there must be a response, even an empty one."""
        if not subscription.answered or self._owes(subscription):
            return True
        return self.protocol == "delta" and bool(subscription.missing)

    def _break(self, now: float) -> Response | None:
        """Everything that is new is in use: take away what is not needed any more, endpoints before clusters."""
        if any(each.waits(now) for each in self._subscriptions.values()):
            return None
        for type_url in (ENDPOINT, CLUSTER):
            subscription = self._subscriptions.get(type_url)
            removals = subscription.removals(self._known(type_url)) if subscription is not None else ()
            if subscription is None or not removals:
                continue
            if self.protocol == "sotw" and not subscription.whole:  # what no cluster asks for needs no word
                for name in removals:
                    del subscription.held[name]
                continue
            return self._respond(subscription, {}, removals, now)
        return None

    def _respond(
        self, subscription: Subscription, additions: Mapping[str, Packed], removals: tuple[str, ...], now: float
    ) -> Response:
        known = self._known(subscription.type_url)
        self._nonce += 1
        nonce = str(self._nonce)
        resources = additions
        if self.protocol == "delta":
            resources = _first_of(additions)
            told = set(removals)
            removals += tuple(sorted(name for name in subscription.missing if name not in known and name not in told))
        elif subscription.whole:
            gone = set(removals)
            kept = {name: packed for name, packed in subscription.held.items() if name not in gone}
            resources = {**kept, **subscription.wanted(known)}
        subscription.note_sent(nonce, resources, removals, now)
        subscription.missing.difference_update(known)  # what is there is owed as a resource
        self._note_warming(subscription.type_url, resources if self.protocol == "delta" else additions, now)
        version = _digest(resources if subscription.whole else known)
        return Response(subscription.type_url, version, nonce, resources, removals if self.protocol == "delta" else ())

    def _note_warming(self, type_url: str, sent: Mapping[str, Packed], now: float) -> None:
        """Remember which clusters want their endpoints: also one that only changed waits for them to be sent again."""
        if type_url == CLUSTER:
            endpoints = self._known(ENDPOINT)
            self._warming.update(dict.fromkeys((name for name in sent if name in endpoints), now + WARM_PATIENCE))
        elif type_url == ENDPOINT:
            for name in sent:
                self._warming.pop(name, None)

    def _answered(self, subscription: Subscription, error: str, now: float) -> Refusal | None:
        """Note an ACK or, with *error*, a NACK."""
        type_url = subscription.type_url
        awaited = subscription.awaited is not None  # a later request repeats the nonce, with other names
        subscription.awaited = None
        standing = self._refusals.get(type_url)
        if not error:
            if standing is not None and awaited:
                sent = set(subscription.sent)
                self._narrow(standing, tuple(name for name in standing.names if name not in sent))
            return None
        known = self._known(type_url)
        there = tuple(name for name in subscription.sent if name in known)
        named = tuple(name for name in there if name in error) or there
        if standing is not None and not subscription.whole:
            named = tuple(dict.fromkeys((*standing.names, *named)))
        refusal = Refusal(type_url, named, shorten(error), now + RETRY_REFUSED)
        self._refusals[type_url] = refusal
        return refusal

    def _narrow(self, refusal: Refusal, names: tuple[str, ...]) -> None:
        if not names:
            self._refusals.pop(refusal.type_url, None)
        elif names != refusal.names:
            self._refusals[refusal.type_url] = Refusal(refusal.type_url, names, refusal.reason, refusal.retry_at)

    def _force_refused(self, type_url: str, now: float) -> None:
        refusal = self._refusals.get(type_url)
        if refusal is not None and refusal.retry_at <= now:
            self._subscriptions[type_url].forced.update(refusal.names)
            self._refusals[type_url] = Refusal(type_url, refusal.names, refusal.reason, now + RETRY_REFUSED)


def shorten(error: str) -> str:
    """Give the text of a NACK fit for one line: Envoy may print a whole resource after its reason."""
    error = error.partition("goo.gle/debug")[0] or error
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in error[: 2 * _SHOWN]).split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _first_of(resources: Mapping[str, Packed]) -> Mapping[str, Packed]:
    """Give as many of *resources* as go into one response, at least one."""
    size = 0
    taken: dict[str, Packed] = {}
    for name, packed in resources.items():
        size += len(packed.any) + len(name)
        if taken and size > CHUNK:
            break
        taken[name] = packed
    return taken


def _digest(resources: Mapping[str, Packed]) -> str:
    digest = sha256()
    for name in sorted(resources):
        digest.update(f"{name}\0{resources[name].version}\n".encode())
    return digest.hexdigest()[:16]
