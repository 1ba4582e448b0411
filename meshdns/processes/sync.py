"""The push street's process: every source's tables into the store, whose only writer it is.

Executed afresh by the supervisor (``python -m meshdns.processes.sync --config FD --lifeline FD``), because gRPC has
threads and must not be forked. What goes wrong with one source stays with it.
"""

import argparse
import asyncio
import logging
import os
import selectors
import time
from collections.abc import MutableSequence, Sequence

from meshdns import log as logs
from meshdns.config import Config, SourceSettings
from meshdns.errors import StoreError
from meshdns.inventory.event import Pushed, Source
from meshdns.processes.child import FINISH, listen_to_signals
from meshdns.processes.intake import Intake
from meshdns.processes.lifeline import follow
from meshdns.processes.restarts import EXIT_STORE_DAMAGED, FIRST_DELAY, Streak
from meshdns.processes.spare_memory import give_back
from meshdns.processes.status import SourceState
from meshdns.processes.status_file import Number, StatusWriter, directory
from meshdns.publisher.settings import PublisherSettings
from meshdns.sources.settings import FileSettings, KumaDpSettings
from meshdns.store import integrity
from meshdns.store.schema import store_path
from meshdns.store.writer import Writer

log = logging.getLogger("meshdns.processes.sync")  # not __name__: that is __main__

TICK = 1.0
"""Seconds between heartbeats, ends of holds and attempts to store what could not be stored."""

NICE = 3
"""By how much less than responders ``sync`` counts when there is not enough of a core for both."""

LARGE = 20_000
"""Names of a push from which on the memory that it needed is given back."""

SETTLED = 0.25
"""Seconds after a large push until the memory that it needed is given back: its source lets go of it meanwhile."""

LONGEST_WAIT = 30.0
"""Seconds between two attempts to open a store that cannot be opened (disk full, no right)."""


def make_sources(config: Config) -> tuple[Source, ...]:
    """Give the configured sources in order of precedence.

    What a kind of source needs is loaded with the first of its kind: gRPC and Envoy's messages alone are a third of
    this process's memory, which a sidecar of kuma-dp would hold for nothing.
    """
    return tuple(_make_source(settings, config) for settings in config.sources)


def _make_source(settings: SourceSettings, config: Config) -> Source:
    match settings:
        case FileSettings():
            from meshdns.sources.file import FileSource  # noqa: PLC0415

            return FileSource(settings)
        case KumaDpSettings():
            from meshdns.sources.kuma_dp import KumaDpSource  # noqa: PLC0415

            return KumaDpSource(settings)
        case PublisherSettings():
            from meshdns.publisher.publication import Publication  # noqa: PLC0415

            return Publication(settings, data_dir=config.data_dir)
        case _:
            from meshdns.xds.client import KumaSource  # noqa: PLC0415

            return KumaSource(settings, zones=config.zones, memory=config.data_dir)


class Sync:
    """Follows every source until told to finish."""

    def __init__(
        self, config: Config, sources: Sequence[Source], writer: Writer, status: StatusWriter, handler: logs.LineHandler
    ) -> None:
        self._sources = sources
        self._writer = writer
        self._status = status
        self._handler = handler
        kinds = {settings.name: settings.type for settings in config.sources}
        self._intakes = {source.name: Intake(source.name, kinds[source.name], writer) for source in sources}
        self._document: object = None
        self._giving_back: asyncio.TimerHandle | None = None

    async def run(self, finish: asyncio.Event) -> None:
        """Follow the sources until *finish* is set."""
        tasks = [asyncio.create_task(self._follow(source), name=f"source {source.name}") for source in self._sources]
        tasks.append(asyncio.create_task(self._beat(), name="heartbeat"))
        try:
            await finish.wait()
        finally:
            if self._giving_back is not None:
                self._giving_back.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, source: Source) -> None:
        """Hand on what *source* says. That its events end, or raise, is a fault of ours: told, and begun again."""
        intake, streak = self._intakes[source.name], Streak()
        while True:
            began = time.monotonic()
            try:
                async for event in source.events():
                    intake.take(event)
                    if isinstance(event, Pushed) and len(event.table.records) >= LARGE:
                        self._give_back_soon()
                    del event  # with its table
                    self._tell()
                problem = "its events ended, which they never should"
                log.error("source %s: %s; begun again", source.name, problem)
            except Exception as fault:
                problem = f"a fault of meshdns: {fault!r}"
                log.exception("source %s: a fault of meshdns, please report it; begun again", source.name)
            intake.disconnected(problem)
            self._tell()
            await asyncio.sleep(max(FIRST_DELAY, streak.died(time.monotonic() - began)))

    def _give_back_soon(self) -> None:
        if self._giving_back is not None:
            self._giving_back.cancel()
        self._giving_back = asyncio.get_running_loop().call_later(SETTLED, self._give_back)

    def _give_back(self) -> None:
        with self._writer.closed_for_now():  # opened again last: what that makes is small, and would be in the way
            give_back()

    async def _beat(self) -> None:
        while True:
            try:
                self._tick()
            except Exception:  # a heartbeat that stops would have the process killed, for whatever this was
                log.exception("a fault of meshdns, please report it")
            await asyncio.sleep(TICK)

    def _tick(self) -> None:
        self._status.beat()
        try:
            for push in self._writer.tick():
                self._intakes[push.source].ended_holds(push)
        except StoreError as fault:
            log.error("names whose hold is over could not be removed, tried again: %s", fault)
        for intake in self._intakes.values():
            intake.tick()
        self._tell()
        self._handler.tell_left_out()

    def _tell(self) -> None:
        self._status.row[Number.GENERATION] = self._writer.generation
        self._status.row[Number.NAMES] = self._writer.names_count()
        document = {"sources": [intake.state.to_document() for intake in self._intakes.values()]}
        if document != self._document:
            self._status.write(document)
            self._document = document


