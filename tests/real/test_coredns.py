"""A real CoreDNS with the generated block in front of meshdns: what a cluster's Pods get."""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import pytest
import yaml

from meshdns.kubernetes.configmap import merge
from meshdns.kubernetes.forwarders import FORWARDERS, Target
from tests.parts import COREDNS
from tests.real.asking import (
    BIG,
    QUESTIONS,
    RECORDS,
    Asked,
    answers,
    answers_mesh,
    ask,
    check,
    configuration,
    mesh,
    target,
    wait_until,
)
from tests.real.daemon import Daemon, daemon, free_port, open_directory
from tests.scale import bound, scale
from tests.serving import Serving, serving

pytestmark = pytest.mark.needs("coredns")

CLUSTER_ZONE = """
$ORIGIN svc.cluster.local.
@ 30 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5
web-external.default 30 IN CNAME web.mesh.
dual-external.default 30 IN CNAME dual.mesh.
gone-external.default 30 IN CNAME nobody.mesh.
"""


@contextmanager
def coredns(directory: Path, block: str, port: int, ready: Callable[[], bool] | None = None) -> Iterator[Daemon]:
    """Run CoreDNS with *block* beside the blocks that a cluster has."""
    (directory / "zone").write_text(CLUSTER_ZONE)
    (directory / "Corefile").write_text(
        f"svc.cluster.local:{port} {{\n  bind 127.0.0.1\n  errors\n  file {directory}/zone\n}}\n"
        f".:{port} {{\n  bind 127.0.0.1\n  errors\n  loop\n  cache 30\n  forward . 127.0.0.1:1\n}}\n" + block
    )
    words = [COREDNS, "-conf", directory / "Corefile"]
    with daemon(directory, words, ready=ready or (lambda: answers_mesh(port)), as_nobody=False) as running:
        yield running


def block(to: Target) -> str:
    return FORWARDERS["coredns"].parts["block"](Target(to.endpoints, to.zones, to.reverse, to.port, ("127.0.0.1",)))


@dataclass
class Chain:
    """CoreDNS in front of meshdns."""

    port: int
    mesh: Serving
    coredns: Daemon

    def records(self, text: str) -> None:
        """Replace what the records file holds."""
        (self.mesh.config.parent / "records.yaml").write_text(text)


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    """Run both for the module."""
    port = free_port()
    with (
        open_directory() as directory,
        mesh(directory) as server,
        coredns(directory, block(target(server.port, port=port)), port) as running,
    ):
        yield Chain(port, server, running)


@pytest.mark.parametrize("asked", QUESTIONS, ids=str)
def test_every_question_has_the_same_answer_through_coredns(chain: Chain, asked: Asked) -> None:
    check(chain.port, asked, tcp=False)
    check(chain.port, asked, tcp=True)


def test_sixty_addresses_come_truncated_over_udp_and_whole_over_tcp(chain: Chain) -> None:
    query = dns.message.make_query("big.mesh", "A")
    first = dns.query.udp(query, "127.0.0.1", 5, chain.port)
    assert first.flags & dns.flags.TC
    reply, over_tcp = dns.query.udp_with_fallback(query, "127.0.0.1", 5, chain.port)
    assert over_tcp
    assert answers(reply, "A") == BIG
    large = dns.message.make_query("big.mesh", "A", use_edns=0, payload=1232)
    assert answers(dns.query.udp(large, "127.0.0.1", 5, chain.port), "A") == BIG


def test_a_cname_of_the_cluster_is_followed_to_the_vip(chain: Chain) -> None:
    reply = ask(chain.port, "web-external.default.svc.cluster.local", "A")
    assert answers(reply, "CNAME") == ("web.mesh.",)
    assert answers(reply, "A") == ("240.0.0.1",)
    reply = ask(chain.port, "dual-external.default.svc.cluster.local", "AAAA")
    assert answers(reply, "AAAA") == ("fd00:fd00::3",)


def test_a_cname_to_an_a_only_name_has_no_aaaa_and_is_no_error(chain: Chain) -> None:
    reply = ask(chain.port, "web-external.default.svc.cluster.local", "AAAA")
    assert reply.rcode() == dns.rcode.NOERROR
    assert answers(reply, "CNAME") == ("web.mesh.",)
    assert answers(reply, "AAAA") == ()


def test_a_denial_is_kept_five_seconds_and_no_longer(chain: Chain) -> None:
    assert ask(chain.port, "new.mesh", "A").rcode() == dns.rcode.NXDOMAIN
    denied = time.monotonic()
    chain.records(RECORDS + "  new.mesh: 240.0.0.77\n")
    try:
        wait_until(lambda: answers(ask(chain.mesh.port, "new.mesh", "A"), "A") == ("240.0.0.77",))
        assert ask(chain.port, "new.mesh", "A").rcode() == dns.rcode.NXDOMAIN, "not kept at all?"
        wait_until(lambda: answers(ask(chain.port, "new.mesh", "A"), "A") == ("240.0.0.77",))
        assert time.monotonic() - denied < 5 + bound(1.5)
    finally:
        chain.records(RECORDS)


