"""Why a stream ended, in an operator's words, each with its remedy.

kuma-cp refuses everything with UNKNOWN and a text, so the text decides; its beginnings are the same from 2.7 to 3.0.
The texts of UNAVAILABLE are those of gRPC's C core.
"""

from dataclasses import dataclass
from typing import Literal

from meshdns.errors import MeshdnsError
from meshdns.xds.settings import KumaSettings

Kind = Literal["ended", "refused", "second stream", "not offered", "silent", "unreachable", "lost", "local", "ours"]

_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no stream. kind: what the client does about it; reason, remedy: for the operator."""

    kind: Kind
    reason: str
    remedy: str = ""


class StreamEndedError(MeshdnsError):
    """A stream ended, or could not begin."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(refusal.reason)


def explain(code: str, details: str, settings: KumaSettings, *, answered: bool, known: bool = False) -> Refusal:
    """Give what the status *code* (``UNKNOWN``) with *details* means.

    answered: something was received on this stream before. known: on an earlier one, so that a connection which is
    closed before anything came is a lost one, not a wrong setting.
    """
    details = clean(details)
    if code == "OK":
        return Refusal("ended", f"control plane {settings.address} ended the stream: it is stopping or restarting")
    if code == "UNKNOWN":
        refusal = _refused(details, settings)
        if refusal is not None:
            return refusal
    if code == "UNAVAILABLE" and not answered and not (known and "Socket closed" in details):
        refusal = _unreachable(details, settings)
        if refusal is not None:
            return refusal
    if code == "UNIMPLEMENTED":
        return Refusal(
            "not offered",
            f"{settings.address} does not offer this kind of stream ({details})",
            "address must be the data plane server of a zone control plane (port 5678); protocol: auto tries both",
        )
    if code == "RESOURCE_EXHAUSTED" and "larger than max" in details:
        return Refusal(
            "lost",
            f"control plane {settings.address} sent a response that is too large: {details}",
            "protocol: delta sends changes only; reachable services of the Dataplane can be limited",
        )
    if code == "UNAVAILABLE" and ("ping timeout" in details or "eepalive" in details):
        reason = f"control plane {settings.address} no longer answers pings: the connection was half open ({details})"
        return Refusal("lost", reason)
    if code == "UNAVAILABLE":
        return Refusal("lost", f"connection to control plane {settings.address} was lost ({details})")
    return Refusal("lost", f"control plane {settings.address} ended the stream: {code} {details}".rstrip())


def silent(protocol: str, patience: float, settings: KumaSettings) -> Refusal:
    """Give what it means that a stream of *protocol* was taken and not answered within *patience* seconds."""
    if settings.protocol == "auto":
        remedy = "kuma-cp before 2.11 answers SotW only, from 3.0 on delta only; both are tried in turn, ever longer"
    else:
        remedy = "kuma-cp before 2.11 answers SotW only, from 3.0 on delta only; protocol: auto tries both"
    return Refusal(
        "silent",
        f"control plane {settings.address} gave no answer to a {protocol} stream within {patience:g} s",
        remedy,
    )


def clean(text: str) -> str:
    """Give foreign *text* fit for one line of a log."""
    text = "".join(letter if letter.isprintable() else " " for letter in text[: _SHOWN + 1])
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _refused(details: str, settings: KumaSettings) -> Refusal | None:
    who = f'Dataplane "{settings.dataplane}" of mesh "{settings.mesh}"'
    if details.startswith('resource "'):
        if settings.register_dataplane:
            remedy = f'create mesh "{settings.mesh}", or correct the source\'s key "mesh"'
        else:
            remedy = 'create it (type DELEGATED, with transparentProxying), or set "register: true"'
        return Refusal("refused", f"control plane knows no {who}: {details}", remedy)
    if details.startswith("there is already an active stream"):
        return Refusal(
            "second stream",
            f"control plane has another active stream of {who}: {details}",
            'give every instance its own "dataplane"; the name of one that just died becomes free by itself',
        )
    if details.startswith("authentication failed:"):
        return Refusal("refused", f"control plane refused the token: {details}", _token_remedy(details, settings))
    if details.startswith("could not extract credential"):
        if settings.token_file is None:
            remedy = 'set "token_file" to a file with a data plane token'
        else:
            remedy = 'exactly one "authorization" header must arrive: a proxy on the way adds or removes one'
        return Refusal("refused", f"control plane could not find the token: {details}", remedy)
    if details.startswith(("request must have a valid Proxy ID", "invalid node ID")):
        return Refusal(
            "refused",
            f'control plane cannot read the node id "{settings.mesh}.{settings.dataplane}": {details}',
            'correct the source\'s keys "mesh" and "dataplane"',
        )
    if details.startswith("proxyId "):
        return Refusal(
            "refused",
            f"control plane found another Dataplane registered than {who}: {details}",
            'correct "mesh" and "dataplane", or set "register: false" and create the Dataplane yourself',
        )
    return None


def _token_remedy(details: str, settings: KumaSettings) -> str:
    if settings.token_file is None:
        return 'set "token_file" to a file with a data plane token'
    file = settings.token_file
    if "token is expired" in details:
        return f"put a fresh token into {file}; it is read again at every attempt"
    if "malformed" in details or "could not parse token" in details:
        return f'{file} must hold the raw token of this control plane, without "Bearer"'
    if "proxy name from requestor" in details:
        return f'the token in {file} is for another name: make one for "{settings.dataplane}", or correct "dataplane"'
    if "tag" in details:
        return f"the token in {file} is bound to tags: make one bound to the name or the mesh only"
    return f"put a token of this control plane for this mesh and Dataplane into {file}"


def _unreachable(details: str, settings: KumaSettings) -> Refusal | None:
    address = settings.address
    cases = (
        (
            "CERTIFICATE_VERIFY_FAILED",
            f"the certificate of control plane {address} is not signed by {settings.ca_file}",
            'put the certificate that signed it into "ca_file" (kuma-cp\'s own, where it signed itself)',
        ),
        (
            "Hostname Verification Check failed",
            f"the certificate of control plane {address} is for other names",
            'use a host name in "address" that the certificate holds',
        ),
        (
            "WRONG_VERSION_NUMBER",
            f"{address} does not speak TLS",
            'correct "address" (the data plane server, port 5678), or set "plaintext: true"',
        ),
        (
            "security handshaker",
            f"no certificate can be read from {settings.ca_file}",
            '"ca_file" must hold certificates in PEM',
        ),
        (
            "Connection refused",
            f"nothing listens at {address}",
            'start the control plane, or correct "address"; the last table is served meanwhile',
        ),
        (
            "errors resolving",
            f"the host of {address} cannot be resolved",
            'correct "address", or the DNS of this machine',
        ),
        (
            "HTTP/2",
            f"{address} does not speak gRPC",
            'correct "address": the data plane server of the control plane, port 5678',
        ),
        (
            "Socket closed",
            f"{address} closed the connection at once",
            'the control plane speaks TLS: set "ca_file" instead of "plaintext"' if settings.plaintext else "",
        ),
    )
    for mark, reason, remedy in cases:
        if mark in details:
            return Refusal("unreachable", f"{reason} ({details})", remedy)
    if "failed to connect" in details:
        return Refusal("unreachable", f"cannot reach control plane {address} ({details})")
    return None
