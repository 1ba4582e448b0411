import pytest

from meshdns.inventory.kri import Kri, parse_kri


@pytest.mark.parametrize(
    ("text", "kri"),
    [
        (
            "kri_msvc_default_zone-1_ns_backend_http",
            Kri("msvc", "default", "zone-1", "ns", "backend", "http"),
        ),
        ("kri_msvc_default_kuma-3__demo_3000", Kri("msvc", "default", "kuma-3", "", "demo", "3000")),
        ("kri_mzsvc_default___redis-all_6379", Kri("mzsvc", "default", "", "", "redis-all", "6379")),
        ("kri_extsvc_default_default__api_", Kri("extsvc", "default", "default", "", "api", "")),
        ("kri_msvc_default_z_ns_backend_a_b_c", Kri("msvc", "default", "z", "ns", "backend", "a_b_c")),
    ],
)
def test_parts(text: str, kri: Kri) -> None:
    assert parse_kri(text) == kri
    assert str(kri) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "kri_",
        "kri_msvc_default_z_ns_backend",
        "echo_default_svc_80",
        "a_b_c_d_e_f_g_h",
        "kri______",
        "KRI_a_b_c_d_e_f",
    ],
)
def test_what_is_no_kri(text: str) -> None:
    assert parse_kri(text) is None


def test_the_resource_has_no_section() -> None:
    kri = parse_kri("kri_msvc_default_zone-1_ns_backend_http")
    assert kri is not None
    assert str(kri.resource) == "kri_msvc_default_zone-1_ns_backend_"
