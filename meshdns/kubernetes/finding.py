"""What a lint finds: a place, a rule, what is wrong and what to do; and the edit that does it."""

from dataclasses import dataclass, field

import yaml

from meshdns.kubernetes.manifest_nodes import Edit, ManifestFile

RULES = {
    "missing-name": "a Service of type ExternalName without externalName",
    "ip-literal": "an IP address as externalName, which resolvers take for a name",
    "invalid-name": "an externalName that Kubernetes refuses: a URL, a port, a wildcard, a label too long",
    "underscore": "a mesh name spelled with underscores, which Kubernetes refuses",
    "upper-case": "an externalName with capitals, which Kubernetes refuses",
    "trailing-dot": "a mesh name with a final dot, which gateways put into Host and SNI",
    "unknown-name": "a mesh name that is not served",
    "removed-name": "a mesh name that was served until a push removed it",
    "no-listener": "a port on which the name's address has no listener",
    "protocol": "a port that is not TCP",
    "backend-port": "an Ingress or route to a port that the Service does not have",
    "backend-port-name": "an Ingress to a port name that the Service does not have",
    "loop": "Services of type ExternalName that point at each other",
    "duplicate": "a Service that the input has twice",
}
"""Every rule with what it finds."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong. line, column: from 1. message: what is wrong; remedy: what to do, in words.

    edits: what corrects it without doubt; empty where only a person can know.
    """

    path: str
    line: int
    column: int
    rule: str
    message: str
    remedy: str
    edits: tuple[Edit, ...] = field(default=(), compare=False)

    @property
    def fixable(self) -> bool:
        """Whether it can be corrected without asking anybody."""
        return bool(self.edits)


def found(file: ManifestFile, node: yaml.Node, rule: str, message: str, remedy: str, *edits: Edit) -> Finding:
    """Give the finding about *node* in *file*."""
    mark = node.start_mark
    return Finding(file.path, mark.line + 1, mark.column + 1, rule, message, remedy, edits)
