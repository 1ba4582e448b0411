from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from meshdns.inventory.body import encode_body
from meshdns.inventory.record import NameRecord, Origin, Port
from meshdns.store.record_codec import decode_record, encode_origin

TEXT = st.text(max_size=20)
ADDRESSES = st.lists(st.one_of(st.builds(IPv4Address, st.integers(0, 2**32 - 1)), st.ip_addresses(v=6)), max_size=5)
RECORDS = st.builds(
    NameRecord,
    name=st.text("abcXYZ019-_.*", min_size=1, max_size=60),
    addresses=ADDRESSES.map(tuple),
    ttl=st.integers(0, 2**31 - 1),
    ports=st.lists(st.builds(Port, st.integers(1, 65535), TEXT, st.booleans()), max_size=3).map(tuple),
    service=st.none() | TEXT,
    origin=st.builds(Origin, st.just("kuma"), TEXT, TEXT),
)


@given(RECORDS)
def test_a_record_comes_back_with_its_origin(record: NameRecord) -> None:
    back = decode_record(encode_body(record) + encode_origin(record.origin), "kuma")
    assert back == record
    assert back.origin == record.origin


@given(RECORDS, RECORDS)
def test_records_are_equal_exactly_when_their_bodies_are(one: NameRecord, other: NameRecord) -> None:
    stored = encode_body(one) + encode_origin(one.origin)
    assert stored.startswith(encode_body(other)) == (one == other)


def test_a_lone_surrogate_in_a_service_survives() -> None:
    record = NameRecord("a.mesh", (IPv6Address("::1"),), service="\ud800", origin=Origin("s", "\udfff", "\0"))
    assert decode_record(encode_body(record) + encode_origin(record.origin), "s") == record
