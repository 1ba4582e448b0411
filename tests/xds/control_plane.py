"""A control plane to be tested against: ADS over real gRPC, which behaves as kuma-cp was seen to, or misbehaves.

It plays steps (recorded or made) to every stream of a mesh, checks what the client sends and writes down what it
finds wrong in ``violations``. Free of pytest, so that a demonstration can use it as well.
"""

import asyncio
import contextlib
import gzip
import hashlib
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import meshdns.xds.core_log  # noqa: F401  # isort: skip  (before grpc)

import grpc
from envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)
from grpc import aio

LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"

SECOND_STREAM = "there is already an active stream from this node, try again later"
NOT_FOUND = 'resource "{}" not found; create a Dataplane in Kuma CP first or pass it as an argument to kuma-dp'
NO_TOKEN = (
    "authentication failed: could not parse token. kuma-cp runs with an in-memory database and its state isn't "
    "preserved between restarts. If you restarted it: token is malformed: token contains an invalid number of segments"
)
HEADERS = (
    'could not extract credential from DiscoveryRequest: request must have exactly 1 "authorization" header, got {}'
)

Mode = Literal["sotw", "delta"]


@dataclass(frozen=True)
class Recording:
    """A folder of tests/data/kuma: the messages of one session and what must be held after each."""

    mode: Mode
    node_id: str
    steps: tuple[Any, ...]
    expected: tuple[Mapping[str, Any], ...]

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read *folder*."""
        scenario = json.loads((folder / "scenario.json").read_bytes())
        expected = json.loads((folder / "expected.json").read_bytes())
        mode: Mode = scenario["mode"]
        kind = DiscoveryResponse if mode == "sotw" else DeltaDiscoveryResponse
        steps = []
        for file in sorted([*folder.glob("*.pb"), *folder.glob("*.pb.gz")]):
            octets = file.read_bytes()
            steps.append(kind.FromString(gzip.decompress(octets) if file.suffix == ".gz" else octets))
        return cls(mode, scenario["node"]["id"], tuple(steps), tuple(expected["steps"]))


@dataclass
class Mesh:
    """What a control plane has to say of one mesh: the steps up to ``position`` have happened."""

    steps: list[Any] = field(default_factory=list)
    position: int = -1

    def resources(self) -> dict[str, tuple[str, Any]]:
        """Name → (version, Any) after the steps so far."""
        held: dict[str, tuple[str, Any]] = {}
        for step in self.steps[: self.position + 1]:
            if isinstance(step, DiscoveryResponse):
                held = {str(index): (_hash(any_), any_) for index, any_ in enumerate(step.resources)}
                continue
            for name in step.removed_resources:
                held.pop(name, None)
            for item in step.resources:
                held[item.name] = (item.version, item.resource)
        return held


@dataclass
class Stream:
    """One stream that a client opened, and all that came of it."""

    mode: Mode
    node_id: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    features: tuple[str, ...] = ()
    resource: str = ""
    claimed: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    acks: list[str] = field(default_factory=list)
    nacks: list[tuple[str, str]] = field(default_factory=list)
    sent: int = 0
    open: bool = True
    finished: bool = False
    """The client ended its half in good order, instead of resetting the stream."""
    outstanding: bool = False
    position: int | None = None
    resend: bool = False
    out_of_turn: deque[bytes] = field(default_factory=deque)
    ending: tuple[grpc.StatusCode, str] | None = None


class ControlPlane:
    """An ADS server on 127.0.0.1.

    token: the one value that ``authorization`` must have, None: not looked at. tls: (private key, certificate chain),
    both PEM. dataplanes: node ids that exist without ``dataplane.resource``; None: all do. silent: kinds of stream
    that are taken and never answered. first_delay: seconds before the first response. nack_resend: seconds after
    which SotW repeats what was NACKed. linger: seconds for which an ended stream still counts as active. auto: take
    the next step when the last was ACKed.
    """

    def __init__(
        self,
        *recordings: Recording,
        port: int = 0,
        token: str | None = None,
        tls: tuple[bytes, bytes] | None = None,
        dataplanes: set[str] | None = None,
        silent: frozenset[str] = frozenset(),
        first_delay: float = 0.0,
        nack_resend: float = 5.0,
        linger: float = 0.0,
        auto: bool = False,
    ) -> None:
        self.port = port
        self.token = token
        self.dataplanes = dataplanes
        self.silent = silent
        self.first_delay = first_delay
        self.nack_resend = nack_resend
        self.linger = linger
        self.auto = auto
        self.refusals: deque[tuple[grpc.StatusCode, str]] = deque()
        self.refuse_always: tuple[grpc.StatusCode, str] | None = None
        self.deleted: set[str] = set()
        """Node ids whose Dataplane is gone: their streams stay open and nothing more comes on them."""
        self.quiet_when_current = False
        """SotW: say nothing to a stream that begins with the current version (go-control-plane's cache does so)."""
        self.streams: list[Stream] = []
        self.violations: list[str] = []
        self.meshes: dict[str, Mesh] = {}
        for recording in recordings:
            self.meshes[recording.node_id.partition(".")[0]] = Mesh(list(recording.steps), 0)
        self._tls = tls
        self._active: dict[str, Stream] = {}
        self._endings: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Condition()
        self._server: aio.Server | None = None

    # --- its life

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen; after ``stop`` on the same port again."""
        self._server = aio.server(
            options=(
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
                ("grpc.http2.min_ping_interval_without_data_ms", 10),
                ("grpc.keepalive_permit_without_calls", 1),
            )
        )
        handlers: dict[str, Any] = {
            "StreamAggregatedResources": grpc.stream_stream_rpc_method_handler(self._sotw),
            "DeltaAggregatedResources": grpc.stream_stream_rpc_method_handler(self._delta),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        if self._tls is None:
            self.port = self._server.add_insecure_port(self.address)
        else:
            key, chain = self._tls
            self.port = self._server.add_secure_port(self.address, grpc.ssl_server_credentials([(key, chain)]))
        await self._server.start()

    async def stop(self, grace: float | None = None) -> None:
        """Stop listening. grace None: cut every stream, else GOAWAY and that many seconds for them."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop(grace)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end_streams()
        await self.stop()

    # --- what it is told to do

    async def play(self, step: Any, mesh: str = "default") -> None:
        """Let *step* (a discovery response) happen after all others, now."""
        self.meshes.setdefault(mesh, Mesh()).steps.append(step)
        await self.advance(mesh)

    async def advance(self, mesh: str = "default") -> None:
        """Let the next step happen."""
        self.meshes[mesh].position += 1
        await self._notify()

    async def send_out_of_turn(self, message: bytes) -> None:
        """Send these octets on every open stream, whatever they are."""
        for stream in self.open_streams():
            stream.out_of_turn.append(message)
        await self._notify()

    async def end_streams(self, code: grpc.StatusCode = grpc.StatusCode.OK, text: str = "") -> None:
        """End every open stream; OK is what kuma-cp does on SIGTERM."""
        ended = self.open_streams()  # a client opens the next one at once
        for stream in ended:
            stream.ending = (code, text)
        await self._notify()
        await self.until(lambda: not any(stream.open for stream in ended))

    def restart_empty(self, *steps: Any, mesh: str = "default") -> None:
        """Forget the mesh; *steps* are to come, the first of them has happened."""
        self.meshes[mesh] = Mesh(list(steps), 0)

    # --- what it saw

    def open_streams(self) -> list[Stream]:
        """Streams that live."""
        return [stream for stream in self.streams if stream.open]

    @property
    def last(self) -> Stream:
        """The stream opened last."""
        return self.streams[-1]

    async def until(self, condition: Callable[[], bool], seconds: float = 30.0) -> None:
        """Wait until *condition* holds; raises TimeoutError."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(condition)

    async def acked(self, count: int) -> None:
        """Wait until *count* responses of the last stream were ACKed."""
        await self.until(lambda: len(self.last.acks) >= count)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    # --- the streams

    async def _sotw(self, requests: AsyncIterator[bytes], context: Any) -> None:
        await self._stream("sotw", requests, context)

    async def _delta(self, requests: AsyncIterator[bytes], context: Any) -> None:
        await self._stream("delta", requests, context)

    async def _stream(self, mode: Mode, requests: AsyncIterator[bytes], context: Any) -> None:
        stream = Stream(mode)
        self.streams.append(stream)
        reader: asyncio.Task[None] | None = None
        try:
            iterator = aiter(requests)
            try:
                octets = await anext(iterator)
            except StopAsyncIteration:
                return
            self._open(stream, octets)
            await self._notify()
            refusal = self._refusal(stream, context)
            if refusal is not None:
                stream.open = False
                await self._notify()
                await context.abort(*refusal)
            self._active[stream.node_id] = stream
            reader = asyncio.create_task(self._read(stream, iterator))
            await self._play(stream, context, reader)
        finally:
            # gRPC cancels this task when the client is gone, here as well: first what must happen, then what waits
            stream.open = False
            if self.linger:
                asyncio.get_running_loop().call_later(self.linger, self._release, stream)
            else:
                self._release(stream)
            self._endings = {task for task in self._endings if not task.done()}
            self._endings.add(asyncio.create_task(self._end(reader)))

    async def _end(self, reader: asyncio.Task[None] | None) -> None:
        """Tell who waits for the end of a stream, whose *reader* is of no use any more."""
        if reader is not None:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
        await self._notify()

    def _release(self, stream: Stream) -> None:
        if self._active.get(stream.node_id) is stream:
            del self._active[stream.node_id]

    def _open(self, stream: Stream, octets: bytes) -> None:
        request = _request(stream.mode, octets)
        stream.node_id = request.node.id
        fields = request.node.metadata
        stream.metadata = {key: fields[key] for key in fields if isinstance(fields[key], str)}
        stream.features = tuple(fields["features"]) if "features" in fields else ()
        stream.resource = stream.metadata.get("dataplane.resource", "")
        if request.response_nonce:
            self.violations.append("the first request of a stream carries a nonce")
        if request.type_url != LISTENER:
            self.violations.append(f"subscribed to {request.type_url}")
        for key in ("version", "dataplane.proxyType", "dataplane.dns.port", "transparentProxy", "workdir"):
            if key not in fields:
                self.violations.append(f"node metadata lacks {key}")
        if stream.mode == "delta":
            stream.claimed = dict(request.initial_resource_versions)
        else:
            stream.version = request.version_info

    def _refusal(self, stream: Stream, context: Any) -> tuple[grpc.StatusCode, str] | None:
        unknown = grpc.StatusCode.UNKNOWN
        if self.refuse_always is not None:
            return self.refuse_always
        if self.refusals:
            return self.refusals.popleft()
        if self.token is not None:
            values = [value for key, value in context.invocation_metadata() if key == "authorization"]
            if len(values) != 1:
                return unknown, HEADERS.format(len(values))
            if values[0] != self.token:
                return unknown, NO_TOKEN
        mesh, dot, _ = stream.node_id.partition(".")
        if not dot:
            return unknown, "request must have a valid Proxy ID: the name should be provided after the dot"
        if mesh not in self.meshes or (
            not stream.resource and self.dataplanes is not None and stream.node_id not in self.dataplanes
        ):
            return unknown, NOT_FOUND.format(stream.node_id)
        if stream.node_id in self._active:
            return unknown, SECOND_STREAM
        return None

    async def _read(self, stream: Stream, requests: AsyncIterator[bytes]) -> None:
        async for octets in requests:
            request = _request(stream.mode, octets)
            if request.node.id != stream.node_id:
                self.violations.append(f"a {stream.mode} request names the node {request.node.id!r}")
            if request.response_nonce != str(stream.sent):
                self.violations.append(f"nonce {request.response_nonce!r} answers response {stream.sent}")
            if request.HasField("error_detail"):
                stream.nacks.append((request.response_nonce, request.error_detail.message))
                if stream.mode == "sotw":
                    asyncio.get_running_loop().call_later(self.nack_resend, self._resend, stream)
            else:
                stream.acks.append(request.response_nonce)
                mesh = self.meshes[stream.node_id.partition(".")[0]]
                if self.auto and mesh.position + 1 < len(mesh.steps):
                    mesh.position += 1
            stream.outstanding = False
            await self._notify()

    def _resend(self, stream: Stream) -> None:
        stream.resend = True
        self._task = asyncio.ensure_future(self._notify())

    async def _play(self, stream: Stream, context: Any, reader: asyncio.Task[None]) -> None:
        if self.first_delay:
            await asyncio.sleep(self.first_delay)
        reader.add_done_callback(lambda _: asyncio.ensure_future(self._notify()))

        def ready() -> bool:
            return bool(
                stream.ending or stream.out_of_turn or reader.done() or (not stream.outstanding and self._due(stream))
            )

        while True:
            async with self._changed:
                await self._changed.wait_for(ready)
            if stream.ending is not None:
                code, text = stream.ending
                if code is grpc.StatusCode.OK:
                    return
                await context.abort(code, text)
            if stream.out_of_turn:
                await context.write(stream.out_of_turn.popleft())
                continue
            if reader.done():
                stream.finished = True
                return
            response = self._next(stream)
            stream.sent += 1
            response.nonce = str(stream.sent)
            stream.outstanding = True
            await context.write(response.SerializeToString())
            await self._notify()

    def _mesh(self, stream: Stream) -> Mesh:
        return self.meshes[stream.node_id.partition(".")[0]]

    def _due(self, stream: Stream) -> bool:
        """A push is due: nothing was sent yet, a step has happened, or a NACK is over."""
        mesh = self._mesh(stream)
        if stream.mode in self.silent or mesh.position < 0:
            return False
        if stream.node_id in self.deleted and stream.position is not None:
            return False
        if stream.position is None and stream.mode == "sotw" and self.quiet_when_current:
            return bool(stream.version != mesh.steps[mesh.position].version_info)
        return stream.resend or stream.position is None or stream.position < mesh.position

    def _next(self, stream: Stream) -> Any:
        mesh = self._mesh(stream)
        resend, stream.resend = stream.resend, False
        if stream.mode == "sotw":
            stream.position = mesh.position
            return _copy(mesh.steps[mesh.position])
        if stream.position is None and (mesh.position > 0 or stream.claimed):
            stream.position = mesh.position
            return self._difference(mesh, stream.claimed)
        stream.position = 0 if stream.position is None else stream.position + (0 if resend else 1)
        return _copy(mesh.steps[stream.position])

    @staticmethod
    def _difference(mesh: Mesh, claimed: Mapping[str, str]) -> Any:
        """What a client that claims *claimed* lacks: nothing at all is one empty response."""
        step = mesh.steps[mesh.position]
        response = DeltaDiscoveryResponse(system_version_info=step.system_version_info, type_url=LISTENER)
        held = mesh.resources()
        for name, (version, any_) in held.items():
            if claimed.get(name) != version:
                response.resources.add(name=name, version=version).resource.CopyFrom(any_)
        response.removed_resources.extend(name for name in claimed if name not in held)
        return response


class Relay:
    """A TCP relay in front of a server, to cut connections or to fall silent as a vanished machine does."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._silent = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        """Where it listens."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return f"127.0.0.1:{port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Abort every connection (RST)."""
        for writer in self._writers:
            writer.transport.abort()

    def fall_silent(self) -> None:
        """Carry nothing more on what is connected now; connections stay open."""
        self._silent = True

    def speak(self) -> None:
        """Carry new connections again; those that fell silent stay so."""
        self._silent = False

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        far_writer: asyncio.StreamWriter | None = None
        with contextlib.suppress(OSError, asyncio.CancelledError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(far_writer)
            mute = asyncio.Event()
            await asyncio.gather(self._carry(reader, far_writer, mute), self._carry(far_reader, writer, mute))
        for one in (writer, far_writer):
            if one is not None:
                one.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, mute: asyncio.Event) -> None:
        while octets := await reader.read(65536):
            if self._silent:
                mute.set()
            if not mute.is_set():
                writer.write(octets)
                await writer.drain()
        if not (self._silent or mute.is_set()):  # nor does a vanished machine say that it goes
            writer.close()


def _request(mode: Mode, octets: bytes) -> Any:
    return DiscoveryRequest.FromString(octets) if mode == "sotw" else DeltaDiscoveryRequest.FromString(octets)


def _copy(message: Any) -> Any:
    return type(message).FromString(message.SerializeToString())


def _hash(any_: Any) -> str:
    return hashlib.sha256(any_.value).hexdigest()
