"""Manifests to run meshdns in a cluster: valid in every version of Kubernetes, minimal in rights, and consistent."""

import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import trustme
import yaml

from meshdns.config import Config, parse
from meshdns.kubernetes import forward_target
from meshdns.kubernetes.deployment import Deployment
from meshdns.kubernetes.forwarders.target import CLUSTER_ADDRESS, parse_endpoint
from meshdns.kubernetes.manifests import PATCH, VARIANTS, joined, kustomization
from meshdns.resolver.admission import PRIVATE
from meshdns.xds.settings import KumaSettings

CONFIG = Path(__file__).parent.parent.parent / "config" / "kubernetes"
ROOT = Path(__file__).parent.parent.parent
DEFAULT = Deployment()
OTHER = Deployment(
    name="dns-2",
    namespace="edge",
    image="registry.example:5000/mesh/dns@sha256:0",
    replicas=1,
    cluster_ip=None,
    control_plane="[fd00::1]:5679",
    mesh="payments",
    ca="secret/kuma-ca",
    zones=("mesh",),
    reverse=(),
    clients=(),
    client_networks=(ip_network("10.0.0.0/8"), ip_network("203.0.113.0/24")),
)
CLUSTER_WIDE = ("forward-target", "observer")
SIDECAR = replace(DEFAULT, namespace="default")
APP = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "app", "namespace": "default"},
    "spec": {
        "selector": {"matchLabels": {"app": "app"}},
        "template": {
            "metadata": {"labels": {"app": "app"}},
            "spec": {"containers": [{"name": "app", "image": "app:1"}]},
        },
    },
}


def manifests(variant: str, deployment: Deployment = DEFAULT) -> dict[str, Any]:
    return {name: yaml.safe_load(text) for name, text in VARIANTS[variant](deployment).items()}


def strategic_merge(base: Any, patch: Any, key: str = "") -> Any:
    """What kustomize does, as far as our patches go: mappings join, lists of named things join, others are replaced."""
    if isinstance(base, dict) and isinstance(patch, dict):
        return {
            name: strategic_merge(base[name], patch[name], name) if name in base and name in patch else value
            for name, value in {**base, **patch}.items()
        }
    if isinstance(base, list) and isinstance(patch, list) and key in {"containers", "volumes", "env", "volumeMounts"}:
        named = {item["name"]: item for item in base}
        for item in patch:
            named[item["name"]] = strategic_merge(named.get(item["name"], {}), item)
        return list(named.values())
    return patch


def with_sidecar() -> dict[str, Any]:
    merged: dict[str, Any] = strategic_merge(deepcopy(APP), manifests("sidecar", SIDECAR)[PATCH])
    return merged


def everything() -> Iterator[tuple[str, Any]]:
    for variant in CLUSTER_WIDE:
        for deployment in (DEFAULT, OTHER):
            for name, manifest in manifests(variant, deployment).items():
                yield f"{variant}/{deployment.name}/{name}", manifest
    yield "sidecar/configmap.yaml", manifests("sidecar", SIDECAR)["configmap.yaml"]
    yield "sidecar/patched", with_sidecar()


