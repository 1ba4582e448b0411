"""Services of type ExternalName: which, with which ports, and what Kubernetes' own schemas say of them."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate.utils as kubernetes_validate
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from meshdns.kubernetes.externalname import Generated, Options, choose, generate
from meshdns.kubernetes.lint import lint
from meshdns.kubernetes.manifest_nodes import ManifestFile
from meshdns.kubernetes.manifest_text import to_json, to_yaml
from meshdns.kubernetes.served import Served
from meshdns.zone.entries import Rules
from tests.kubernetes import mesh

DOCUMENTED = mesh.DATA / "manifests" / "documented"
VERSIONS = kubernetes_validate.all_versions()
EVERYTHING = Options("edge", "-multizone", ingress="kong", gateway="infra/public", meshes={"kuma": "default"})


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with mesh.served(mesh.keep(tmp_path_factory.mktemp("kept"), mesh.usual())) as known:
        yield known


@pytest.fixture(scope="module")
def newest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Give what a control plane of 3.0 pushed."""
    pushes = [("kuma", version, table) for version, table in mesh.recorded("3.0-delta-basic")]
    with mesh.served(mesh.keep(tmp_path_factory.mktemp("newest"), pushes, sources=("kuma",))) as known:
        yield known


def generated(served: Served, *wanted: str, options: Options = Options()) -> Generated:  # noqa: B008
    return generate(served, choose(served, wanted).records, options)


def services(result: Generated) -> dict[str, tuple[str, dict[str, int]]]:
    """Give externalName and ports by the Service's name."""
    return {
        each.name: (
            each.manifests[0]["spec"]["externalName"],
            {port["name"]: port["port"] for port in each.manifests[0]["spec"].get("ports", ())},
        )
        for each in result.services
    }


def test_every_service_under_the_zones_becomes_one(served: Served) -> None:
    assert services(generated(served)) == {
        "a-b": ("a.b.mesh", {"http-80": 80}),
        "api-shop": ("api.shop.mesh", {"tcp-80": 80}),
        "backend": ("backend.kuma-demo.svc.3001.mesh", {"tcp-80": 80}),
        "echo-80": ("echo.default.svc.80.mesh", {"http-80": 80}),
        "echo-8080": ("echo.default.svc.8080.mesh", {"http-80": 80}),
        "ext-ip": ("ext-ip.mesh", {"tcp-80": 80, "tcp-9000": 9000}),
        "ext-quiet": ("ext-quiet.mesh", {"tcp-80": 80, "https-8443": 8443}),
        "frontend": ("frontend.kong.svc.80.mesh", {"http-80": 80}),
        "internal-edge-payments": ("internal.edge.payments.mesh", {"http-8080": 8080}),
        "legacy-app": ("legacy.app.mesh", {"tcp-80": 80}),
        "my-ext": ("my.ext.mesh", {"tcp-80": 80, "https-443": 443}),
        "my-svc": ("my.svc.mesh", {"tcp-80": 80}),
        "orders": ("orders.shop.svc.mesh", {"http": 80, "raw": 9443}),
        "quiet": ("quiet.mesh", {}),
        "redis": ("redis.mesh", {"tcp-80": 80}),
        "redis-all": ("redis-all.mzsvc.mesh.local", {"tcp-6379": 6379}),
        "redis-default": ("redis.svc.mesh.local", {"tcp-6379": 6379}),
        "silent": ("silent.mesh", {}),
        "vendor-api": ("vendor-api.ext.mesh", {"https-443": 443}),
        "web": ("web.mesh", {"tcp-80": 80}),
        "web-default": ("web.svc.mesh.local", {"tcp-9000": 9000}),
    }


def test_the_names_of_the_new_generation_alone(newest: Served) -> None:
    assert services(generated(newest)) == {
        "backend": ("backend.svc.mesh.local", {"http": 3001, "metrics": 9090}),
        "cart": ("cart.svc.mesh.local", {"http-8080": 8080}),
        "echo": ("echo.svc.mesh.local", {"http-8080": 8080}),
        "my-svc": ("my-svc.svc.mesh.local", {"tcp-7000": 7000}),
        "orders": ("orders.shop.svc.mesh", {"http": 80, "raw": 9443}),
        "redis": ("redis.svc.mesh.local", {"tcp-6379": 6379}),
        "redis-all": ("redis-all.mzsvc.mesh.local", {"tcp-6379": 6379}),
        "vendor-api": ("vendor-api.ext.mesh", {"https-443": 443}),
    }


def test_the_zone_that_the_configuration_has_first_gives_the_name(tmp_path: Path) -> None:
    pushes = [("kuma", version, table) for version, table in mesh.recorded("3.0-delta-basic")]
    data_dir = mesh.keep(tmp_path, pushes, sources=("kuma",))
    with mesh.served(data_dir, Rules(("mesh.local", "mesh"))) as known:
        assert services(generated(known))["orders"][0] == "orders.svc.mesh.local"


