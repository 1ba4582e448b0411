"""Names as text: what a push may hold, zones, spellings, reverse zones."""

from ipaddress import ip_network

import pytest

from meshdns.errors import ResourceError
from meshdns.inventory.name import check_address, check_name, dotted, reverse_zones, zone_of


@pytest.mark.parametrize(
    "name",
    [
        "echo.default.svc.80.mesh",
        "echo_default_svc_80.mesh",
        "UPPER.mesh",
        "-x-.mesh",
        "*.wild.mesh",
        "x" * 63 + ".mesh",
        ".".join(["a" * 49] * 5) + ".abc",
        "localhost",
    ],
)
def test_a_name_that_can_be_asked_is_kept_as_it_is(name: str) -> None:
    assert check_name(name) == name
    assert check_name(name + ".") == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "empty name"),
        (".", "empty name"),
        ("a..b.mesh", "empty label"),
        (".a.mesh", "empty label"),
        ("dot..mesh", "empty label"),
        ("x" * 64 + ".mesh", "label of 64 octets"),
        (".".join(["a" * 50] * 5), "254 octets"),
        ("Foo Bar.mesh", "only letters"),
        ("bücher.mesh", "only letters"),
        ("nul\0.mesh", "only letters"),
        ("new\nline.mesh", "only letters"),
        ("line.mesh\n", "only letters"),
        ("a.*.mesh", "leftmost"),
        ("*", "leftmost"),
        ("a*.mesh", "only letters"),
    ],
)
def test_an_impossible_name_is_refused_with_its_reason(name: str, reason: str) -> None:
    with pytest.raises(ResourceError, match=reason):
        check_name(name)


@pytest.mark.parametrize(
    ("name", "zone"),
    [
        ("mesh", "mesh"),
        ("a.mesh", "mesh"),
        ("amesh", None),
        ("a.mesh.local", "mesh.local"),
        ("a.b.sub.mesh", "sub.mesh"),
        ("example.org", None),
    ],
)
def test_the_zone_of_a_name_is_the_longest_suffix_on_a_label_boundary(name: str, zone: str | None) -> None:
    assert zone_of(name, ("mesh", "mesh.local", "sub.mesh")) == zone


def test_the_dotted_spelling_leaves_the_zone_alone() -> None:
    assert dotted("a_b.my_zone", "my_zone") == "a.b.my_zone"
    assert dotted("my_zone", "my_zone") == "my_zone"


@pytest.mark.parametrize(
    ("network", "zones"),
    [
        ("10.0.0.0/8", ["10.in-addr.arpa"]),
        ("10.1.0.0/15", None),
        ("10.2.0.0/15", ["2.10.in-addr.arpa", "3.10.in-addr.arpa"]),
        ("192.0.2.1/32", ["1.2.0.192.in-addr.arpa"]),
        ("240.0.0.0/4", [f"{n}.in-addr.arpa" for n in range(240, 256)]),
        ("fd00::/8", ["d.f.ip6.arpa"]),
        ("fc00::/7", ["c.f.ip6.arpa", "d.f.ip6.arpa"]),
    ],
)
def test_reverse_zones_cover_a_network_at_octets_or_nibbles(network: str, zones: list[str] | None) -> None:
    if zones is None:
        with pytest.raises(ValueError, match="host bits"):
            ip_network(network)
    else:
        assert list(reverse_zones(ip_network(network))) == zones


@pytest.mark.parametrize("text", ["240.0.0.1", "127.80.0.0", "::ffff:f000:a", "fd00:fd00::3", "169.254.20.10"])
def test_an_address_of_a_service_is_taken(text: str) -> None:
    assert str(check_address(text)) in (text, "::ffff:240.0.0.10")


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
        "1.2.3",
        "1.2.3.4.5",
        "",
        "a" * 40_000,
        "fe80::1%eth0",
        "01.2.3.4",
    ],
)
def test_what_cannot_be_a_service_is_refused(text: str) -> None:
    with pytest.raises(ResourceError):
        check_address(text)
