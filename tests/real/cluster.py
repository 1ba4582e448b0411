"""A Kubernetes API server for tests, with its etcd: what can be applied to it is what a cluster takes.

There are no controllers and no nodes: objects are kept, nothing acts on them.
"""

import json
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.parts import KUBE, which
from tests.real.daemon import daemon, free_port

ADMIN = "admin-token"
SERVICE_RANGE = "10.96.0.0/16"


@dataclass(frozen=True)
class Cluster:
    """A running API server."""

    directory: Path
    port: int

    @property
    def kubeconfig(self) -> Path:
        """The file that kubectl and CoreDNS read; its context is called ``x``."""
        return self.directory / "kubeconfig"

    def kubectl(self, *words: str | Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run ``kubectl`` as administrator, with *text* on its standard input."""
        command: Sequence[str | Path] = [KUBE / "kubectl", "--kubeconfig", self.kubeconfig, *words]
        return subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)

    def apply(self, text: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Apply the manifests in *text*."""
        return self.kubectl("apply", "-f", "-", *words, text=text)


@contextmanager
def cluster(directory: Path) -> Iterator[Cluster]:
    """Run etcd and an API server in *directory* until the block ends."""
    client, peer, port = free_port(), free_port(), free_port()
    openssl = which("openssl")
    key, public = directory / "sa.key", directory / "sa.pub"
    subprocess.run([openssl, "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    subprocess.run([openssl, "rsa", "-in", key, "-pubout", "-out", public], check=True, capture_output=True)
    (directory / "tokens.csv").write_text(f'{ADMIN},admin,u1,"system:masters"\n')
    here = "http://127.0.0.1"
    etcd: list[str | Path] = [
        KUBE / "etcd",
        *("--name", "t", "--data-dir", directory / "etcd"),
        *("--listen-client-urls", f"{here}:{client}", "--advertise-client-urls", f"{here}:{client}"),
        *("--listen-peer-urls", f"{here}:{peer}", "--initial-advertise-peer-urls", f"{here}:{peer}"),
        *("--initial-cluster", f"t={here}:{peer}", "--unsafe-no-fsync", "--logger", "zap", "--log-level", "warn"),
    ]
    server: list[str | Path] = [
        KUBE / "kube-apiserver",
        f"--etcd-servers={here}:{client}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={directory / 'certs'}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={public}",
        f"--service-account-signing-key-file={key}",
        "--authorization-mode=RBAC",
        f"--token-auth-file={directory / 'tokens.csv'}",
    ]
    running = Cluster(directory, port)
    with (
        daemon(directory, etcd, ready=lambda: "true" in _get(f"{here}:{client}/health"), as_nobody=False),
        daemon(directory, server, ready=lambda: _get(f"https://127.0.0.1:{port}/readyz") == "ok", as_nobody=False),
    ):
        running.kubeconfig.write_text(json.dumps(_kubeconfig(running)))
        yield running


def _kubeconfig(running: Cluster) -> dict[str, object]:
    authority = str(running.directory / "certs" / "apiserver.crt")
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "clusters": [
            {
                "name": "x",
                "cluster": {"server": f"https://127.0.0.1:{running.port}", "certificate-authority": authority},
            }
        ],
        "users": [{"name": "x", "user": {"token": ADMIN}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    }


def _get(url: str) -> str:
    """Give what *url* has, whatever its certificate (the server makes one at its start); nothing without a server."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with urllib.request.urlopen(url, timeout=1, context=context if url.startswith("https") else None) as reply:
            return str(reply.read().decode())
    except OSError:
        return ""
