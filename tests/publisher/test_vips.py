"""VIPs as a rule: Kuma's table A7 to A9, and what must hold after any history."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network

from hypothesis import given, settings
from hypothesis import strategies as st

from meshdns.publisher.vips import EntryKey, Kind, Lease, allocate
from tests.scale import scale

NET = IPv4Network("240.0.0.0/4")
HOUR = 3600.0


def key(name: str, kind: Kind = Kind.SERVICE) -> EntryKey:
    return EntryKey(kind, name)


def given_out(leases: object) -> dict[str, str]:
    return {str(each): str(lease.address) for each, lease in leases.items() if lease.freed is None}  # type: ignore[attr-defined]


def test_entries_are_sorted_by_type_then_name_and_begin_at_the_network_address() -> None:
    wanted = [
        key("b.mesh", Kind.FQDN),
        key("web"),
        key("httpbin.org", Kind.HOST),
        key("Legacy"),
        key("a.mesh", Kind.FQDN),
    ]
    found = allocate({}, wanted, NET, now=0, quarantine=HOUR)
    assert given_out(found.leases) == {
        "0:Legacy": "240.0.0.0",
        "0:web": "240.0.0.1",
        "1:httpbin.org": "240.0.0.2",
        "2:a.mesh": "240.0.0.3",
        "2:b.mesh": "240.0.0.4",
    }


def test_a_new_entry_takes_the_lowest_free_address_and_others_keep_theirs() -> None:
    kept = {key("frontend"): Lease(IPv4Address("240.0.0.0")), key("backend"): Lease(IPv4Address("240.0.0.1"))}
    found = allocate(kept, [key("backend"), key("database"), key("frontend")], NET, now=0, quarantine=HOUR)
    assert given_out(found.leases) == {
        "0:backend": "240.0.0.1",
        "0:database": "240.0.0.2",
        "0:frontend": "240.0.0.0",
    }


def test_a_freed_address_rests_and_its_entry_gets_it_back() -> None:
    first = allocate({}, [key("a"), key("b")], NET, now=0, quarantine=HOUR)
    gone = allocate(first.leases, [key("b")], NET, now=100, quarantine=HOUR)
    assert gone.leases[key("a")] == Lease(IPv4Address("240.0.0.0"), 100)
    assert gone.addresses == {key("b"): IPv4Address("240.0.0.1")}
    assert gone.next_free == 100 + HOUR
    other = allocate(gone.leases, [key("b"), key("c")], NET, now=200, quarantine=HOUR)
    assert other.addresses[key("c")] == IPv4Address("240.0.0.2")
    back = allocate(other.leases, [key("a"), key("b"), key("c")], NET, now=300, quarantine=HOUR)
    assert back.addresses[key("a")] == IPv4Address("240.0.0.0")
    assert back.next_free is None


def test_an_address_is_had_again_when_it_has_rested() -> None:
    gone = {key("a"): Lease(IPv4Address("240.0.0.0"), 100.0)}
    before = allocate(gone, [key("b")], NET, now=99 + HOUR, quarantine=HOUR)
    assert before.addresses[key("b")] == IPv4Address("240.0.0.1")
    after = allocate(gone, [key("b")], NET, now=100 + HOUR, quarantine=HOUR)
    assert after.addresses[key("b")] == IPv4Address("240.0.0.0")
    assert key("a") not in after.leases


def test_without_a_quarantine_addresses_are_reused_at_once_as_kuma_does() -> None:
    first = allocate({}, [key("a"), key("b")], NET, now=0, quarantine=0)
    second = allocate(first.leases, [key("b"), key("c")], NET, now=0, quarantine=0)
    assert given_out(second.leases) == {"0:b": "240.0.0.1", "0:c": "240.0.0.0"}


def test_a_clock_that_was_set_back_makes_an_address_rest_no_longer_than_from_now() -> None:
    gone = {key("a"): Lease(IPv4Address("240.0.0.0"), 1e9)}
    found = allocate(gone, [], NET, now=100, quarantine=HOUR)
    assert found.leases[key("a")].freed == 100


def test_exhaustion_is_told_for_each_entry_and_the_rest_works() -> None:
    small = ip_network("127.80.0.0/30")
    wanted = [key(name) for name in "abcdef"]
    found = allocate({}, wanted, small, now=0, quarantine=HOUR)
    assert found.exhausted == (key("e"), key("f"))
    assert given_out(found.leases)["0:d"] == "127.80.0.3"
    again = allocate(found.leases, wanted[1:], small, now=1, quarantine=HOUR)
    assert again.exhausted == (key("e"), key("f"))  # the address of a rests
    assert again.next_free == 1 + HOUR
    later = allocate(again.leases, wanted[1:], small, now=1 + HOUR, quarantine=HOUR)
    assert later.exhausted == (key("f"),)
    assert later.addresses[key("e")] == IPv4Address("127.80.0.0")


def test_after_a_change_of_the_network_old_addresses_stay() -> None:
    kept = {key("a"): Lease(IPv4Address("10.0.0.7")), key("b"): Lease(ip_address("fd00::1"))}
    found = allocate(kept, [key("a"), key("b"), key("c")], NET, now=0, quarantine=HOUR)
    assert given_out(found.leases) == {"0:a": "10.0.0.7", "0:b": "fd00::1", "0:c": "240.0.0.0"}


def test_addresses_of_external_hosts_are_never_given_out() -> None:
    found = allocate({}, [key("a")], NET, now=0, quarantine=HOUR, reserved=[ip_address("240.0.0.0"), ip_address("::1")])
    assert found.addresses[key("a")] == IPv4Address("240.0.0.1")


def test_ipv6_and_the_last_address_of_all() -> None:
    found = allocate({}, [key("a")], IPv6Network("fd00:fd00::/64"), now=0, quarantine=HOUR)
    assert found.addresses[key("a")] == ip_address("fd00:fd00::")
    assert allocate({}, [key("a")], ip_network("255.255.255.255/32"), now=0, quarantine=HOUR).exhausted


NAMES = st.sets(st.sampled_from([key(name, kind) for name in "abcdefgh" for kind in Kind]))
STEPS = st.lists(st.tuples(NAMES, st.floats(0, 2000)), max_size=12)


@settings(max_examples=scale(1000))
@given(STEPS, st.sampled_from([0.0, 1000.0]), st.randoms(use_true_random=False))
def test_after_any_history_vips_are_stable_distinct_and_rested(
    steps: Sequence[tuple[set[EntryKey], float]], quarantine: float, random: object
) -> None:
    now, leases = 0.0, {}
    last_used: dict[object, tuple[EntryKey, float]] = {}
    for wanted, wait in steps:
        now += wait
        shuffled = list(wanted)
        random.shuffle(shuffled)  # type: ignore[attr-defined]
        found = allocate(leases, shuffled, IPv4Network("127.80.0.0/28"), now=now, quarantine=quarantine)
        assert found == allocate(leases, sorted(wanted), IPv4Network("127.80.0.0/28"), now=now, quarantine=quarantine)
        addresses = found.addresses
        assert len({lease.address for lease in found.leases.values()}) == len(found.leases)
        assert set(addresses) | set(found.exhausted) == wanted
        for each, address in addresses.items():
            old = leases.get(each)
            if old is not None and old.freed is None:
                assert address == old.address
            owner, freed = last_used.get(address, (each, float("-inf")))
            assert owner == each or now - freed >= quarantine
        assert not found.exhausted or len(found.leases) == 16
        for each, lease in leases.items():
            if lease.freed is None and each not in wanted:
                last_used[lease.address] = (each, now)
        leases = dict(found.leases)
