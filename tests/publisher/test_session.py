"""The server's side of a stream, step by step: what is sent to whom, in which order, and what is not."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from meshdns.publisher.packed import CLUSTER, ENDPOINT, LISTENER, Packed
from meshdns.publisher.session import CHUNK, RETRY_REFUSED, WARM_PATIENCE, Protocol, Request, Response, Session, shorten
from meshdns.publisher.snapshot import Snapshot
from meshdns.publisher.subscription import ACK_PATIENCE

KINDS = {
    "C": CLUSTER,
    "E": ENDPOINT,
    "L": LISTENER,
    "R": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
}
LETTERS = {url: letter for letter, url in KINDS.items()}
both = pytest.mark.parametrize("protocol", ["sotw", "delta"])


def snapshot(text: str) -> Snapshot:
    """``C:a=1 E:a=1 L:x=1``: resources with the version of their content."""
    resources: dict[str, dict[str, Packed]] = {CLUSTER: {}, ENDPOINT: {}, LISTENER: {}}
    for word in text.split():
        kind, _, rest = word.partition(":")
        name, _, version = rest.partition("=")
        body = f"{name}={version}"
        resources[KINDS[kind]][name] = Packed(hashlib.sha256(body.encode()).hexdigest()[:16], body.encode())
    return Snapshot(resources)


def version(name: str, number: int) -> str:
    return snapshot(f"C:{name}={number}").resources[CLUSTER][name].version


def shown(response: Response) -> str:
    """``C a=1 b=2 -c``"""
    words = [LETTERS[response.type_url], *sorted(packed.any.decode()[:20] for packed in response.resources.values())]
    return " ".join([*words, *(f"-{name}" for name in sorted(response.removed))])


@dataclass
class Client:
    """A client that acknowledges when it is told to."""

    session: Session
    protocol: Protocol
    now: float = 0.0
    nonces: dict[str, str] = field(default_factory=dict)
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def ask(self, kind: str, *names: str, versions: Mapping[str, str] | None = None) -> None:
        self.names[kind] = names
        request = Request(KINDS[kind], self.nonces.get(kind, ""), names=names, initial_versions=versions or {})
        if self.protocol == "delta":
            request = Request(KINDS[kind], names=names, initial_versions=versions or {})
        self.session.receive(request, self.now)

    def answer(self, kind: str, error: str = "") -> None:
        names = self.names.get(kind, ()) if self.protocol == "sotw" else ()
        self.session.receive(Request(KINDS[kind], self.nonces[kind], names=names, error=error), self.now)

    def get(self) -> list[str]:
        """Everything that is sent now, without an answer."""
        found = []
        while (response := self.session.poll(self.now)) is not None:
            self.nonces[LETTERS[response.type_url]] = response.nonce
            found.append(shown(response))
        return found

    def follow(self) -> list[str]:
        """Everything that is sent, each acknowledged at once; endpoints are asked for as Envoy does it."""
        found = []
        while sent := self.get():
            for line in sent:
                found.append(line)
                self.answer(line[0])
        return found


def client(protocol: Protocol, text: str) -> Client:
    return Client(Session(protocol, snapshot(text)), protocol)


def envoy(protocol: Protocol, text: str) -> Client:
    """A client that has asked for everything and has it."""
    made = client(protocol, text)
    made.ask("C")
    made.follow()
    made.ask("E", *(word[2:].partition("=")[0] for word in text.split() if word[0] == "E"))
    made.follow()
    made.ask("L")
    made.follow()
    return made


@both
def test_a_client_that_asks_for_all_types_at_once_gets_them_in_order(protocol: Protocol) -> None:
    made = client(protocol, "C:a=1 E:a=1 L:x=1")
    made.ask("L")
    made.ask("E", "a")
    made.ask("C")
    assert made.get() == ["C a=1", "E a=1"]
    made.answer("E")
    assert made.get() == []
    made.answer("C")
    assert made.get() == ["L x=1"]
    made.answer("L")
    assert made.get() == []


@both
@pytest.mark.parametrize("kind", ["C", "L", "R"])
def test_an_empty_answer_is_an_answer(protocol: Protocol, kind: str) -> None:
    made = client(protocol, "E:a=1")
    made.ask(kind)
    assert made.follow() == [kind]
    assert made.follow() == []


@both
def test_endpoints_are_never_all_of_them(protocol: Protocol) -> None:
    made = client(protocol, "E:a=1 E:b=1")
    made.ask("E")
    assert made.follow() == ["E"]


@both
def test_a_star_is_everything(protocol: Protocol) -> None:
    made = client(protocol, "L:x=1 L:y=1")
    made.ask("L", "*")
    assert made.follow() == ["L x=1 y=1"]


@both
def test_named_listeners_only(protocol: Protocol) -> None:
    made = client(protocol, "L:x=1 L:y=1")
    made.ask("L", "y")
    assert made.follow() == ["L y=1"]
    made.session.offer(snapshot("L:x=2 L:y=1"))
    assert made.follow() == []
    made.session.offer(snapshot("L:x=2 L:y=2"))
    assert made.follow() == ["L y=2"]


CHANGES = [
    # before, after, what delta is sent, what SotW is sent
    ("C:a=1 E:a=1 L:x=1", "C:a=1 E:a=2 L:x=1", ["E a=2"], ["E a=2"]),
    ("C:a=1 E:a=1 L:x=1 L:y=1", "C:a=1 E:a=1 L:x=2 L:y=1", ["L x=2"], ["L x=2 y=1"]),
    ("C:a=1 E:a=1 L:x=1 L:y=1", "C:a=1 E:a=1 L:x=1", ["L -y"], ["L x=1"]),
    # a service goes: nothing leads to its cluster any more before the cluster goes
    (
        "C:a=1 C:b=1 E:a=1 E:b=1 L:x=1 L:y=1",
        "C:a=1 E:a=1 L:x=1",
        ["L -y", "E -b", "C -b"],
        ["L x=1", "C a=1"],
    ),
    # a cluster changes: its endpoints are sent again, for it waits for them
    ("C:a=1 C:b=1 E:a=1 E:b=1 L:x=1", "C:a=2 C:b=1 E:a=1 E:b=1 L:x=1", ["C a=2", "E a=1"], ["C a=2 b=1", "E a=1"]),
    # one cluster takes the place of the other, of which the client already knows the endpoints
    (
        "C:a=1 E:a=1 E:b=1 L:x=1",
        "C:b=1 E:b=1 L:x=2",
        ["C b=1", "E b=1", "L x=2", "E -a", "C -a"],
        ["C a=1 b=1", "E b=1", "L x=2", "C b=1"],
    ),
    ("C:a=1 E:a=1 L:x=1", "C:a=1 E:a=1 L:x=1", [], []),
    ("C:a=1 E:a=1 L:x=1", "", ["L -x", "E -a", "C -a"], ["L", "C"]),
]


@pytest.mark.parametrize(("before", "after", "delta", "sotw"), CHANGES)
def test_what_a_change_sends(before: str, after: str, delta: list[str], sotw: list[str]) -> None:
    for protocol, expected in (("delta", delta), ("sotw", sotw)):
        made = envoy(protocol, before)  # type: ignore[arg-type]
        made.session.offer(snapshot(after))
        assert made.follow() == expected
        assert made.follow() == []


@both
def test_listeners_wait_for_the_endpoints_of_a_new_cluster(protocol: Protocol) -> None:
    made = envoy(protocol, "C:a=1 E:a=1 L:x=1")
    made.session.offer(snapshot("C:a=1 C:b=1 E:a=1 E:b=1 L:x=1 L:y=1"))
    assert [line[0] for line in made.get()] == ["C"]
    assert made.get() == []  # nobody has asked for the endpoints of b yet
    made.ask("E", "a", "b") if protocol == "sotw" else made.ask("E", "b")
    assert made.get() == ["E b=1"]
    assert made.get() == []
    made.answer("E")
    made.answer("C")  # Envoy says this only when it has the endpoints
    assert [line[0] for line in made.get()] == ["L"]


@both
def test_listeners_do_not_wait_for_ever_for_endpoints_that_nobody_wants(protocol: Protocol) -> None:
    made = envoy(protocol, "C:a=1 E:a=1 L:x=1")
    made.session.offer(snapshot("C:a=1 C:b=1 E:a=1 E:b=1 L:x=1 L:y=1"))
    made.get()
    made.answer("C")
    assert made.get() == []
    wake = made.session.wakes_at(made.now)
    assert wake == WARM_PATIENCE
    made.now = wake
    assert [line[0] for line in made.get()] == ["L"]


@both
def test_a_client_that_is_slow_gets_only_the_latest(protocol: Protocol) -> None:
    made = envoy(protocol, "C:a=1 E:a=1 L:x=1")
    made.session.offer(snapshot("C:a=1 E:a=2 L:x=1"))
    assert made.get() == ["E a=2"]
    for number in (3, 4, 5):
        made.session.offer(snapshot(f"C:a=1 E:a={number} L:x=1"))
        assert made.get() == []
    made.answer("E")
    assert made.get() == ["E a=5"]


@both
def test_a_client_that_never_acknowledges_is_not_waited_for_for_ever(protocol: Protocol) -> None:
    made = envoy(protocol, "C:a=1 E:a=1 L:x=1")
    made.session.offer(snapshot("C:a=1 E:a=2 L:x=2"))
    assert made.get() == ["E a=2"]
    made.session.offer(snapshot("C:a=1 E:a=3 L:x=2"))
    assert made.session.wakes_at(made.now) == WARM_PATIENCE
    made.now = WARM_PATIENCE
    assert made.get() == ["L x=2"]
    made.now = ACK_PATIENCE
    assert made.get() == ["E a=3"]


@both
def test_what_was_refused_is_kept_in_mind_and_sent_again_later(protocol: Protocol) -> None:
    made = envoy(protocol, "L:x=1 L:y=1")
    made.session.offer(snapshot("L:x=2 L:y=2"))
    assert made.get() == ["L x=2 y=2"]
    made.answer("L", "Error adding/updating listener(s) y: cannot bind '127.80.0.1:80': Permission denied")
    assert [str(each) for each in made.session.refusals] == [
        "Listener y: Error adding/updating listener(s) y: cannot bind '127.80.0.1:80': Permission denied"
    ]
    assert made.get() == []  # the same again at once would be refused again
    made.session.offer(snapshot("L:x=3 L:y=2"))
    assert made.get() == (["L x=3"] if protocol == "delta" else ["L x=3 y=2"])
    if protocol == "delta":
        made.answer("L")
        assert len(made.session.refusals) == 1  # y is refused as before
    else:
        made.answer("L", "y: still not")
    made.now = RETRY_REFUSED
    assert made.get() == (["L y=2"] if protocol == "delta" else ["L x=3 y=2"])
    made.answer("L")
    assert made.session.refusals == ()


@both
def test_a_refusal_ends_with_what_was_refused(protocol: Protocol) -> None:
    made = envoy(protocol, "L:x=1 L:y=1")
    made.session.offer(snapshot("L:x=1 L:y=2"))
    made.get()
    made.answer("L", "y: no")
    made.session.offer(snapshot("L:x=1"))
    assert made.session.refusals == ()


def test_a_reason_is_short() -> None:
    text = "listener\nx: bad goo.gle/debugonly  name: " + "x" * 5000
    assert shorten(text) == "listener x: bad"
    assert len(shorten("long " * 1000)) == 300


def test_sotw_ignores_a_request_that_was_written_before_the_last_response() -> None:
    made = client("sotw", "E:a=1 E:b=1")
    made.ask("E", "a")
    assert made.get() == ["E a=1"]
    made.session.receive(Request(ENDPOINT, "", names=("a", "b")), 0)  # before it read the response
    assert made.get() == []
    made.ask("E", "a", "b")
    assert made.get() == ["E b=1"]


def test_sotw_sends_again_what_is_asked_for_again() -> None:
    made = client("sotw", "E:a=1 E:b=1")
    made.ask("E", "a", "b")
    made.follow()
    made.ask("E", "b")
    assert made.follow() == []
    made.ask("E", "a", "b")
    assert made.follow() == ["E a=1"]


def test_sotw_a_client_may_stop_to_want_anything() -> None:
    made = client("sotw", "L:x=1")
    made.ask("L", "x")
    made.follow()
    made.ask("L")  # names were given once: empty is not a wildcard any more
    made.session.offer(snapshot("L:x=2"))
    assert made.follow() == []


RECONNECTS = [
    # what the client says it has, what it is sent
    ({"x": 1, "y": 1}, ["L"]),
    ({"x": 1, "y": 7}, ["L y=1"]),
    ({"x": 1}, ["L y=1"]),
    ({"x": 1, "y": 1, "z": 1}, ["L -z"]),
    ({"z": 1}, ["L x=1 y=1 -z"]),
    ({}, ["L x=1 y=1"]),
]


@pytest.mark.parametrize(("has", "sent"), RECONNECTS)
def test_delta_sends_a_client_that_comes_back_what_it_lacks(has: dict[str, int], sent: list[str]) -> None:
    made = client("delta", "L:x=1 L:y=1")
    made.ask("L", versions={name: version(name, number) for name, number in has.items()})
    assert made.follow() == sent


def test_delta_a_changed_cluster_gets_its_endpoints_again_on_a_new_stream() -> None:
    made = client("delta", "C:a=2 E:a=1")
    made.ask("C", versions={"a": version("a", 1)})
    assert made.get() == ["C a=2"]
    made.ask("E", "a", versions={"a": version("a", 1)})
    made.answer("C")
    assert made.get() == ["E a=1"]


def test_delta_says_of_a_name_that_is_not_there_that_it_is_not() -> None:
    made = client("delta", "E:a=1")
    made.ask("E", "a", "ghost")
    assert made.follow() == ["E a=1 -ghost"]
    made.session.offer(snapshot("E:a=1 E:ghost=1"))
    assert made.follow() == ["E ghost=1"]


def test_delta_sends_again_what_is_subscribed_again() -> None:
    made = client("delta", "E:a=1 E:b=1")
    made.ask("E", "a", "b")
    made.follow()
    made.ask("E", "a")
    assert made.follow() == ["E a=1"]


def test_delta_forgets_what_is_unsubscribed() -> None:
    made = client("delta", "E:a=1 E:b=1")
    made.ask("E", "a", "b")
    made.follow()
    made.session.receive(Request(ENDPOINT, unsubscribed=("a",)), 0)
    made.session.offer(snapshot("E:a=2 E:b=2"))
    assert made.follow() == ["E b=2"]


def test_delta_cuts_what_is_long() -> None:
    big = Packed("1", b"x" * (CHUNK // 2))
    made = Client(Session("delta", Snapshot({LISTENER: {f"l{number}": big for number in range(5)}})), "delta")
    made.ask("L")
    counts = []
    while (response := made.session.poll(0)) is not None:
        counts.append(len(response.resources))
        made.session.receive(Request(LISTENER, response.nonce), 0)
    assert sum(counts) == 5
    assert max(counts) <= 2


@both
def test_nobody_can_make_a_stream_hold_types_without_end(protocol: Protocol) -> None:
    session = Session(protocol, snapshot("L:x=1"))
    for number in range(1000):
        session.receive(Request(f"type.googleapis.com/T{number}"), 0)
    answers = 0
    while session.poll(0) is not None:
        answers += 1
    assert answers <= 32


@both
def test_versions_tell_contents_apart(protocol: Protocol) -> None:
    versions = set()
    for text in ("L:x=1", "L:x=2", "L:x=1 L:y=1"):
        made = client(protocol, text)
        made.ask("L")
        response = made.session.poll(0)
        assert response is not None
        versions.add(response.version)
    assert len(versions) == 3
