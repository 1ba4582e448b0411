"""What a response means for those who take the events: a table, a confirmation, or something to be noticed."""

from collections.abc import Mapping

from meshdns.inventory.event import Noticed, Unchanged
from meshdns.xds.decode.join import has_table
from meshdns.xds.decode.kuma import Piece
from meshdns.xds.outbox import Snapshot
from meshdns.xds.refusal import clean
from meshdns.xds.session import Received

_SHOWN = 5

NO_TABLE = Noticed(
    "no DNS table: is transparentProxying set on this Dataplane?",
    "set networking.transparentProxying on the Dataplane, or let meshdns register it (register: true); "
    "the last table stays",
)


class Reading:
    """Turns what a session received into events, each said once and not with every push."""

    def __init__(self) -> None:
        self._faults: tuple[str, ...] = ()
        self._unknown_types: set[str] = set()
        self._tableless = False
        self._pushed = False

    def take(
        self, received: Received, pieces: Mapping[str, Piece], version: str
    ) -> list[Noticed | Unchanged | Snapshot]:
        """Give the events of *received*. pieces: all that is held now; version: of the response."""
        if received.unknown_type or not received.requests:
            return self._unknown(received.unknown_type)
        events: list[Noticed | Unchanged | Snapshot] = []
        if not has_table(pieces.values()):
            if not received.faults and (received.first or not self._tableless):
                events.append(NO_TABLE)
            self._tableless, self._pushed = True, False
        else:
            self._tableless = False
            if received.changed or not self._pushed:
                self._pushed = True
                events.append(Snapshot(pieces, version))
            elif not received.faults:
                events.append(Unchanged())
        if received.faults and received.faults != self._faults:
            events.append(_unusable(received.faults))  # after the table, which would make it look mended
        self._faults = received.faults
        return events

    def _unknown(self, type_url: str) -> list[Noticed | Unchanged | Snapshot]:
        if type_url in self._unknown_types or len(self._unknown_types) >= _SHOWN:
            return []
        self._unknown_types.add(type_url)
        return [
            Noticed(
                f"control plane sent resources of a type that was not asked for: {clean(type_url) or 'none'}; ignored"
            )
        ]


def _unusable(faults: tuple[str, ...]) -> Noticed:
    more = f" (and {len(faults) - _SHOWN} more)" if len(faults) > _SHOWN else ""
    return Noticed(
        f"control plane sent {len(faults)} unusable resource{'s' if len(faults) > 1 else ''}, refused with a NACK: "
        f"{'; '.join(faults[:_SHOWN])}{more}",
        "what was known of these before stays; the control plane's log shows the same text",
    )
