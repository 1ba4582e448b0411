"""The ways to run meshdns in a cluster, and the kustomization of a folder that holds one of them."""

from collections.abc import Callable, Iterable, Mapping

from meshdns.kubernetes import forward_target, sidecar
from meshdns.kubernetes.deployment import Deployment

PATCH = "patch.yaml"
"""The file that is no manifest of its own, but changes one of the operator's."""

VARIANTS: Mapping[str, Callable[[Deployment], dict[str, str]]] = {
    "forward-target": lambda deployment: forward_target.manifests(deployment, observer=False),
    "observer": lambda deployment: forward_target.manifests(deployment, observer=True),
    "sidecar": sidecar.manifests,
}
"""Every value of ``generate kubernetes --as`` → file name → text of one YAML document."""


def joined(manifests: Mapping[str, str]) -> str:
    """Give *manifests* as one stream of documents."""
    return "---\n".join(manifests.values())


def kustomization(manifests: Mapping[str, str]) -> str:
    """Give the ``kustomization.yaml`` of a folder that holds *manifests*: a component where one of them is a patch."""
    if PATCH not in manifests:
        head = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
        return head + _resources(manifests)
    return (
        "# A component: named in the kustomization of a workload that has Kuma's sidecar. containerpatch.yaml is\n"
        "# applied by itself, once, because it belongs into the namespace of the control plane.\n"
        "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n"
        + _resources(name for name in manifests if name not in {PATCH, "containerpatch.yaml"})
        + f"patches:\n  - path: {PATCH}\n    target:\n      kind: Deployment\n"
    )


def _resources(names: Iterable[str]) -> str:
    return "resources:\n" + "".join(f"  - {name}\n" for name in names)
