"""A table kept as octets says what it said, packed or not."""

from ipaddress import ip_address

import pytest

from meshdns.inventory import body
from meshdns.inventory.body import Bodies, bodies_of
from meshdns.inventory.record import NameRecord, Origin, Port

ORIGIN = Origin("kuma", "dns", "7")
RECORDS = {
    each.name.lower(): each
    for each in (
        NameRecord("Web.mesh", (ip_address("240.0.0.1"), ip_address("::ffff:240.0.0.1")), 30, origin=ORIGIN),
        NameRecord("*.b.mesh", (ip_address("fd00:fd00::1"),), 60, (Port(80, 'a"\\\0', True),), "a", ORIGIN),
        NameRecord("c.mesh", (), 0, (), None, ORIGIN),
    )
}


@pytest.mark.parametrize("large", [1, 4], ids=["packed", "left as it is"])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_packed_table_says_the_same(monkeypatch: pytest.MonkeyPatch, large: int, count: int) -> None:
    monkeypatch.setattr(body, "LARGE", large)
    records = dict(list(RECORDS.items())[:count])
    given = bodies_of(records)
    table = Bodies(dict(given), ORIGIN)
    for _ in range(2):
        table.pack()
        table.pack()
        assert list(table.octets.items()) == list(given.items())
        table.pack()
        assert dict(table) == records
    table.pack()
    assert len(table) == count
    table.pack()
    assert "web.mesh" in table or not count