class TellingSelector(selectors.DefaultSelector):
    """The selector of an event loop that says in *row* since when the process works, or that it waits."""

    def __init__(self, row: MutableSequence[int]) -> None:
        super().__init__()
        self._row = row

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait as any selector does."""
        self._row[Number.WORKS_SINCE] = 0
        try:
            return super().select(timeout)
        finally:
            self._row[Number.WORKS_SINCE] = int(time.monotonic() * 1000)


async def run(config: Config, handler: logs.LineHandler, status: StatusWriter) -> int:
    """Be the push street's process; give its exit code."""
    finish = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(FINISH, finish.set)
    if status.hidden:
        log.warning("the state of the sources cannot be shown: %s", status.hidden)
    unheard = [SourceState(settings.name, settings.type) for settings in config.sources]
    status.write({"sources": [state.to_document() for state in unheard]})
    opened = await _open(config, finish)
    if isinstance(opened, int):
        return opened
    try:
        await Sync(config, make_sources(config), opened, status, handler).run(finish)
    finally:
        opened.close()
    return 0


async def _open(config: Config, finish: asyncio.Event) -> Writer | int:
    """Open the store, as often as it takes; or give an exit code: told to finish, or the store is damaged."""
    path, wait = store_path(config.data_dir), 1.0
    while not finish.is_set():
        try:
            return Writer(
                path,
                rules=config.rules(),
                sources=[settings.name for settings in config.sources],
                shrink_hold=config.shrink_hold,
            )
        except StoreError as fault:
            log.error("%s; tried again in %g s", fault, wait)
        if integrity.verify(path).condition is integrity.Condition.DAMAGED:
            return EXIT_STORE_DAMAGED
        try:
            async with asyncio.timeout(wait):
                await finish.wait()
        except TimeoutError:
            wait = min(wait * 2, LONGEST_WAIT)
    return 0


def give_way() -> None:
    """Let the responders go first where they share a core with this process: a push may wait, a query does not.

    At half their weight a third of a flooded core is left to a push, and as a batch job it never interrupts a responder
    that was just woken by a query.
    """
    try:
        os.nice(NICE)
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except (OSError, AttributeError) as error:  # forbidden by a sandbox, or not Linux
        log.debug("sync keeps the priority that it was given: %s", error)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the configuration that the supervisor hands over, and run."""
    parser = argparse.ArgumentParser(prog="meshdns.processes.sync")
    parser.add_argument("--lifeline", type=int, required=True, help="a pipe whose end is ours")
    parser.add_argument("--config", type=int, required=True, help="a descriptor to read the configuration from")
    given = parser.parse_args(arguments)
    follow(given.lifeline)
    give_way()
    listen_to_signals()
    with open(given.config, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        config = Config.model_validate_json(file.read())
    handler = logs.setup(config.log_level)
    status = StatusWriter(directory(config.data_dir) / "sync")
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(TellingSelector(status.row))) as runner:
        return runner.run(run(config, handler, status))


if __name__ == "__main__":
    raise SystemExit(main())
