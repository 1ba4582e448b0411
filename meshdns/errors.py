"""Errors, by who is at fault: the client, the control plane, an upstream, the operator, or the disk.

Each message names the thing at fault (a packet's defect, a resource, a key, a file, a peer). Foreign exceptions
are translated once, in the room that owns the library they come from.
"""

from dataclasses import dataclass, field


class MeshdnsError(Exception):
    """Anything that meshdns raises on purpose."""


class FormatError(MeshdnsError):
    """The client sent bytes that are not a query we can read (RFC 1035 §4)."""


class ResourceError(MeshdnsError):
    """A control plane or a records file gave something unusable; the message names the resource."""


class UpstreamError(MeshdnsError):
    """Another DNS server did not give a usable reply; the message names the server."""


class StoreError(MeshdnsError):
    """The store cannot be opened, read or written; the message names its directory."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong in a configuration: the key (``sources[1].path``) and what is wrong with it.

    line: in the file, from 1, where known; it takes no part in equality.
    """

    key: str
    problem: str
    line: int | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.key}: {self.problem}" if self.key else self.problem

    def at(self, path: str) -> str:
        """Give the fault as one line that begins with the place: ``meshdns.yaml:12: zones[0]: …``."""
        return f"{path}: {self}" if self.line is None else f"{path}:{self.line}: {self}"


class ConfigError(MeshdnsError):
    """The operator's configuration is unusable; holds every fault found, not only the first."""

    def __init__(self, path: str, faults: tuple[Fault, ...]) -> None:
        self.path = path
        self.faults = faults
        super().__init__("\n".join(fault.at(path) for fault in faults))
