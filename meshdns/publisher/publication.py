"""The ``publisher`` source with its ADS server: what ``serve`` and ``publish`` run."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from pathlib import Path

from meshdns.errors import StoreError
from meshdns.inventory.event import Connected, Disconnected, Noticed, Pushed, SourceEvent
from meshdns.publisher.certificate import read_certificate
from meshdns.publisher.mesh_view import MeshView
from meshdns.publisher.server import AdsServer, ListenError
from meshdns.publisher.settings import PublisherSettings
from meshdns.publisher.source import PublisherSource
from meshdns.publisher.tokens import read_key

log = logging.getLogger(__name__)

RETRY = 2.0
"""Seconds after which listening is tried again."""


class Publication:
    """One mesh, published to our own store (``name`` and ``events`` are those of any source) and to data planes.

    That the server cannot listen costs no name: it is told, and tried again. What data planes refuse is among the
    notices of the last push as long as it stands.
    """

    def __init__(
        self,
        settings: PublisherSettings,
        *,
        data_dir: Path,
        listening: Callable[[str], None] = lambda address: None,
    ) -> None:
        """listening: called with the address when the server listens."""
        self._source = PublisherSource(settings, data_dir=data_dir)
        self._settings = settings
        self._data_dir = data_dir
        self._listening = listening
        self._server: AdsServer | None = None
        self._problem = ""
        self._said = asyncio.Event()

    @property
    def name(self) -> str:
        """The configured name."""
        return self._settings.name

    @property
    def view(self) -> MeshView | None:
        """The mesh as data planes see it now; None until it was read."""
        return self._source.current

    async def start(self) -> None:
        """Listen. Raises ListenError or, for certificate and key, StoreError."""
        key = await asyncio.to_thread(read_key, self._data_dir) if self._settings.tokens else None
        certificate = await asyncio.to_thread(read_certificate, self._settings, self._data_dir)
        server = AdsServer(self._source, certificate=certificate, key=key, told=self._said.set)
        address = await server.start()
        self._server = server
        log.info("source %s: data planes are served at %s", self.name, address)
        self._listening(address)

    async def events(self) -> AsyncGenerator[SourceEvent, None]:
        """Publish until cancelled. Starts the server where ``start`` was not called."""
        serving = asyncio.create_task(self._serve(), name=f"ads {self.name}")
        source = self._source.events()
        step: asyncio.Future[SourceEvent] = asyncio.ensure_future(anext(source))
        said: asyncio.Future[object] = asyncio.create_task(self._said.wait())
        pushed: Pushed | None = None
        heard = False
        try:
            while True:
                either: set[asyncio.Future[object]] = {step, said}  # type: ignore[arg-type]
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if said.done():
                    self._said.clear()
                    said = asyncio.create_task(self._said.wait())
                    if pushed is not None and heard:
                        yield self._with_problems(pushed)
                    elif self._problem:
                        yield Noticed(self._problem)
                if not step.done():
                    continue
                event = step.result()
                step = asyncio.ensure_future(anext(source))
                if isinstance(event, Pushed):
                    pushed = event
                    event = self._with_problems(event)
                elif isinstance(event, Connected | Disconnected):
                    heard = isinstance(event, Connected)
                yield event
        finally:
            for task in (step, said, serving):
                task.cancel()
            await asyncio.gather(step, said, serving, return_exceptions=True)
            if isinstance(source, AsyncGenerator):
                await source.aclose()
            if self._server is not None:
                server, self._server = self._server, None
                await server.stop()

    def close(self) -> None:
        """Let go of the kept VIPs; ``events`` must have been ended."""
        self._source.close()

    async def _serve(self) -> None:
        while self._server is None:
            try:
                await self.start()
                problem = ""
            except (ListenError, StoreError) as error:
                problem = f"data planes are not served: {error}"
            except Exception as error:  # names go on, whatever this is
                log.exception("source %s: a fault of meshdns, please report it", self.name)
                problem = f"data planes are not served: a fault of meshdns: {error!r}"
            if problem != self._problem:
                self._problem = problem
                self._said.set()
            if problem:
                await asyncio.sleep(RETRY)

    def _with_problems(self, pushed: Pushed) -> Pushed:
        refusals = self._server.refusals if self._server is not None else ()
        problems = (self._problem, *refusals) if self._problem else refusals
        return replace(pushed, notices=(*problems, *pushed.notices)) if problems else pushed