CHOICES: list[tuple[tuple[str, ...], list[str]]] = [
    (("echo_default_svc_80.mesh",), ["echo.default.svc.80.mesh"]),
    (("ECHO.default.svc.80.mesh.",), ["echo.default.svc.80.mesh"]),
    (("echo_default_svc_80.mesh", "echo.default.svc.80.mesh"), ["echo.default.svc.80.mesh"]),
    (("echo*",), ["echo.default.svc.80.mesh", "echo.default.svc.8080.mesh"]),
    (("*_svc_80.mesh",), ["echo.default.svc.80.mesh", "frontend.kong.svc.80.mesh"]),
    (("orders*.mesh.local",), ["orders.svc.mesh.local"]),
    (("orders.svc.default.mesh.local", "orders*.local"), ["orders.svc.default.mesh.local", "orders.svc.mesh.local"]),
    (("httpbin.org",), ["httpbin.org"]),
    (("*.org",), ["httpbin.org"]),
]


@pytest.mark.parametrize(("wanted", "names"), CHOICES, ids=[" ".join(wanted) for wanted, _ in CHOICES])
def test_names_and_patterns_choose(served: Served, wanted: tuple[str, ...], names: list[str]) -> None:
    choice = choose(served, wanted)
    assert [stored.record.name for stored in choice.records] == names
    assert (choice.skipped, choice.unknown) == ((), ())


def test_what_is_not_there_is_named_with_what_is_near(served: Served) -> None:
    choice = choose(served, ["ehco.default.svc.80.mesh", "x*y", "web.mesh"])
    assert [stored.record.name for stored in choice.records] == ["web.mesh"]
    assert choice.unknown[0].startswith("ehco.default.svc.80.mesh: no such name; the nearest: echo.default.svc.80.mesh")
    assert choice.unknown[1] == "x*y: no name is like this"


def test_a_name_that_cannot_be_one_is_skipped_with_its_reason(served: Served) -> None:
    assert choose(served).skipped == (
        "*.wild.mesh: skipped, a wildcard is no name that can be asked for",
        "a_b.mesh: skipped, Kubernetes takes no underscore, and a.b.mesh is another service's name (another)",
        "under_score.mesh: skipped, Kubernetes takes no underscore, and under.score.mesh is not served",
    )


def test_odd_labels_are_skipped(tmp_path: Path) -> None:
    odd = mesh.table(*(mesh.record(name, "240.0.0.1", ports={80: "a"}) for name in ("-a.mesh", "b-.mesh", "c.mesh")))
    with mesh.served(mesh.keep(tmp_path, [("kuma", "v1", odd)], sources=("kuma",))) as known:
        choice = choose(known)
        assert [stored.record.name for stored in choice.records] == ["c.mesh"]  # all are names of service a
        assert "its label '-a' is not of lower-case letters" in choose(known, ["-a.mesh"]).skipped[0]


def test_the_service_says_where_it_comes_from(served: Served) -> None:
    (service,) = generated(served, "orders.svc.mesh.local", options=EVERYTHING).services
    assert service.manifests[0]["metadata"] == {
        "name": "orders-multizone",
        "namespace": "edge",
        "labels": {"app.kubernetes.io/managed-by": "meshdns"},
        "annotations": {
            "kuma.io/ignore": "true",
            "meshdns.io/source": "kuma",
            "meshdns.io/mesh": "default",
            "meshdns.io/service": "kri_msvc_default_default__orders_",
            "meshdns.io/push": "b9b85716-d61a-4569-ab96-5f83b255264f",
        },
    }


def test_pushes_that_do_not_change_a_name_do_not_change_its_service(tmp_path: Path) -> None:
    texts = []
    pushes: list[tuple[str, str, Any]] = []
    for number, (version, table) in enumerate(mesh.recorded(mesh.BASIC)):
        pushes.append(("kuma", version, table))
        with mesh.served(mesh.keep(tmp_path / str(number), pushes, sources=("kuma",))) as known:
            texts.append(to_yaml(generated(known, "my*").services[0].manifests))
    assert len(pushes) == 4
    assert len(set(texts)) == 1


def test_same_store_same_bytes(served: Served) -> None:
    for text in (to_yaml, to_json):
        first, second = (
            text(manifest for each in generated(served, options=EVERYTHING).services for manifest in each.manifests)
            for _ in range(2)
        )
        assert first == second


def test_a_service_that_is_itself_in_that_namespace_is_told(served: Served) -> None:
    notes = generated(served, "echo.default.svc.80.mesh", options=Options("default")).notes
    assert notes == (
        "echo.default.svc.80.mesh: Service default/echo may be the service itself, which this one would replace; "
        "--suffix -multizone gives it a name of its own",
    )
    assert not generated(served, "echo.default.svc.80.mesh", options=Options("default", "-multizone")).notes


def test_without_a_listener_there_is_no_port_and_no_route(served: Served) -> None:
    result = generated(served, "silent.mesh", "quiet.mesh", options=Options(ingress="kong"))
    assert [len(each.manifests) for each in result.services] == [1, 1]
    assert result.notes == (
        "silent.mesh: nothing listens on 240.0.1.3, so Service silent has no port",
        "1 Service has no port: source sidecar does not say on which ports its names are served",
    )
    assert [line.partition(":")[0] for line in result.missing] == ["quiet.mesh", "silent.mesh"]


