"""The xDS conversation as two state machines, one for each variant, without any I/O.

Both subscribe to Listeners only (wildcard), ACK every response, also an empty one, and NACK with every faulty
resource named while the good ones of the same response are kept. They hold what the control plane has said, already
decoded, across streams: a new stream begins with a new nonce but with the versions still held.

Of the xDS protocol: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol. Of Kuma: without an ACK no
further push comes; after a SotW NACK the same version is sent again every 5 s; after a delta NACK it is not, so the
caller is told to begin a new stream, but only once for the same faulty bytes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Generic, Literal, TypeVar

from meshdns.errors import ResourceError
from meshdns.xds.node import Node

Protocol = Literal["delta", "sotw"]

LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"

NACK_LIMIT = 65_536
"""Characters of a NACK's text. The control plane logs it: what is wrong with the first, then names only."""

_TOLD_LIMIT = 8_192
_FAULT_LIMIT = 300


class FaultyResourceError(ResourceError):
    """One resource is unusable. name: empty where not even that could be read."""

    def __init__(self, name: str, problem: str) -> None:
        self.name = name
        self.problem = problem
        super().__init__(f"{name}: {problem}" if name else problem)


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of a response. name, version: empty in SotW. body: None where a delta carries none."""

    type_url: str
    body: bytes | None
    name: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """What the control plane sent, of either variant. removed: names, delta only."""

    type_url: str
    version: str
    nonce: str
    resources: tuple[Resource, ...] = ()
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be sent. version: SotW only. error: the text of a NACK. initial_versions: delta only."""

    node: Node
    type_url: str = LISTENER
    version: str = ""
    nonce: str = ""
    error: str = ""
    initial_versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Received:
    """What a response meant.

    requests: to be sent now. first: it was the first of its stream. changed: what is held is not what was held
    before. faults: one line for each unusable resource. restart: only a new stream can bring what was just refused.
    unknown_type: a type nobody asked for, else empty.
    """

    requests: tuple[Request, ...] = ()
    first: bool = False
    changed: bool = False
    faults: tuple[str, ...] = ()
    restart: bool = False
    unknown_type: str = ""


T = TypeVar("T")

Decoder = Callable[[Resource, str], tuple[str, T]]
"""(resource, version of its response) → (its name, what it means). Raises FaultyResourceError."""


@dataclass(frozen=True, slots=True)
class _Held(Generic[T]):
    digest: bytes
    version: str
    value: T


class SotwSession(Generic[T]):
    """State of the world: every response is the whole truth; what it lacks is gone."""

    protocol: Protocol = "sotw"

    def __init__(self, node: Node, decode: Decoder[T]) -> None:
        self._node = node
        self._decode = decode
        self._held: dict[str, _Held[T]] = {}
        self._names: dict[bytes, str] = {}
        self._version = ""
        self._first = True

    @property
    def pieces(self) -> dict[str, T]:
        """What is held now: decoded resources by name (a copy)."""
        return {name: held.value for name, held in self._held.items()}

    def open_stream(self) -> list[Request]:
        """Give the first requests of a new stream: no nonce yet, but the version that is held."""
        self._first = True
        return [Request(self._node, version=self._version)]

    def forget_version(self) -> None:
        """Claim nothing on the next stream: a control plane may stay silent to a version that it calls current."""
        self._version = ""

    def receive(self, response: Response) -> Received:
        """Take *response* in."""
        if response.type_url != LISTENER:
            return Received(unknown_type=response.type_url)
        first, self._first = self._first, False
        held: dict[str, _Held[T]] = {}
        faults: list[str] = []
        keep_absent = False
        for index, resource in enumerate(response.resources):
            digest = _digest(resource)
            name = self._names.get(digest, "")
            if name:  # resent as it was: every SotW response carries every listener
                held[name] = self._held[name]
                continue
            try:
                name, value = self._decode(resource, response.version)
            except FaultyResourceError as fault:
                faults.append(_line(fault, index))
                if fault.name in self._held:
                    held.setdefault(fault.name, self._held[fault.name])
                # a resource whose name cannot be read may be any of those that seem to be gone
                keep_absent = keep_absent or not fault.name
                continue
            held[name] = _Held(digest, "", value)
        if keep_absent:
            held = {**self._held, **held}
        changed = held.keys() != self._held.keys() or any(held[name].digest != self._held[name].digest for name in held)
        self._held = held
        self._names = {entry.digest: name for name, entry in held.items()}
        if not faults:
            self._version = response.version
        request = Request(self._node, version=self._version, nonce=response.nonce, error=_nack(faults))
        return Received((request,), first, changed, tuple(faults))


