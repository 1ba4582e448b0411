"""The ``publisher`` source of an instance, for the verbs that are about it."""

import argparse
import re
import time

from meshdns.config import Config
from meshdns.errors import ConfigError, Fault
from meshdns.publisher.settings import PublisherSettings
from meshdns.publisher.tokens import Token, read_key, sign

_SPAN = re.compile(r"([1-9][0-9]{0,5})([hd])\Z")


def publisher_settings(config: Config, arguments: argparse.Namespace, mesh: str | None = None) -> PublisherSettings:
    """Give the settings of the publisher of *config*; raises ConfigError when it has none, or none of *mesh*."""
    path = str(arguments.config or "the configuration")
    for settings in config.sources:
        if isinstance(settings, PublisherSettings):
            if mesh is not None and mesh != settings.mesh:
                problem = f"publishes mesh {settings.mesh!r}, not {mesh!r}"
                raise ConfigError(path, (Fault(f"source {settings.name}", problem),))
            return settings
    problem = "none is of type publisher; add {name: own, type: publisher, path: mesh/}"
    raise ConfigError(path, (Fault("sources", problem),))


def add_data_plane(parser: argparse.ArgumentParser) -> None:
    """Take a data plane, and for how long its token is valid."""
    parser.add_argument("--mesh", help="its mesh (default: the one that is published)")
    parser.add_argument("--name", required=True, help="the name of its Dataplane")
    parser.add_argument(
        "--valid-for", type=_span, default=_span("365d"), metavar="SPAN", help="of its token: 12h, 30d (default: 365d)"
    )


def token_for(config: Config, settings: PublisherSettings, name: str, seconds: int) -> str:
    """Give a token of data plane *name*, valid for *seconds*; raises StoreError."""
    now = time.time()
    return sign(Token(settings.mesh, name, int(now) + seconds), read_key(config.data_dir), now=now)


def _span(text: str) -> int:
    match = _SPAN.match(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"must be hours or days such as 12h or 30d, not {text[:60]!r}")
    return int(match[1]) * (3600 if match[2] == "h" else 86400)
