"""The two state machines, without a wire: a resource here is text, and what it means is that text in capitals."""

import pytest

from meshdns.xds.node import Node
from meshdns.xds.session import (
    LISTENER,
    NACK_LIMIT,
    DeltaSession,
    FaultyResourceError,
    Request,
    Resource,
    Response,
    SotwSession,
)

NODE = Node("default.meshdns", "meshdns", {})


class Decoder:
    """``name=value``; ``name!problem`` and ``!problem`` are faulty."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, resource: Resource, version: str) -> tuple[str, str]:
        self.calls += 1
        if resource.body is None:
            raise FaultyResourceError(resource.name, "nothing in it")
        name, mark, value = resource.body.decode().partition("!")
        if mark:
            raise FaultyResourceError(name, value)
        name, _, value = name.partition("=")
        return name, value.upper()


def full(version: str, nonce: str, *bodies: str) -> Response:
    return Response(LISTENER, version, nonce, tuple(Resource(LISTENER, body.encode()) for body in bodies))


def change(nonce: str, *items: tuple[str, str, str], removed: tuple[str, ...] = ()) -> Response:
    resources = tuple(Resource(LISTENER, body.encode(), name, version) for name, version, body in items)
    return Response(LISTENER, "s" + nonce, nonce, resources, removed)


def sotw() -> SotwSession[str]:
    session = SotwSession(NODE, Decoder())
    assert session.open_stream() == [Request(NODE)]
    return session


def delta() -> DeltaSession[str]:
    session = DeltaSession(NODE, Decoder())
    assert session.open_stream() == [Request(NODE)]
    return session


# --- state of the world


def test_sotw_acks_and_replaces_everything() -> None:
    session = sotw()
    received = session.receive(full("v1", "1", "a=x", "b=y"))
    assert received.requests == (Request(NODE, version="v1", nonce="1"),)
    assert (received.first, received.changed) == (True, True)
    received = session.receive(full("v2", "2", "b=y", "c=z"))
    assert received.requests == (Request(NODE, version="v2", nonce="2"),)
    assert (received.first, received.changed) == (False, True)
    assert session.pieces == {"b": "Y", "c": "Z"}


def test_sotw_acks_an_empty_response_too() -> None:
    session = sotw()
    session.receive(full("v1", "1", "a=x"))
    received = session.receive(full("v2", "2"))
    assert received.requests == (Request(NODE, version="v2", nonce="2"),)
    assert received.changed
    assert session.pieces == {}


def test_sotw_decodes_each_listener_once() -> None:
    decoder = Decoder()
    session = SotwSession(NODE, decoder)
    session.receive(full("v1", "1", "a=x", "b=y"))
    received = session.receive(full("v2", "2", "b=y", "a=x"))
    assert decoder.calls == 2
    assert not received.changed
    session.receive(full("v3", "3", "b=y", "a=z"))
    assert decoder.calls == 3
    assert session.pieces == {"a": "Z", "b": "Y"}


def test_sotw_nack_names_every_fault_keeps_the_old_version_and_the_good_ones() -> None:
    session = sotw()
    session.receive(full("v1", "1", "a=x", "b=y", "gone=w"))
    received = session.receive(full("v2", "2", "a!is odd", "b=new", "c!is odder"))
    (request,) = received.requests
    assert request.version == "v1"
    assert request.nonce == "2"
    assert request.error == "a: is odd\nc: is odder"
    assert received.faults == ("a: is odd", "c: is odder")
    assert session.pieces == {"a": "X", "b": "NEW"}
    # the same again after its pause: answered again, nothing new
    received = session.receive(full("v2", "3", "a!is odd", "b=new", "c!is odder"))
    assert received.requests[0].nonce == "3"
    assert received.requests[0].version == "v1"
    assert not received.changed
    received = session.receive(full("v3", "4", "a=z", "b=new"))
    assert received.requests == (Request(NODE, version="v3", nonce="4"),)


def test_sotw_drops_nothing_when_a_name_cannot_be_read() -> None:
    session = sotw()
    session.receive(full("v1", "1", "a=x", "b=y"))
    received = session.receive(full("v2", "2", "!no protobuf", "b=z"))
    assert received.requests[0].error == "resources[0]: no protobuf"
    assert session.pieces == {"a": "X", "b": "Z"}


def test_sotw_a_new_stream_has_no_nonce_but_the_version_that_is_held() -> None:
    session = sotw()
    session.receive(full("v1", "7", "a=x"))
    assert session.open_stream() == [Request(NODE, version="v1")]
    received = session.receive(full("v1", "1", "a=x"))
    assert received.first
    assert not received.changed
    assert received.requests == (Request(NODE, version="v1", nonce="1"),)
    session.forget_version()
    assert session.open_stream() == [Request(NODE)]


# --- delta


def test_delta_adds_replaces_removes() -> None:
    session = delta()
    received = session.receive(change("1", ("a", "1", "a=x"), ("b", "1", "b=y")))
    assert received.requests == (Request(NODE, nonce="1"),)
    assert (received.first, received.changed) == (True, True)
    received = session.receive(change("2", ("a", "2", "a=z"), removed=("b", "never-heard-of")))
    assert received.requests == (Request(NODE, nonce="2"),)
    assert (received.first, received.changed) == (False, True)
    assert session.pieces == {"a": "Z"}


def test_delta_a_name_removed_and_sent_in_one_response_is_there() -> None:
    session = delta()
    session.receive(change("1", ("a", "1", "a=x")))
    session.receive(change("2", ("a", "2", "a=y"), removed=("a",)))
    assert session.pieces == {"a": "Y"}


def test_delta_the_name_around_the_resource_counts() -> None:
    """Unified naming: the resource is called otherwise than the listener in it."""
    session = delta()
    session.receive(change("1", ("outer", "1", "inner=x")))
    assert session.pieces == {"outer": "X"}


def test_delta_reconnect_claims_what_is_held() -> None:
    session = delta()
    session.receive(change("1", ("a", "1", "a=x"), ("b", "1", "b=y")))
    session.receive(change("2", ("a", "2", "a=z")))
    assert session.open_stream() == [Request(NODE, initial_versions={"a": "2", "b": "1"})]
    received = session.receive(change("1"))
    assert received.requests == (Request(NODE, nonce="1"),)
    assert received.first
    assert not received.changed
    assert session.pieces == {"a": "Z", "b": "Y"}


def test_delta_the_same_content_under_another_version_is_no_change() -> None:
    decoder = Decoder()
    session = DeltaSession(NODE, decoder)
    session.receive(change("1", ("a", "1", "a=x")))
    received = session.receive(change("2", ("a", "2", "a=x")))
    assert not received.changed
    assert decoder.calls == 1
    assert session.open_stream()[0].initial_versions == {"a": "2"}


def test_delta_a_heartbeat_changes_nothing() -> None:
    session = delta()
    session.receive(change("1", ("a", "1", "a=x")))
    received = session.receive(Response(LISTENER, "s", "2", (Resource("", None, "a", ""),)))
    assert received.faults == ()
    assert not received.changed
    assert session.open_stream()[0].initial_versions == {"a": "1"}


def test_delta_nack_asks_for_one_new_stream_and_never_claims_what_was_refused() -> None:
    session = delta()
    session.receive(change("1", ("a", "1", "a=x"), ("b", "1", "b=y")))
    received = session.receive(change("2", ("a", "2", "a!odd"), ("b", "2", "b=z"), ("c", "1", "!worse")))
    (request,) = received.requests
    assert (request.nonce, request.error) == ("2", "a: odd\nc: worse")
    assert received.restart
    assert session.pieces == {"a": "X", "b": "Z"}
    assert session.open_stream()[0].initial_versions == {"a": "1", "b": "2"}
    # the new stream brings the same: refused, but there is no use in another stream
    received = session.receive(change("1", ("a", "2", "a!odd"), ("c", "1", "!worse")))
    assert received.faults == ("a: odd", "c: worse")
    assert not received.restart
    # other faulty bytes under the same name are a new case
    assert session.receive(change("2", ("a", "3", "a!still odd"))).restart
    # mended, and broken again as before
    assert not session.receive(change("3", ("a", "4", "a=ok"))).restart
    assert session.receive(change("4", ("a", "5", "a!odd"))).restart


def test_delta_a_resource_without_content_is_a_fault() -> None:
    session = delta()
    received = session.receive(Response(LISTENER, "s", "1", (Resource("", None, "a", "1"),)))
    assert received.faults == ("a: nothing in it",)


# --- both


@pytest.mark.parametrize("kind", [sotw, delta])
@pytest.mark.parametrize("type_url", ["type.googleapis.com/envoy.config.cluster.v3.Cluster", ""])
def test_another_type_is_not_answered(kind: type, type_url: str) -> None:
    session = kind()
    received = session.receive(Response(type_url, "v1", "1", (Resource(type_url, b"a=x"),)))
    assert received.requests == ()
    assert received.unknown_type == type_url
    assert session.pieces == {}
    assert session.receive(Response(LISTENER, "v1", "2")).first


def test_a_nack_stays_small_and_still_names_all() -> None:
    session = sotw()
    bodies = [f"listener-{n}!{'because ' * 100}" for n in range(3_000)]
    received = session.receive(full("v1", "1", *bodies))
    (request,) = received.requests
    assert len(request.error) <= NACK_LIMIT
    assert all(f"listener-{n}" in request.error for n in range(3_000))
    assert all(len(line) <= 300 for line in request.error.splitlines())
    received = session.receive(full("v1", "2", *(f"{'x' * 100}{n}!p" for n in range(10_000))))
    assert len(received.requests[0].error) <= NACK_LIMIT
    assert received.requests[0].error.endswith("more")


def test_foreign_text_cannot_forge_lines_of_a_log() -> None:
    received = sotw().receive(full("v1", "1", "a\nb!c\rd\x1b[31m"))
    (line,) = received.faults
    assert line.isprintable()