class DeltaSession(Generic[T]):
    """Incremental: a response adds, replaces and removes by name."""

    protocol: Protocol = "delta"

    def __init__(self, node: Node, decode: Decoder[T]) -> None:
        self._node = node
        self._decode = decode
        self._held: dict[str, _Held[T]] = {}
        self._refused: dict[str, bytes] = {}
        self._first = True

    @property
    def pieces(self) -> dict[str, T]:
        """What is held now: decoded resources by name (a copy)."""
        return {name: held.value for name, held in self._held.items()}

    def open_stream(self) -> list[Request]:
        """Give the first requests of a new stream, with the versions of what is really held.

        Of a resource that was NACKed that is the last good version, if any, never the refused one.
        """
        self._first = True
        versions = {name: held.version for name, held in self._held.items()}
        return [Request(self._node, initial_versions=versions)]

    def forget_version(self) -> None:
        """Nothing to forget: a delta control plane answers a claim, if only with an empty response."""

    def receive(self, response: Response) -> Received:
        """Take *response* in."""
        if response.type_url != LISTENER:
            return Received(unknown_type=response.type_url)
        first, self._first = self._first, False
        changed = False
        faults: list[str] = []
        restart = False
        for name in response.removed:
            changed = self._held.pop(name, None) is not None or changed
            self._refused.pop(name, None)
        for index, resource in enumerate(response.resources):
            digest = _digest(resource)
            known = self._held.get(resource.name)
            if known is not None and (known.digest == digest or resource.body is None):
                # the same bytes under another version; or a heartbeat, which has none
                version = known.version if resource.body is None else resource.version
                self._held[resource.name] = _Held(known.digest, version, known.value)
                self._refused.pop(resource.name, None)
                continue
            try:
                inner, value = self._decode(resource, response.version)
            except FaultyResourceError as fault:
                faults.append(_line(FaultyResourceError(resource.name or fault.name, fault.problem), index))
                key = resource.name or digest.hex()
                restart = restart or self._refused.get(key) != digest
                self._refused[key] = digest
                continue
            name = resource.name or inner
            self._held[name] = _Held(digest, resource.version, value)
            self._refused.pop(name, None)
            changed = True
        request = Request(self._node, nonce=response.nonce, error=_nack(faults))
        return Received((request,), first, changed, tuple(faults), restart)


Session = SotwSession[T] | DeltaSession[T]


def _digest(resource: Resource) -> bytes:
    digest = blake2b(resource.body or b"", digest_size=16)
    digest.update(resource.type_url.encode())
    return digest.digest()


def _line(fault: FaultyResourceError, index: int) -> str:
    text = f"{fault.name[:200] or f'resources[{index}]'}: {fault.problem}"
    text = "".join(letter if letter.isprintable() else "?" for letter in text[: _FAULT_LIMIT + 1])
    return text if len(text) <= _FAULT_LIMIT else text[: _FAULT_LIMIT - 1] + "…"


def _nack(faults: list[str]) -> str:
    """Give the text of a NACK that names every faulty resource; empty for an ACK."""
    text = ""
    for number, fault in enumerate(faults):
        line = fault if len(text) < _TOLD_LIMIT else fault.partition(": ")[0]
        if len(text) + len(line) > NACK_LIMIT - 40:
            return f"{text}\nand {len(faults) - number} more"
        text = f"{text}\n{line}" if text else line
    return text
