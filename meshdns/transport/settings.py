"""What an operator may set about moving bytes; every limit has a default that survives abuse (RFC 9210 §4.2)."""

from pydantic import BaseModel, ConfigDict, Field

from meshdns.duration import Duration


class TcpLimits(BaseModel):
    """Limits of the TCP connections of one responder.

    connections, per_source: how many at once, in all and of one client address; one more evicts the one that made
    no progress for longest. idle: without a query. message: for a query that was begun. write: for a client that
    does not read. All in seconds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    connections: int = Field(default=800, ge=1, le=100_000)
    per_source: int = Field(default=512, ge=1, le=100_000)
    idle: Duration = 10.0
    message: Duration = 5.0
    write: Duration = 5.0
