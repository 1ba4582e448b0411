"""The instance that a verb is about: its configuration, and its store as one push left it."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from meshdns.config import Config, load_for
from meshdns.errors import StoreError
from meshdns.store.reader import Reader, Snapshot
from meshdns.store.schema import store_path


def configuration(arguments: argparse.Namespace) -> Config:
    """Give the configuration that ``--config`` and ``--data-dir`` mean; raises ConfigError."""
    return load_for(arguments.config, arguments.data_dir)


@contextmanager
def snapshot(config: Config) -> Iterator[Snapshot]:
    """Give the store of *config*'s instance, whether or not it runs; raises StoreError."""
    directory = store_path(config.data_dir)
    if not directory.exists():
        raise StoreError(f"{config.data_dir}: no instance has kept anything here yet (meshdns serve makes the store)")
    reader = Reader(directory)
    try:
        with reader.snapshot() as seen:
            yield seen
    finally:
        reader.close()
