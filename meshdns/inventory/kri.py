"""KRI: the resource identifiers of Kuma's new generation.

``kri_<kind>_<mesh>_<zone>_<namespace>_<name>_<section>``. They name listeners and clusters since 3.0 (before:
with unified naming, or beside the old name in metadata). Only the section may hold an underscore; zone,
namespace and section may be empty.
"""

from dataclasses import dataclass, replace

PREFIX = "kri_"


@dataclass(frozen=True, slots=True)
class Kri:
    """One identifier, taken apart.

    kind: short name of the resource type (``msvc``, ``extsvc``, ``mzsvc``, …). section: what inside of the
    resource is meant, for a service its port's name or else number; empty means the resource itself.
    """

    kind: str
    mesh: str
    zone: str
    namespace: str
    name: str
    section: str = ""

    @property
    def resource(self) -> "Kri":
        """The identifier of the whole resource: this one with an empty section."""
        return replace(self, section="")

    def __str__(self) -> str:
        return PREFIX + "_".join((self.kind, self.mesh, self.zone, self.namespace, self.name, self.section))


def parse_kri(text: str) -> Kri | None:
    """Give *text* taken apart, or None if it is no KRI."""
    parts = text.split("_", 6)
    if len(parts) != 7 or parts[0] != "kri" or not parts[1] or not parts[5]:
        return None
    return Kri(*parts[1:])
