"""The end of a service without a lost query: first nothing new arrives, then what has arrived is answered."""

import logging

from meshdns.transport.sockets import Bound

log = logging.getLogger(__name__)

_SOMEWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def seal(bound: Bound) -> None:
    """Let no further datagram into the UDP sockets of *bound*; those that wait in them stay readable and answerable.

    A socket that is closed loses what waits in it; one that is read until it is empty gets more meanwhile. But one
    that is connected (to itself) takes nothing from anybody else: the next client is refused at once by ICMP, as it
    would be after the end, and asks another server without waiting. All processes that share a socket share this.
    """
    for row in bound.rows:
        for endpoint in row:
            host, *rest = endpoint.udp.getsockname()
            try:
                endpoint.udp.connect((_SOMEWHERE.get(host, host), *rest))
            except OSError as fault:  # then a datagram of the last microseconds may be lost
                log.debug("%s cannot be sealed: %s", endpoint.address, fault)
