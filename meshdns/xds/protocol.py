"""Which of the two variants to speak: nothing but an answer tells, so both are tried and the winner is remembered.

kuma-cp 2.0 to 2.10 takes a delta stream and never answers; 3.0 does the same to SotW; and a large control plane may
need half a minute for its first answer, which looks just the same. So patience grows.
"""

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from meshdns.xds.session import Protocol

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Winner:
    """What a control plane answered to, and the patience (seconds) that it needed."""

    protocol: Protocol
    patience: float


class Choice:
    """Which protocol comes next, and how long to wait for its first answer."""

    def __init__(
        self,
        configured: Literal["auto", "delta", "sotw"],
        *,
        patience: float,
        limit: float,
        winner: Winner | None = None,
    ) -> None:
        self._order: tuple[Protocol, ...]
        if configured != "auto":
            self._order = (configured,)
        elif winner is not None and winner.protocol == "sotw":
            self._order = ("sotw", "delta")
        else:
            self._order = ("delta", "sotw")
        self._limit = limit
        self._patience = patience
        if winner is not None:
            self._patience = min(limit, max(patience, winner.patience))
        self._turn = 0

    @property
    def protocol(self) -> Protocol:
        """To be spoken now."""
        return self._order[self._turn]

    @property
    def patience(self) -> float:
        """Seconds to wait for a first answer; of the whole attempt."""
        return self._patience

    def silent(self) -> None:
        """No answer came: the other one is next; when all have had their turn, with doubled patience."""
        self._turn = (self._turn + 1) % len(self._order)
        if self._turn == 0:
            self._patience = min(self._limit, self._patience * 2)

    def answered(self) -> Winner:
        """An answer came: this protocol is the first to be tried from now on, with the patience it needed."""
        self._order = self._order[self._turn :] + self._order[: self._turn]
        self._turn = 0
        return Winner(self.protocol, self._patience)


class Memory:
    """Where the winner is kept across restarts: one small file for each control plane in *directory*."""

    def __init__(self, directory: Path | None, address: str) -> None:
        self._path = None if directory is None else directory / f"protocol-{quote(address, safe='')}.json"
        self._known: Winner | None = None

    def recall(self) -> Winner | None:
        """Give what was remembered; a file that is missing or damaged is as good as none."""
        if self._path is None:
            return None
        try:
            value = json.loads(self._path.read_bytes())
            protocol, patience = value["protocol"], float(value["patience"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            log.warning("%s cannot be read and is ignored: %s", self._path, error)
            return None
        if protocol not in ("delta", "sotw") or not 0 < patience < float("inf"):
            log.warning("%s holds no protocol and is ignored", self._path)
            return None
        self._known = Winner(protocol, patience)
        return self._known

    def remember(self, winner: Winner) -> None:
        """Keep *winner*. A directory that cannot be written costs a few seconds at the next start, no more."""
        if self._path is None or winner == self._known:
            return
        self._known = winner
        text = json.dumps({"protocol": winner.protocol, "patience": winner.patience})
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh = self._path.with_name(f".{self._path.name}.{os.getpid()}")
            fresh.write_text(text, encoding="ascii")
            fresh.replace(self._path)
        except OSError as error:
            log.warning("%s cannot be written: %s", self._path, error)
