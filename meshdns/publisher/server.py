"""The ADS server: a gRPC stream for each data plane, both variants of xDS. The only place here that touches gRPC."""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_address
from typing import Any

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # read at import: the C core's own lines say less than ours

import grpc
from grpc import aio

from meshdns.errors import MeshdnsError, ResourceError
from meshdns.publisher.certificate import Certificate
from meshdns.publisher.gate import SECOND_STREAM, check_mesh, check_token, not_found
from meshdns.publisher.mesh_view import MeshView
from meshdns.publisher.node import Node, read_node
from meshdns.publisher.resources.discovery import Hail, decode_request, encode_response
from meshdns.publisher.session import Protocol, Refusal, Session
from meshdns.publisher.snapshot import Snapshot, build_snapshot
from meshdns.publisher.source import PublisherSource

log = logging.getLogger(__name__)

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
METHODS: Mapping[str, Protocol] = {"StreamAggregatedResources": "sotw", "DeltaAggregatedResources": "delta"}

JOIN_PATIENCE = 10.0
"""Seconds in which a Dataplane that a node brought along must be published."""

FAREWELL = 1.0
"""Seconds that streams have to end in good order when the server stops."""

RECEIVE_LIMIT = 16 << 20

_OPTIONS = (
    # clients may ping when they are silent, as often as Kuma's do; otherwise gRPC ends them with too_many_pings
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # a client that is gone without a word holds its Dataplane's only stream: ask whether it is there
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),  # without it the line above has no effect, and 60 s hold
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", RECEIVE_LIMIT),
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),  # otherwise a second server would share the port in silence
)


class ListenError(MeshdnsError):
    """The server cannot listen where it should; the message names the address."""


