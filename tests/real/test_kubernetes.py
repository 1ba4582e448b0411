"""A real API server takes what is generated, and Services of type ExternalName end at the VIPs of the mesh."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.exception
import dns.rcode
import pytest
import yaml

from meshdns.kubernetes.deployment import Deployment
from meshdns.kubernetes.forwarders import FORWARDERS, Target
from meshdns.kubernetes.manifests import VARIANTS, joined
from tests.kubernetes.test_deployment import APP, CONFIG, OTHER, SIDECAR, manifests, with_sidecar
from tests.parts import COREDNS, KUBE
from tests.real.asking import answers, ask, mesh, target, wait_until
from tests.real.cluster import Cluster, cluster
from tests.real.daemon import daemon, free_port, open_directory
from tests.scale import bound
from tests.serving import Serving

pytestmark = pytest.mark.needs("kube-apiserver")
DEFAULT = Deployment()
EXTERNAL = """
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: default}}
spec:
  type: ExternalName
  externalName: {external}
  ports: [{{name: http, port: 80, protocol: TCP}}]
"""
CONTAINER_PATCHES = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: containerpatches.kuma.io}
spec:
  group: kuma.io
  names: {kind: ContainerPatch, plural: containerpatches}
  scope: Namespaced
  versions:
    - name: v1alpha1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec:
              type: object
              properties:
                sidecarPatch:
                  type: array
                  items:
                    type: object
                    required: [op, path]
                    properties:
                      op: {type: string, enum: [add, remove, replace, move, copy, test]}
                      path: {type: string}
                      value: {type: string}
"""


@pytest.fixture(scope="module")
def kube() -> Iterator[Cluster]:
    """Run one API server, with the namespaces that the manifests name."""
    with open_directory() as directory, cluster(directory) as running:
        namespaces = [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            for name in ("meshdns", "edge", "kuma-system")
        ]
        applied = running.apply(yaml.safe_dump_all(namespaces))
        assert applied.returncode == 0, applied.stderr
        yield running


@pytest.mark.parametrize("variant", ["forward-target", "observer"])
@pytest.mark.parametrize("deployment", [DEFAULT, OTHER], ids=["default", "other"])
def test_every_manifest_is_taken_without_a_warning(kube: Cluster, variant: str, deployment: Deployment) -> None:
    text = joined(VARIANTS[variant](deployment))
    taken = kube.apply(text, "--dry-run=server", "--validate=strict")
    assert taken.returncode == 0, taken.stderr
    assert taken.stdout.count("(server dry run)") == len(VARIANTS[variant](deployment))
    assert [line for line in taken.stderr.splitlines() if "last-applied-configuration" not in line] == []


def test_a_workload_with_the_sidecar_is_taken(kube: Cluster) -> None:
    assert kube.apply(CONTAINER_PATCHES).returncode == 0
    wait_until(lambda: kube.kubectl("get", "containerpatches", "-A").returncode == 0)
    made = manifests("sidecar", SIDECAR)
    text = yaml.safe_dump_all([made["containerpatch.yaml"], made["configmap.yaml"], with_sidecar()])
    taken = kube.apply(text, "--dry-run=server", "--validate=strict")
    assert taken.returncode == 0, taken.stderr
    assert taken.stdout.count("(server dry run)") == 3


def test_a_pod_of_the_deployment_passes_the_restricted_standard(kube: Cluster) -> None:
    applied = kube.apply(VARIANTS["observer"](DEFAULT)["namespace.yaml"])
    assert applied.returncode == 0, applied.stderr
    for name in ("serviceaccount.yaml", "configmap.yaml"):
        assert kube.apply(VARIANTS["observer"](DEFAULT)[name]).returncode == 0
    for variant in ("forward-target", "observer"):
        template = manifests(variant)["deployment.yaml"]["spec"]["template"]
        metadata = {**template["metadata"], "name": "meshdns-0", "namespace": "meshdns"}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        taken = kube.apply(yaml.safe_dump(pod), "--dry-run=server")
        assert taken.returncode == 0, taken.stderr
    pod["spec"]["securityContext"] = {}
    refused = kube.apply(yaml.safe_dump(pod), "--dry-run=server")
    assert "violates PodSecurity" in refused.stderr


def test_the_service_account_can_do_nothing_and_its_token_is_known(kube: Cluster) -> None:
    """Nothing but what everybody may: ask who one is, and what one may."""
    for name in ("namespace.yaml", "serviceaccount.yaml"):
        assert kube.apply(VARIANTS["observer"](DEFAULT)[name]).returncode == 0
    who = "system:serviceaccount:meshdns:meshdns"
    listed = kube.kubectl("auth", "can-i", "--list", "--as", who, "-n", "meshdns", "--no-headers").stdout
    granted = {line.split()[0] for line in listed.splitlines() if not line.startswith(" ")}
    assert granted == {
        "selfsubjectreviews.authentication.k8s.io",
        "selfsubjectaccessreviews.authorization.k8s.io",
        "selfsubjectrulesreviews.authorization.k8s.io",
    }
    for verb, resource in (("get", "secrets"), ("list", "pods"), ("create", "tokenreviews.authentication.k8s.io")):
        assert kube.kubectl("auth", "can-i", verb, resource, "--as", who, "-n", "meshdns").stdout.strip() == "no"
    token = kube.kubectl("create", "token", "meshdns", "-n", "meshdns").stdout.strip()
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    answer = kube.kubectl("create", "-f", "-", "-o", "json", text=json.dumps(review))
    assert json.loads(answer.stdout)["status"]["user"]["username"] == who


