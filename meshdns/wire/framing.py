"""DNS messages in a TCP stream: each with its length in two octets before it (RFC 1035 §4.2.2)."""

PREFIX = 2


def frame(message: bytes) -> bytes:
    """Give *message* with its length before it, to be sent in one write (RFC 7766 §8)."""
    return len(message).to_bytes(2, "big") + message


class Deframer:
    """Octets in as they arrive, whole messages out."""

    __slots__ = ("_octets",)

    def __init__(self) -> None:
        self._octets = bytearray()

    @property
    def buffered(self) -> int:
        """Octets that wait: of messages not taken yet, and of one not complete."""
        return len(self._octets)

    @property
    def has_message(self) -> bool:
        """Whether a whole message waits."""
        octets = self._octets
        return len(octets) >= PREFIX and len(octets) >= PREFIX + (octets[0] << 8 | octets[1])

    def feed(self, data: bytes | memoryview) -> None:
        """Add octets as they came."""
        self._octets += data

    def take(self, most: int) -> list[bytes]:
        """Give the next whole messages, at most *most*."""
        octets = self._octets
        messages: list[bytes] = []
        at, size = 0, len(octets)
        while len(messages) < most and size - at >= PREFIX:
            end = at + PREFIX + (octets[at] << 8 | octets[at + 1])
            if end > size:
                break
            messages.append(bytes(octets[at + PREFIX : end]))
            at = end
        if at:
            del octets[:at]
        return messages
