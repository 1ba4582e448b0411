"""``meshdns publish``: the control plane without DNS; ``meshdns publish token``: let a data plane in."""

import argparse
import asyncio
import signal
import sys
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from meshdns import log as logs
from meshdns.cli.instance import configuration
from meshdns.cli.publisher import add_data_plane, publisher_settings, token_for
from meshdns.config import Config
from meshdns.errors import StoreError
from meshdns.inventory.event import Disconnected, Noticed, Pushed
from meshdns.publisher.settings import PublisherSettings

if TYPE_CHECKING:
    from meshdns.publisher.publication import Publication


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb takes."""
    what = parser.add_subparsers(metavar="[token]", dest="what")
    token = what.add_parser("token", help="print a token for a data plane", allow_abbrev=False)
    token.set_defaults(what="token")
    add_data_plane(token)
    # the instance may also be named behind the word; what is not given there must not undo what is before it
    token.add_argument("--config", type=Path, metavar="FILE", default=argparse.SUPPRESS)
    token.add_argument("--data-dir", type=Path, metavar="DIR", default=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Print a token, or publish until told to end: 3 when the directory or the address is in use."""
    config = configuration(arguments)
    if arguments.what == "token":
        settings = publisher_settings(config, arguments, arguments.mesh)
        print(token_for(config, settings, arguments.name, arguments.valid_for))
        return 0
    return _publish(config, publisher_settings(config, arguments))


def _publish(config: Config, settings: PublisherSettings) -> int:
    from meshdns.cli.main import IN_USE, USAGE  # noqa: PLC0415 - it imports us
    from meshdns.processes.lock import DirectoryError, DirectoryLock, InUseError  # noqa: PLC0415
    from meshdns.publisher.server import ListenError  # noqa: PLC0415 - loads gRPC

    logs.setup(config.log_level)
    try:
        lock = DirectoryLock(config.data_dir)
    except (InUseError, DirectoryError) as fault:
        print(f"meshdns: {fault}", file=sys.stderr)
        return IN_USE if isinstance(fault, InUseError) else USAGE
    try:
        return asyncio.run(_run(config, settings))
    except ListenError as fault:
        print(f"meshdns: {fault}", file=sys.stderr)
        return IN_USE
    except StoreError as fault:
        print(f"meshdns: {fault}", file=sys.stderr)
        return USAGE
    finally:
        lock.close()


async def _run(config: Config, settings: PublisherSettings) -> int:
    from meshdns.publisher.publication import Publication  # noqa: PLC0415 - loads gRPC

    addresses: list[str] = []
    publication = Publication(settings, data_dir=config.data_dir, listening=addresses.append)
    await publication.start()
    following = asyncio.create_task(_follow(publication, addresses[0]))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, following.cancel)
    try:
        await following
    except asyncio.CancelledError:
        pass
    finally:
        publication.close()
    return 0


async def _follow(publication: "Publication", address: str) -> None:
    ready = False
    told: tuple[str, ...] = ()
    async with aclosing(publication.events()) as events:
        async for event in events:
            lines: tuple[str, ...] = ()
            if isinstance(event, Pushed):
                lines = (*event.skipped, *event.notices)
                if not ready:
                    print(f"ready publish={address} names={len(event.table.records)}", file=sys.stderr, flush=True)
                    ready = True
            elif isinstance(event, Disconnected):
                lines = (event.reason,)
            elif isinstance(event, Noticed):
                lines = (event.problem,)
            else:
                continue
            for line in lines:
                if line not in told:
                    print(f"meshdns: {line}", file=sys.stderr, flush=True)
            told = lines