def test_kustomize_builds_what_is_generated(kube: Cluster, tmp_path: Path) -> None:
    for folder, variant in (("base", "forward-target"), ("overlays/observer", "observer")):
        built = kustomize(CONFIG / folder)
        assert built == {(one["kind"], one["metadata"]["name"]): in_order(one) for one in manifests(variant).values()}
    (tmp_path / "app.yaml").write_text(yaml.safe_dump(APP))
    (tmp_path / "sidecar").symlink_to(CONFIG / "components" / "sidecar")
    (tmp_path / "kustomization.yaml").write_text("namespace: shop\nresources: [app.yaml]\ncomponents: [sidecar]\n")
    built = kustomize(tmp_path)
    assert set(built) == {("Deployment", "app"), ("ConfigMap", "meshdns")}
    assert built["Deployment", "app"]["spec"] == in_order(with_sidecar())["spec"]
    assert {one["metadata"]["namespace"] for one in built.values()} == {"shop"}


def in_order(value: Any) -> Any:
    """Give *value* with its lists of named things sorted: kustomize joins them in an order of its own."""
    if isinstance(value, dict):
        return {key: in_order(inner) for key, inner in value.items()}
    if isinstance(value, list):
        inner = [in_order(item) for item in value]
        named = all(isinstance(item, dict) and "name" in item for item in inner)
        return sorted(inner, key=lambda item: str(item["name"])) if named else inner
    return value


def kustomize(folder: Path) -> dict[tuple[str, str], Any]:
    """Give what ``kubectl kustomize`` makes of *folder*: (kind, name) → manifest."""
    done = subprocess.run([KUBE / "kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {(one["kind"], one["metadata"]["name"]): in_order(one) for one in yaml.safe_load_all(done.stdout)}


@pytest.fixture(scope="module")
def served() -> Iterator[Serving]:
    """Run a meshdns."""
    with open_directory() as directory, mesh(directory) as server:
        yield server


@pytest.fixture(scope="module")
def dns_port(kube: Cluster, served: Serving) -> Iterator[int]:
    """Run the cluster's CoreDNS with the kubernetes plugin and the generated block; gives its port."""
    port, ready = free_port(), free_port()
    to = target(served.port)
    block = FORWARDERS["coredns"].parts["block"](Target(to.endpoints, to.zones, to.reverse, port, ("127.0.0.1",)))
    with open_directory() as directory:
        (directory / "Corefile").write_text(
            f".:{port} {{\n  bind 127.0.0.1\n  errors\n  ready 127.0.0.1:{ready}\n"
            f"  kubernetes cluster.local {{\n    kubeconfig {kube.kubeconfig} x\n    ttl 5\n  }}\n  cache 5\n}}\n"
            + block
        )
        words = [COREDNS, "-conf", directory / "Corefile"]
        with daemon(directory, words, ready=lambda: _knows_the_cluster(port), as_nobody=False):
            yield port


def _knows_the_cluster(port: int) -> bool:
    try:
        return ask(port, "kubernetes.default.svc.cluster.local", "A", timeout=0.5).rcode() == dns.rcode.NOERROR
    except (dns.exception.DNSException, OSError):
        return False


def generated(served: Serving, *words: str) -> str:
    """Give what ``meshdns generate externalname`` writes from the store of the running instance."""
    command = [sys.executable, "-m", "meshdns", "generate", "externalname", "--config", str(served.config), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.needs("coredns")
def test_a_generated_service_of_type_externalname_ends_at_the_vip(
    kube: Cluster, served: Serving, dns_port: int
) -> None:
    words = ("echo.default.svc.80.mesh", "--suffix=-multizone", "--namespace", "default")
    manifest = generated(served, *words, "--ingress", "kong", "--path", "/bar")
    applied = kube.apply(manifest)
    assert applied.returncode == 0, applied.stderr
    assert "service/echo-multizone created" in applied.stdout
    assert "ingress.networking.k8s.io/" in applied.stdout
    name = "echo-multizone.default.svc.cluster.local"
    wait_until(lambda: ask(dns_port, name, "A").rcode() == dns.rcode.NOERROR)
    for tcp in (False, True):
        reply = ask(dns_port, name, "A", tcp=tcp)
        assert answers(reply, "CNAME") == ("echo.default.svc.80.mesh.",)
        assert answers(reply, "A") == ("240.0.0.4",)
    reply = ask(dns_port, name, "AAAA")
    assert reply.rcode() == dns.rcode.NOERROR
    assert answers(reply, "CNAME") == ("echo.default.svc.80.mesh.",)
    assert answers(reply, "AAAA") == ()
    assert kube.apply(manifest).stdout.count("unchanged") == 2
    assert kube.kubectl("delete", "service,ingress", "-l", "app.kubernetes.io/managed-by=meshdns").returncode == 0
    deleted = time.monotonic()
    wait_until(lambda: ask(dns_port, name, "A").rcode() == dns.rcode.NXDOMAIN)
    assert time.monotonic() - deleted < 5 + bound(1.5)  # the cache of the cluster's own zone


def test_every_name_that_is_served_gives_a_service_that_is_taken(kube: Cluster, served: Serving) -> None:
    taken = kube.apply(generated(served, "--namespace", "default"), "--dry-run=server", "--validate=strict")
    assert taken.returncode == 0, taken.stderr
    assert taken.stdout.count("created (server dry run)") == 7


def test_what_the_api_server_refuses_is_what_we_never_write(kube: Cluster) -> None:
    """Underscores, the spelling that the control plane pushes first, are no host name for Kubernetes."""
    refused = kube.apply(EXTERNAL.format(name="echo", external="echo_default_svc_80.mesh"), "--dry-run=server")
    assert refused.returncode != 0
    assert "externalName" in refused.stderr
