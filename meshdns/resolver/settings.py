"""What an operator may set about who is answered, and how often."""

from pydantic import BaseModel, ConfigDict, Field


class RateLimitSettings(BaseModel):
    """Replies a second to one network over UDP, on listeners beyond loopback; 0 is no limit.

    errors: replies other than NOERROR and NXDOMAIN. identical: replies to one question, and denials of any.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    errors: int = Field(default=20, ge=0, le=1_000_000)
    identical: int = Field(default=200, ge=0, le=1_000_000)