def test_a_name_that_a_push_removed_is_gone_within_its_ttl(chain: Chain) -> None:
    chain.records(RECORDS + "  leaving.mesh: {addresses: 240.0.0.88, ttl: 3}\n")
    wait_until(lambda: answers(ask(chain.mesh.port, "leaving.mesh", "A"), "A") == ("240.0.0.88",))
    assert answers(ask(chain.port, "leaving.mesh", "A"), "A") == ("240.0.0.88",)
    chain.records(RECORDS)
    wait_until(lambda: ask(chain.mesh.port, "leaving.mesh", "A").rcode() == dns.rcode.NXDOMAIN)
    removed = time.monotonic()
    wait_until(lambda: ask(chain.port, "leaving.mesh", "A").rcode() == dns.rcode.NXDOMAIN)
    assert time.monotonic() - removed <= 3 + bound(0.5)


def test_an_instance_that_comes_back_is_used_again_at_once(tmp_path: Path) -> None:
    mesh_port, port = free_port(), free_port()
    with open_directory() as directory:
        with (
            mesh(tmp_path, listen=f"127.0.0.1:{mesh_port}"),
            coredns(directory, block(target(mesh_port, port=port)), port),
        ):
            pass
        with coredns(directory, block(target(mesh_port, port=port)), port, lambda: _replies(port)):
            assert ask(port, "web.mesh", "A", timeout=8).rcode() == dns.rcode.SERVFAIL
            with mesh(tmp_path, listen=f"127.0.0.1:{mesh_port}"):
                back = time.monotonic()
                wait_until(lambda: answers_mesh(port))
                assert time.monotonic() - back < bound(2)


def _replies(port: int) -> bool:
    try:
        return ask(port, "web-external.default.svc.cluster.local", "CNAME", timeout=0.3).rcode() == dns.rcode.NOERROR
    except (dns.exception.DNSException, OSError):
        return False


def test_the_merged_configmap_is_read_by_coredns(chain: Chain) -> None:
    """The whole value of a merged ConfigMap, with only what needs a cluster taken out."""
    port = free_port()
    data = Path(__file__).parent.parent / "data" / "configmaps" / "port-1053.yaml"
    text = data.read_text().replace(":1053", f":{port}").replace("10.0.0.10 fd00::10", "127.0.0.1")
    text = "\n".join(line for line in text.splitlines() if "kubernetes cluster.local" not in line) + "\n"
    text = text.replace("tls://mesh:853", f"corp:{port}").replace("    errors\n    }\n", "    errors\n    }\n")
    merged = merge(text, "coredns", target(chain.mesh.port), path="map.yaml")
    with open_directory() as directory:
        corefile = yaml.safe_load(merged)["data"]["Corefile"]
        (directory / "Corefile").write_text(corefile)
        words = [COREDNS, "-conf", directory / "Corefile"]
        with daemon(directory, words, ready=lambda: answers_mesh(port), as_nobody=False):
            check(port, QUESTIONS[0], tcp=False)


def test_nodelocal_asks_over_tcp(chain: Chain) -> None:
    port = free_port()
    to = target(chain.mesh.port)
    text = FORWARDERS["nodelocal"].parts["block"](Target(to.endpoints, to.zones, to.reverse, port, ("127.0.0.1",)))
    text = text.replace("prometheus :9253", f"prometheus 127.0.0.1:{free_port()}")
    with open_directory() as directory, coredns(directory, text, port):
        for asked in QUESTIONS:
            check(port, asked, tcp=False)


@pytest.mark.timeout(300)
async def test_no_query_fails_while_two_instances_are_restarted_in_turn(tmp_path: Path) -> None:
    """Names under a wildcard, each asked once: nothing comes from CoreDNS' cache. Each instance is restarted."""
    count = scale(10_000)
    ports = (free_port(), free_port())
    port = free_port()
    homes = []
    for number in range(2):
        home = tmp_path / str(number)
        home.mkdir()
        (home / "records.yaml").write_text(RECORDS)
        homes.append(home)
    texts = [configuration(f"127.0.0.1:{number}", drain="500ms") for number in ports]
    running = [serving(home, text) for home, text in zip(homes, texts, strict=True)]
    for server in running:
        server.__enter__()
    failures: list[str] = []
    asked = 0
    restarts = 0

    async def client() -> None:
        nonlocal asked
        while asked < count or (restarts < 2 and not restarting.done()):
            index = asked
            asked += 1
            over_tcp = index % 10 == 0
            query = dns.message.make_query(f"n{index}.wild.mesh", "A")
            send = dns.asyncquery.tcp if over_tcp else dns.asyncquery.udp
            try:
                reply = await send(query, "127.0.0.1", 5, port)
                if answers(reply, "A") != ("240.0.0.2",):
                    failures.append(f"{index}: {reply.rcode()}")
            except (dns.exception.DNSException, OSError) as error:
                failures.append(f"{index} {'tcp' if over_tcp else 'udp'}: {error!r}")
            await asyncio.sleep(0.02)  # a rate, so that the restarts fall within the run

    async def restart(done: asyncio.Event) -> None:
        nonlocal restarts
        for number in itertools.cycle(range(2)):
            await asyncio.to_thread(running[number].__exit__, None, None, None)
            running[number] = serving(homes[number], texts[number])
            await asyncio.to_thread(running[number].__enter__)
            restarts += 1
            if done.is_set():
                return

    try:
        with open_directory() as directory, coredns(directory, block(target(*ports, port=port)), port) as forwarder:
            done = asyncio.Event()
            restarting = asyncio.create_task(restart(done))
            await asyncio.gather(*(client() for _ in range(16)))
            done.set()
            await restarting
            log = forwarder.logged()
    finally:
        for instance in running:
            instance.__exit__(None, None, None)
    print(f"{asked} queries, {len(failures)} failed, {restarts} restarts")
    assert failures == [], log
    assert asked >= count
