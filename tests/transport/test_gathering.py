"""While another process needs the core, datagrams that come often are left to gather."""

import socket
from itertools import count

import pytest

from meshdns.transport import mmsg
from meshdns.transport.sockets import bind
from meshdns.transport.udp_batch import ENOUGH, GATHER, OFTEN, BatchListener

pytestmark = pytest.mark.skipif(mmsg.fault() is not None, reason=f"no batches here: {mmsg.fault()}")


@pytest.mark.parametrize(
    ("rival", "apart", "many", "gathers"),
    [
        (True, OFTEN / 2, 1, True),
        (True, OFTEN / 2, ENOUGH - 1, True),
        (True, OFTEN / 2, ENOUGH, False),
        (True, OFTEN * 2, 1, False),
        (False, OFTEN / 2, 1, False),
        (None, OFTEN / 2, 1, False),
    ],
)
def test_only_beside_a_rival_and_only_what_comes_often(
    monkeypatch: pytest.MonkeyPatch, rival: bool | None, apart: float, many: int, gathers: bool
) -> None:
    slept: list[float] = []
    ((endpoint,),) = bind(["127.0.0.1:0"]).rows
    endpoint.tcp.close()
    listener = BatchListener(
        endpoint.udp, lambda queries, _: list(queries), rival=None if rival is None else lambda: rival
    )
    with endpoint.udp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.connect(endpoint.udp.getsockname())
        asker.settimeout(5)
        listener._on_readable()
        moments = count(listener._last + apart, 0.0)  # the clock stands still at that distance from the last turn
        monkeypatch.setattr("meshdns.transport.udp_batch.time.perf_counter", lambda: next(moments))
        monkeypatch.setattr("meshdns.transport.udp_batch.time.sleep", slept.append)
        listener._is_alone = many == 1
        for _ in range(many):
            asker.send(b"query")
        listener._on_readable()
        assert slept == ([GATHER] if gathers else [])
        assert listener.statistics.answered == many
        assert listener._is_alone == (many == 1 and not gathers)