VERSIONS = sorted(
    (
        path.name
        for path in (Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema").iterdir()
        if path.is_dir() and path.name.startswith("v")
    ),
    key=lambda name: [int(part) for part in name.lstrip("v").split("-")[0].split(".")],
)


@pytest.mark.parametrize("version", [VERSIONS[0], VERSIONS[-1]])
def test_every_manifest_is_valid_in_the_oldest_and_the_newest_kubernetes(version: str) -> None:
    number = version.lstrip("v").split("-")[0]
    for name, manifest in everything():
        try:
            kubernetes_validate.validate(manifest, number, strict=True)
        except kubernetes_validate.ValidationError as error:
            pytest.fail(f"{name}, Kubernetes {number}: {error}")


def test_the_folder_of_the_base_holds_what_is_generated() -> None:
    generated = VARIANTS["forward-target"](DEFAULT)
    held = {path.name: path.read_text() for path in (CONFIG / "base").iterdir()}
    hint = "meshdns generate kubernetes --output-dir config/kubernetes/base"
    assert held == {**generated, "kustomization.yaml": kustomization(generated)}, hint


def test_the_folder_of_the_sidecar_holds_what_is_generated() -> None:
    generated = VARIANTS["sidecar"](SIDECAR)
    held = {path.name: path.read_text() for path in (CONFIG / "components" / "sidecar").iterdir()}
    hint = "meshdns generate kubernetes --as sidecar --output-dir config/kubernetes/components/sidecar"
    assert held == {**generated, "kustomization.yaml": kustomization(generated)}, hint


def test_base_and_overlay_together_are_the_observer_that_is_generated() -> None:
    folder = CONFIG / "overlays" / "observer"
    merged = manifests("forward-target")
    for patch in yaml.safe_load((folder / "kustomization.yaml").read_text())["patches"]:
        name = patch["path"]
        merged[name] = strategic_merge(merged[name], yaml.safe_load((folder / name).read_text()))
    assert merged == manifests("observer")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("deployment", [DEFAULT, OTHER])
def test_the_same_cluster_gives_the_same_bytes(variant: str, deployment: Deployment) -> None:
    text = joined(VARIANTS[variant](deployment))
    assert text == joined(VARIANTS[variant](replace(deployment)))
    assert all(line == line.rstrip() and len(line) <= 120 for line in text.splitlines() if "allow:" not in line)
    assert len(list(yaml.safe_load_all(text))) == len(VARIANTS[variant](deployment))


def configuration(variant: str, deployment: Deployment, directory: Path) -> Config:
    """Read the generated meshdns.yaml as a Pod would: beside it what the projected volume holds."""
    text = manifests(variant, deployment)["configmap.yaml"]["data"]["meshdns.yaml"]
    return parse(text, directory / "meshdns.yaml", {"POD_NAME": "meshdns-5d9f-x2x7q", "POD_NAMESPACE": "edge"})


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """Give a folder with the files that a Pod finds in /etc/meshdns."""
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    (tmp_path / "token").write_text("eyJ0b2tlbiI6MX0\n")
    return tmp_path


@pytest.mark.parametrize("deployment", [DEFAULT, OTHER])
@pytest.mark.parametrize(
    ("variant", "dataplane", "register"),
    [("forward-target", "meshdns-5d9f-x2x7q", True), ("observer", "meshdns-5d9f-x2x7q.edge", False)],
)
def test_every_replica_is_a_dataplane_of_its_own(
    mounted: Path, variant: str, dataplane: str, register: bool, deployment: Deployment
) -> None:
    config = configuration(variant, deployment, mounted)
    (source,) = config.sources
    assert isinstance(source, KumaSettings)
    assert (source.dataplane, source.register_dataplane) == (dataplane, register)
    assert (source.address, source.mesh) == (deployment.control_plane, deployment.mesh)
    assert source.ca_file == mounted / "ca.crt"
    assert source.token_file == mounted / "token"
    assert (config.zones, config.reverse) == (deployment.zones, deployment.reverse)


def test_the_configuration_of_a_sidecar_reads_the_shared_socket(tmp_path: Path) -> None:
    config = configuration("sidecar", SIDECAR, tmp_path)
    mounts = {
        mount["name"]: mount["mountPath"]
        for container in with_sidecar()["spec"]["template"]["spec"]["containers"]
        for mount in container.get("volumeMounts", ())
    }
    (source,) = config.sources
    assert str(source.socket.parent) == mounts["kuma-dp-sockets"]  # type: ignore[union-attr]
    patch = manifests("sidecar")["containerpatch.yaml"]["spec"]["sidecarPatch"]
    assert [yaml.safe_load(operation["value"]) for operation in patch] == [
        {"name": "kuma-dp-sockets", "mountPath": mounts["kuma-dp-sockets"]},
        {"name": "KUMA_DATAPLANE_RUNTIME_SOCKET_DIR", "value": mounts["kuma-dp-sockets"]},
    ]


@pytest.mark.parametrize("variant", VARIANTS)
def test_check_finds_no_fault_in_the_configuration(mounted: Path, variant: str) -> None:
    path = mounted / "meshdns.yaml"
    path.write_text(manifests(variant)["configmap.yaml"]["data"]["meshdns.yaml"])
    checked = subprocess.run(
        [sys.executable, "-m", "meshdns", "check", "--config", path],
        env={"POD_NAME": "meshdns-0", "POD_NAMESPACE": "meshdns", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_clients_beyond_private_ranges_are_allowed_besides_those(mounted: Path) -> None:
    assert configuration("observer", DEFAULT, mounted).allow == ()
    assert configuration("observer", OTHER, mounted).allow == (*PRIVATE, ip_network("203.0.113.0/24"))
    assert forward_target.PRIVATE == PRIVATE


@pytest.mark.parametrize("variant", CLUSTER_WIDE)
def test_resolvers_that_ask_for_everybody_are_not_limited_as_strangers_are(mounted: Path, variant: str) -> None:
    config = configuration(variant, DEFAULT, mounted)
    assert (config.rate_limit.errors, config.rate_limit.identical) == (0, 0)
    assert config.tcp.per_source >= 1024


def pod_specs() -> Iterator[tuple[str, Any]]:
    for variant in CLUSTER_WIDE:
        yield variant, manifests(variant)["deployment.yaml"]["spec"]["template"]["spec"]
    yield "sidecar", manifests("sidecar")[PATCH]["spec"]["template"]["spec"]


@pytest.mark.parametrize(("variant", "spec"), list(pod_specs()))
def test_the_container_has_no_right_that_it_could_lack(variant: str, spec: Any) -> None:
    (container,) = spec["containers"]
    context = {**spec.get("securityContext", {}), **container["securityContext"]}
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == (5678 if variant == "sidecar" else 65532)
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert {"requests", "limits"} <= set(container["resources"])
    probe = container["readinessProbe"]["exec"]["command"]
    assert probe[:3] == ["meshdns", "status", "--ready"]
    assert container["args"][0] == "serve"
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    mounted = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    assert "emptyDir" in mounted["/var/lib/meshdns"]
    assert configmap_of(mounted["/etc/meshdns"]) == "meshdns"


def configmap_of(volume: Any) -> str:
    sources = volume["projected"]["sources"] if "projected" in volume else [volume]
    return str(sources[0]["configMap"]["name"])


@pytest.mark.parametrize("variant", CLUSTER_WIDE)
def test_nothing_grants_a_right_in_the_cluster(variant: str) -> None:
    made = manifests(variant)
    assert not {manifest["kind"] for manifest in made.values()} & {"Role", "ClusterRole", "RoleBinding"}
    assert made["serviceaccount.yaml"]["automountServiceAccountToken"] is False
    assert made["deployment.yaml"]["spec"]["template"]["spec"]["automountServiceAccountToken"] is False


@pytest.mark.parametrize("variant", CLUSTER_WIDE)
@pytest.mark.parametrize("deployment", [DEFAULT, OTHER])
def test_service_budget_and_policy_find_the_pods(variant: str, deployment: Deployment) -> None:
    made = manifests(variant, deployment)
    template = made["deployment.yaml"]["spec"]["template"]
    labels = template["metadata"]["labels"].items()
    assert made["deployment.yaml"]["spec"]["selector"]["matchLabels"].items() <= labels
    assert made["service.yaml"]["spec"]["selector"].items() <= labels
    assert made["poddisruptionbudget.yaml"]["spec"]["selector"]["matchLabels"].items() <= labels
    assert made["networkpolicy.yaml"]["spec"]["podSelector"]["matchLabels"].items() <= labels


@pytest.mark.parametrize("variant", CLUSTER_WIDE)
def test_port_53_of_both_protocols_leads_to_the_pods_listeners(mounted: Path, variant: str) -> None:
    made = manifests(variant)
    (container,) = made["deployment.yaml"]["spec"]["template"]["spec"]["containers"]
    inside = {(port["name"], port["protocol"]): port["containerPort"] for port in container["ports"]}
    reached = {
        port["protocol"]: (port["port"], inside[port["targetPort"], port["protocol"]])
        for port in made["service.yaml"]["spec"]["ports"]
    }
    assert reached == {"UDP": (53, 15053), "TCP": (53, 15053)}
    assert configuration(variant, DEFAULT, mounted).listen == ("0.0.0.0:15053", "[::]:15053")
    opened = made["networkpolicy.yaml"]["spec"]["ingress"][0]["ports"]
    assert {(port["protocol"], port["port"]) for port in opened} == {("UDP", 15053), ("TCP", 15053)}


def test_the_service_has_the_address_that_forwarders_are_told() -> None:
    assert manifests("observer")["service.yaml"]["spec"]["clusterIP"] == str(parse_endpoint(CLUSTER_ADDRESS).address)
    assert "clusterIP" not in manifests("observer", OTHER)["service.yaml"]["spec"]


def test_an_observer_carries_the_words_of_kuma_2_and_3() -> None:
    template = manifests("observer", OTHER)["deployment.yaml"]["spec"]["template"]["metadata"]
    assert template["labels"]["kuma.io/mesh"] == template["annotations"]["kuma.io/mesh"] == "payments"
    assert template["labels"]["kuma.io/sidecar-injection"] == "disabled"
    assert template["annotations"] == {
        "kuma.io/sidecar-injected": "true",
        "kuma.io/sidecar-injection": "disabled",
        "kuma.io/gateway": "enabled",
        "kuma.io/mesh": "payments",
        "kuma.io/transparent-proxying": "enabled",
        "kuma.io/transparent-proxying-inbound-port": "15006",
        "kuma.io/transparent-proxying-outbound-port": "15001",
        "kuma.io/transparent-proxying-ip-family-mode": "dualstack",
    }


def token_source(variant: str, deployment: Deployment = DEFAULT) -> Any:
    spec = manifests(variant, deployment)["deployment.yaml"]["spec"]["template"]["spec"]
    return spec["volumes"][0]["projected"]["sources"][1:]


def test_the_token_is_the_secrets_or_the_service_accounts() -> None:
    (ca, token) = token_source("forward-target")
    assert ca == {"configMap": {"name": "meshdns-ca", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}
    assert token == {"secret": {"name": "meshdns-token", "items": [{"key": "token", "path": "token"}]}}
    (ca, token) = token_source("observer", OTHER)
    assert ca == {"secret": {"name": "kuma-ca", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}
    assert token == {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}


def test_who_may_ask_is_what_was_named() -> None:
    (rule,) = manifests("observer")["networkpolicy.yaml"]["spec"]["ingress"]
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}]
    (rule,) = manifests("observer", OTHER)["networkpolicy.yaml"]["spec"]["ingress"]
    assert rule["from"] == [{"ipBlock": {"cidr": "10.0.0.0/8"}}, {"ipBlock": {"cidr": "203.0.113.0/24"}}]
    assert manifests("observer", OTHER)["networkpolicy.yaml"]["spec"]["egress"][0]["ports"][0]["port"] == 5679


WRONG = [
    ({"name": "Mesh"}, "--name"),
    ({"name": "1dns"}, "--name"),
    ({"namespace": "a b"}, "--namespace"),
    ({"namespace": "x" * 64}, "--namespace"),
    ({"image": "a b"}, "--image"),
    ({"image": "a\nb"}, "--image"),
    ({"image": ""}, "--image"),
    ({"replicas": 0}, "--replicas"),
    ({"cluster_ip": "10.96.0.300"}, "--cluster-ip"),
    ({"control_plane": "kuma"}, "--control-plane"),
    ({"control_plane": "kuma:99999"}, "--control-plane"),
    ({"mesh": "a: b"}, "--mesh"),
    ({"ca": "meshdns-ca"}, "--ca"),
    ({"ca": "secret/A"}, "--ca"),
    ({"clients": ("kube-system", "*")}, "--allow-namespace"),
    ({"workload": "-"}, "--workload"),
]


@pytest.mark.parametrize(("given", "option"), WRONG)
def test_what_would_make_a_broken_manifest_is_refused_by_its_option(given: dict[str, Any], option: str) -> None:
    with pytest.raises(ValueError, match=f"^{option}"):
        replace(DEFAULT, **given)