class AdsServer:
    """Serves what *source* publishes to the data planes of its mesh.

    certificate: None for plaintext. key: of tokens, None where none are asked for. told: called when what the data
    planes refuse has changed. build: what a node is sent of a view. clock: monotonic seconds, wall: unix seconds.
    """

    def __init__(
        self,
        source: PublisherSource,
        *,
        certificate: Certificate | None,
        key: bytes | None,
        told: Callable[[], None] = lambda: None,
        build: Callable[[MeshView, Node], Snapshot] = build_snapshot,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._source = source
        self._certificate = certificate
        self._key = key
        self._told = told
        self._build = build
        self._clock = clock
        self._wall = wall
        self._server: aio.Server | None = None
        self._streams: dict[tuple[str, str], _Stream] = {}

    @property
    def data_planes(self) -> tuple[str, ...]:
        """The names of those that are connected."""
        return tuple(name for _, name in self._streams)

    @property
    def refusals(self) -> tuple[str, ...]:
        """A line for each resource that a connected data plane refuses."""
        return tuple(
            f"data plane {name} refuses {refusal}"
            for (_, name), stream in sorted(self._streams.items())
            for refusal in stream.refusals
        )

    async def start(self) -> str:
        """Listen; give the address with its port. Raises ListenError."""
        host, port = self._source.settings.listen_host, self._source.settings.listen_port
        host = f"[{host}]" if ip_address(host).version == 6 else host
        server = aio.server(options=_OPTIONS)
        handlers: dict[str, Any] = {
            method: grpc.stream_stream_rpc_method_handler(self._handler(protocol))
            for method, protocol in METHODS.items()
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        try:
            if self._certificate is None:
                port = server.add_insecure_port(f"{host}:{port}")
            else:
                pair = (self._certificate.key, self._certificate.chain)
                port = server.add_secure_port(f"{host}:{port}", grpc.ssl_server_credentials([pair]))
        except RuntimeError:
            await server.stop(None)
            raise ListenError(
                f"cannot listen on {host}:{port}: it is in use, or not an address of this machine"
            ) from None
        await server.start()
        self._server = server
        return f"{host}:{port}"

    async def stop(self) -> None:
        """End every stream in good order, so that its data plane comes back by itself."""
        for stream in self._streams.values():
            stream.end()
        if self._server is not None:
            await self._server.stop(FAREWELL)

    def _handler(self, protocol: Protocol) -> Callable[[Any, Any], Awaitable[None]]:
        async def handle(_: Any, context: Any) -> None:
            await self._handle(context, protocol)

        return handle

    async def _handle(self, context: Any, protocol: Protocol) -> None:
        """Serve one stream. Everything that is refused is refused as kuma-cp does it: UNKNOWN, and a text."""
        try:
            message = await context.read()
            if message is aio.EOF:
                return
            hail = decode_request(message, protocol, first=True)
            node = read_node(hail.node_id, hail.metadata)
            values = [value for name, value in context.invocation_metadata() or () if name == "authorization"]
            texts = [value if isinstance(value, str) else value.decode("latin-1") for value in values]
            check_token(node, texts, self._key, now=self._wall())
            place = (node.mesh, node.dataplane)
            if place in self._streams:
                raise ResourceError(SECOND_STREAM)
            stream = _Stream(
                context, protocol, node, source=self._source, build=self._build, told=self._told, clock=self._clock
            )
            self._streams[place] = stream
            log.info("data plane %s is connected (%s)", node.dataplane, protocol)
            try:
                await stream.run(hail)
            finally:
                del self._streams[place]
                log.info("data plane %s is not connected any more", node.dataplane)
                if stream.refusals:
                    self._told()
        except ResourceError as refusal:
            log.info("a data plane at %s is refused: %s", context.peer(), refusal)
            await context.abort(grpc.StatusCode.UNKNOWN, str(refusal))


class _Stream:
    """A data plane that is connected."""

    def __init__(
        self,
        context: Any,
        protocol: Protocol,
        node: Node,
        *,
        source: PublisherSource,
        build: Callable[[MeshView, Node], Snapshot],
        told: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._context = context
        self._protocol: Protocol = protocol
        self._node = node
        self._source = source
        self._build = build
        self._told = told
        self._clock = clock
        self._wake = asyncio.Event()
        self._ended = False
        self._joined = False
        self.refusals: tuple[Refusal, ...] = ()

    def end(self) -> None:
        """End it in good order."""
        self._ended = True
        self._wake.set()

    async def run(self, hail: Hail) -> None:
        """Serve until the data plane or ``end`` ends it; *hail* is its first request. Raises ResourceError."""
        try:
            view = await self._admit()
            session = Session(self._protocol, await asyncio.to_thread(self._build, view, self._node))
            self._receive(session, hail)
            tasks = [asyncio.create_task(self._read(session)), asyncio.create_task(self._watch(session, view))]
            try:
                while not self._ended:
                    self._wake.clear()
                    await self._send(session)
                    await self._pause(session)
                for task in tasks:
                    if task.done():
                        task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            if self._joined:
                self._source.leave(self._node.dataplane)

    async def _admit(self) -> MeshView:
        """Give the view that the node may see; raises ResourceError where there is none for it."""
        view = await self._source.changed(None)
        check_mesh(self._node, view)
        if self._node.resource:
            self._source.join(self._node.resource, self._node.mesh, self._node.dataplane)
            self._joined = True
            try:
                async with asyncio.timeout(JOIN_PATIENCE):
                    while self._node.dataplane not in view.dataplanes:
                        view = await self._source.changed(view)
            except TimeoutError:
                pass
        if self._node.dataplane not in view.dataplanes:
            raise not_found(self._node)
        return view

    async def _read(self, session: Session) -> None:
        try:
            while (message := await self._context.read()) is not aio.EOF:
                hail = decode_request(message, self._protocol, first=False)
                if hail.node_id and hail.node_id != f"{self._node.mesh}.{self._node.dataplane}":
                    raise ResourceError(
                        f"the stream of {self._node.mesh}.{self._node.dataplane} cannot become another's"
                    )
                self._receive(session, hail)
                self._wake.set()
        finally:
            self.end()

    async def _watch(self, session: Session, view: MeshView) -> None:
        try:
            while True:
                view = await self._source.changed(view)
                session.offer(await asyncio.to_thread(self._build, view, self._node))
                self._note(session)
                self._wake.set()
        finally:
            self.end()

    def _receive(self, session: Session, hail: Hail) -> None:
        refusal = session.receive(hail.request, self._clock())
        if refusal is not None and refusal not in self.refusals:
            log.warning("data plane %s refuses %s", self._node.dataplane, refusal)
        self._note(session)

    def _note(self, session: Session) -> None:
        if session.refusals != self.refusals:
            self.refusals = session.refusals
            self._told()

    async def _send(self, session: Session) -> None:
        while not self._ended and (response := session.poll(self._clock())) is not None:
            log.debug(
                "data plane %s is sent %s: %d resources, %d removed",
                self._node.dataplane, response.type_url.rpartition(".")[2], len(response.resources),
                len(response.removed),
            )  # fmt: skip
            await self._context.write(encode_response(response, self._protocol))

    async def _pause(self, session: Session) -> None:
        now = self._clock()
        until = session.wakes_at(now)
        try:
            async with asyncio.timeout(None if until is None else until - now):
                await self._wake.wait()
        except TimeoutError:
            pass
