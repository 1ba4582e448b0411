"""What a source tells: a closed set of events, handed down an async iterator (nothing climbs the stairs)."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from meshdns.inventory.record import Table


@dataclass(frozen=True, slots=True)
class Connected:
    """The source can be heard. peer: address or path; detail: e.g. ``delta``."""

    peer: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The source cannot be heard any more (or not yet); what it said before stays valid."""

    reason: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Pushed:
    """The source's whole table, complete and checked.

    version: the source's own word for it. skipped: one line for each thing left out, naming it.
    notices: one line for each thing an operator should know though it was taken.
    """

    table: Table
    version: str = ""
    skipped: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The source confirmed that the last table still holds: its age starts anew, and it has delivered."""


@dataclass(frozen=True, slots=True)
class Noticed:
    """Something an operator must see (an unusable push, a refusal); the table stays as it was."""

    problem: str
    remedy: str = ""


SourceEvent = Connected | Disconnected | Pushed | Unchanged | Noticed


class Source(Protocol):
    """Another way to learn names. ``events`` runs until cancelled and never ends because of bad input."""

    @property
    def name(self) -> str:
        """The configured name, unique in the instance."""

    def events(self) -> AsyncIterator[SourceEvent]:
        """Everything the source says, latest table only: one that was not yet taken is replaced, not queued."""
