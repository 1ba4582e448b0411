"""Who is answered at all: decided around the resolver, whose answers must not depend on who asks."""

import time
from collections.abc import Callable, MutableSequence, Sequence
from functools import partial

from meshdns.config import Config
from meshdns.processes.status_file import Number
from meshdns.resolver.admission import Admission
from meshdns.resolver.answer import Resolver
from meshdns.resolver.rate_limit import RateLimit, cut
from meshdns.wire.reply import Later, Reply


class Gate:
    """What stands between one endpoint's clients and the resolver.

    loopback: whether only this machine can reach the endpoint; its clients are then not limited in number.
    limit: shared by all endpoints of a process. row: where refusals are counted. clock: monotonic seconds. enter: told
    before queries are answered whether they came over TCP; what is asked elsewhere is shared out by where it came in.
    """

    def __init__(
        self,
        config: Config,
        resolver: Resolver,
        limit: RateLimit,
        row: MutableSequence[int],
        *,
        loopback: bool,
        clock: Callable[[], float] = time.monotonic,
        enter: Callable[[bool], None] = lambda stream: None,
    ) -> None:
        self._enter = enter
        self._admission = Admission(config.allow, loopback=loopback)
        self._resolver = resolver
        self._limit = None if loopback else limit
        self._row = row
        self._clock = clock

    def answer_datagram(self, query: bytes, client: str) -> Reply:
        """Give the reply to a datagram, or None. client: its host, an IP address as text."""
        reply: Reply
        if self._admission.permits(client):
            self._enter(False)
            reply = self._resolver.answer_now(query)
        else:
            self._row[Number.NOT_ALLOWED] += 1
            reply = self._resolver.refuse(query)
        if reply is None or self._limit is None or client.startswith("127.") or client == "::1":
            return reply
        if isinstance(reply, bytes):
            return self._limited(client, reply)
        return _Limited(reply, partial(self._limited, client))

    def _limited(self, client: str, reply: bytes) -> bytes:
        assert self._limit is not None
        if self._limit.exceeded(client, reply, self._clock()):
            self._row[Number.RATE_LIMITED] += 1
            return cut(reply)
        return reply

    def answer_datagrams(self, queries: Sequence[bytes], client: Callable[[int], str]) -> Sequence[Reply]:
        """Give the reply to each datagram of a batch, or None. client: the host that sent the i-th."""
        if self._admission.permits_all and self._limit is None:
            self._enter(False)
            return self._resolver.answer_batch(queries)
        return [self.answer_datagram(query, client(i)) for i, query in enumerate(queries)]

    def answer_messages(self, queries: Sequence[bytes], client: str) -> Sequence[Reply]:
        """Give the reply to each message over TCP, or None; TCP proves who asks, so nothing is limited here."""
        if self._admission.permits(client):
            self._enter(True)
            return self._resolver.answer_batch(queries, stream=True)
        self._row[Number.NOT_ALLOWED] += len(queries)
        return [self._resolver.refuse(query, stream=True) for query in queries]


class _Limited:
    """A reply that is limited when it is there."""

    __slots__ = ("_limit", "_reply")

    def __init__(self, reply: Later, limit: Callable[[bytes], bytes]) -> None:
        self._reply = reply
        self._limit = limit

    def deliver_to(self, send: Callable[[bytes], None], /) -> None:
        def limited(reply: bytes) -> None:
            send(self._limit(reply))

        self._reply.deliver_to(limited)