def test_ports_of_another_source_at_the_same_address_count(tmp_path: Path) -> None:
    kuma = mesh.table(mesh.record("web.mesh", "240.0.0.7", ports={9000: "web"}))
    mine = mesh.table(mesh.record("mine.mesh", "::ffff:240.0.0.7", source="extra"), lenient=False)
    data_dir = mesh.keep(tmp_path, [("kuma", "v1", kuma), ("extra", "v1", mine)], sources=("kuma", "extra"))
    with mesh.served(data_dir) as known:
        assert services(generated(known, "mine.mesh")) == {"mine": ("mine.mesh", {"tcp-9000": 9000})}


def test_a_kept_name_is_told(served: Served) -> None:
    (stored,) = choose(served, ["web.mesh"]).records
    assert "only kept for a while" in generate(served, [replace(stored, held=True)], Options()).notes[0]


# The manifests of the mesh's own documents.


def is_in(part: Any, whole: Any) -> bool:
    """Tell whether every field of *part* is in *whole*, with the same value."""
    if isinstance(part, Mapping):
        return isinstance(whole, Mapping) and all(key in whole and is_in(part[key], whole[key]) for key in part)
    if isinstance(part, list):
        return isinstance(whole, list) and len(part) == len(whole) and all(map(is_in, part, whole))
    return bool(part == whole)


@pytest.mark.parametrize(
    ("file", "name", "options"),
    [
        (
            "echo-multizone.yaml",
            "echo_default_svc_80.mesh",
            Options("default", "-multizone", ingress="kong", path="/bar", route_name="demo-multizone"),
        ),
        ("front.yaml", "frontend.kong.svc.80.mesh", Options(name="front")),
    ],
)
def test_documented_manifests_come_out_field_by_field(served: Served, file: str, name: str, options: Options) -> None:
    documented = list(yaml.safe_load_all((DOCUMENTED / file).read_text()))
    (service,) = generated(served, name, options=options).services
    written = list(yaml.safe_load_all(to_yaml(service.manifests)))
    assert len(written) == len(documented)
    for part, whole in zip(documented, written, strict=True):
        assert is_in(part, whole), (part, whole)


# What Kubernetes says.


@pytest.mark.parametrize("version", [VERSIONS[0], VERSIONS[-1]])
def test_kubernetes_own_schemas_take_every_manifest(served: Served, newest: Served, version: str) -> None:
    seen = set()
    for known in (served, newest):
        for service in generated(known, options=EVERYTHING).services:
            for manifest in yaml.safe_load_all(to_yaml(service.manifests)):
                if manifest["kind"] == "HTTPRoute":
                    continue  # has no schema there
                kubernetes_validate.validate(manifest, version, strict=True)
                seen.add(manifest["kind"])
    assert seen == {"Service", "Ingress"}


def test_an_http_route_has_the_shape_of_gateway_api(served: Served) -> None:
    """Check what gateway.networking.k8s.io/v1 requires of the fields that are written, and that there are no others."""
    routes = [each for service in generated(served, options=EVERYTHING).services for each in service.manifests[2:]]
    assert len(routes) == 19
    for route in routes:
        assert list(route) == ["apiVersion", "kind", "metadata", "spec"]
        assert (route["apiVersion"], route["kind"]) == ("gateway.networking.k8s.io/v1", "HTTPRoute")
        assert route["spec"]["parentRefs"] == [{"name": "public", "namespace": "infra"}]
        (rule,) = route["spec"]["rules"]
        assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": f"/{route['metadata']['name']}"}}]
        (backend,) = rule["backendRefs"]
        assert backend["name"] == route["metadata"]["name"]
        assert set(backend) == {"name", "port"}
        assert 1 <= backend["port"] <= 65535


def test_what_is_generated_is_right_when_linted(served: Served) -> None:
    result = generated(served, options=EVERYTHING)
    texts = [ManifestFile(each.name, to_yaml(each.manifests)) for each in result.services]
    assert lint(texts, served).findings == ()
    everything = [manifest for each in result.services for manifest in each.manifests]
    assert lint([ManifestFile("all.json", to_json(everything))], served).findings == ()


def test_manifests_are_written_in_the_order_of_people(served: Served) -> None:
    (service,) = generated(served, "my.ext.mesh", options=Options("edge", ingress="kong", path="/ext")).services
    assert to_yaml(service.manifests) == (mesh.DATA / "manifests" / "generated" / "my-ext.yaml").read_text()


KEYS = st.text(max_size=20)  # YAML's own limit is 1,024
VALUES = st.recursive(
    st.text()
    | st.integers(0, 65535)
    | st.booleans()
    | st.sampled_from(["on", "0x1f", "1e3", "~", "null", "-", "a: b"]),
    lambda inner: (
        st.dictionaries(KEYS, inner, max_size=5)
        | st.lists(inner.filter(lambda each: not isinstance(each, list)), max_size=5)
    ),
    max_leaves=8,
)


@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=5))
def test_yaml_is_read_as_it_was_meant(value: dict[str, Any]) -> None:
    assert yaml.safe_load(to_yaml([value])) == value
