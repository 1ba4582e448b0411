"""Forwarders with a cache in front of one upstream, ours and others, each as its makers mean it to be, on one core."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.instance import Running, answers, free_port, own_directory, running, serving
from bench.programs import build, found, missing
from bench.settings import LOAD_CORE

KNOWN = "ready.example.com"
"""Asked until a forwarder answers."""

ENTRIES = 10_000
"""Answers that a cache holds, where that can be said; our default, and about CoreDNS's."""


@contextmanager
def upstream() -> Iterator[Running]:
    """Run the upstream that answers everything, beside the load generator."""
    port = free_port()
    with own_directory() as here:
        command = [build("upstream.c", here), port]
        with running("upstream", command, here, port, ready=lambda: answers(port, KNOWN), core=LOAD_CORE) as server:
            yield server


@dataclass(frozen=True, slots=True)
class Forwarder:
    """One forwarder. needs: its command's name, none for ours. how: its configuration in a few words.

    command: (its directory, port, port of the upstream) → its command, after its configuration was written.
    """

    key: str
    title: str
    needs: str
    how: str
    command: Callable[[Path, int, int], list[object]] | None

    @property
    def missing(self) -> str:
        """Why it cannot be measured here; nothing when it can."""
        return missing(self.needs) if self.needs else ""

    @contextmanager
    def serving(self, upstream_port: int) -> Iterator[Running]:
        """Run it in front of 127.0.0.1 *upstream_port* until the block ends; it forwards when given."""
        if self.command is None:
            options = f'upstreams: [{{zone: ".", servers: ["127.0.0.1:{upstream_port}"]}}]\n'
            with serving(["one.mesh"], options=options, ready=lambda port: answers(port, KNOWN)) as server:
                yield server
            return
        port = free_port()
        with own_directory() as here:
            command = self.command(here, port, upstream_port)
            with running(self.title, command, here, port, ready=partial(answers, port, KNOWN)) as server:
                yield server


def _unbound(here: Path, port: int, upstream_port: int) -> list[object]:
    (here / "unbound.conf").write_text(
        f'server:\n  directory: "{here}"\n  interface: 127.0.0.1@{port}\n  do-daemonize: no\n  chroot: ""\n'
        '  username: ""\n  pidfile: ""\n  num-threads: 1\n  use-syslog: no\n  so-rcvbuf: 1m\n  do-ip6: no\n'
        '  module-config: "iterator"\n  do-not-query-localhost: no\nremote-control:\n  control-enable: no\n'
        f'forward-zone:\n  name: "."\n  forward-addr: 127.0.0.1@{upstream_port}\n'
    )
    return [found("unbound"), "-d", "-c", here / "unbound.conf"]


def _dnsmasq(here: Path, port: int, upstream_port: int) -> list[object]:
    words = ["-k", "-C", "/dev/null", "--conf-dir=", "--no-resolv", "--no-hosts", "--pid-file=", "--user="]
    where = ["--listen-address=127.0.0.1", "--bind-interfaces", f"--port={port}", "--log-facility=-"]
    to = [f"--server=127.0.0.1#{upstream_port}", f"--cache-size={ENTRIES}", "--dns-forward-max=1000"]
    return [found("dnsmasq"), *words, *where, *to]


def _coredns(here: Path, port: int, upstream_port: int) -> list[object]:
    (here / "Corefile").write_text(
        f".:{port} {{\n  bind 127.0.0.1\n  cache 3600\n  forward . 127.0.0.1:{upstream_port}\n}}\n"
    )
    return [found("coredns"), "-conf", here / "Corefile"]


def _kresd(here: Path, port: int, upstream_port: int) -> list[object]:
    quiet = ("priming", "ta_update", "ta_signal_query", "detect_time_skew", "detect_time_jump")
    (here / "kresd.conf").write_text(
        f"net.ipv6 = false\nnet.listen('127.0.0.1', {port}, {{ kind = 'dns' }})\ntrust_anchors.remove('.')\n"
        + "".join(f"modules.unload('{module}')\n" for module in quiet)
        + f"cache.open(100 * MB, 'lmdb://{here}')\n"
        + f"policy.add(policy.all(policy.STUB('127.0.0.1@{upstream_port}')))\n"
    )
    return [found("kresd"), "-n", "-c", here / "kresd.conf", here]


OURS = Forwarder("meshdns", "meshdns", "", "`upstreams`, everything else as it is without being told", None)
UNBOUND = Forwarder("unbound", "Unbound", "unbound", "`forward-zone`, one thread, no validation", _unbound)
DNSMASQ = Forwarder("dnsmasq", "dnsmasq", "dnsmasq", f"`cache-size={ENTRIES}`", _dnsmasq)
COREDNS = Forwarder("coredns", "CoreDNS forward+cache", "coredns", "the plug-ins `forward` and `cache` alone", _coredns)
KRESD = Forwarder("kresd", "Knot Resolver", "kresd", "`STUB`, one process, no validation", _kresd)

ALL = (OURS, UNBOUND, DNSMASQ, COREDNS, KRESD)
