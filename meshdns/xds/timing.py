"""How long the client waits for what; one value, so that a test need not wait."""

from dataclasses import dataclass

RECEIVE_LIMIT = 64 * 1024 * 1024
"""Octets of one response. gRPC's own 4 MiB are crossed by a SotW control plane at about 4,400 services."""


@dataclass(frozen=True, slots=True)
class Timing:
    """All in seconds.

    keepalive, keepalive_timeout: pings, so that a half-open connection is noticed after their sum. patience: for the
    first response of a stream, doubled after both protocols were silent, up to patience_limit. renew_delta,
    renew_sotw: age at which a stream is replaced by a new one (a control plane says nothing when it deletes our
    Dataplane; the table just freezes), give or take renew_spread. retry_first, retry_limit: between attempts.
    handover: how long "another stream is active" is expected after closing our own. farewell: how long the control
    plane may take to end a stream that we have finished.
    """

    keepalive: float = 30.0
    keepalive_timeout: float = 10.0
    patience: float = 15.0
    patience_limit: float = 120.0
    renew_delta: float = 600.0
    renew_sotw: float = 3600.0
    renew_spread: float = 0.2
    retry_first: float = 1.0
    retry_limit: float = 30.0
    handover: float = 15.0
    farewell: float = 2.0
