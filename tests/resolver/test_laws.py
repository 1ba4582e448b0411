"""What speed must not bend: an answer depends on the push and the query alone, and dies with the push."""

import tracemalloc
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshdns.resolver import answer
from meshdns.resolver.answer import COUNTS, MEMO, Resolver
from meshdns.zone.lookup import Zones
from tests.resolver.test_answer import NAMES, OPTS, Store, named
from tests.resolver.test_elsewhere import Somebody
from tests.wire.packets import SEEDS
from tests.zone.memory import RULES, compile_zone, record

MESSAGES = st.one_of(
    st.builds(
        lambda name, qtype, flags, extra: named(name, qtype, flags=flags, extra=extra, additional=bool(extra)),
        st.sampled_from([name for name in NAMES if name != "a.org"]),
        st.sampled_from([1, 28, 6, 255, 65]),
        st.sampled_from([0x0100, 0, 0x0120, 0x0110]),
        st.sampled_from(OPTS),
    ),
    st.sampled_from(SEEDS),
)


def fresh(**words: object) -> Resolver:
    return Resolver(Store(), Zones(RULES, ("kuma",)), [0] * COUNTS, **words)  # type: ignore[arg-type]


@given(st.lists(st.tuples(MESSAGES, st.binary(min_size=2, max_size=2)), min_size=1, max_size=12), st.data())
def test_the_same_octets_behind_the_id_get_the_same_octets_whatever_was_asked_before(
    asked: Sequence[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    """Alone and new, in a batch, again, among others, in another order."""
    queries = [id + message[2:] for message, id in asked]
    alone = [fresh().answer_now(query) for query in queries]
    busy = fresh()
    assert busy.answer_batch(queries) == alone
    assert busy.answer_batch(queries) == alone
    order = data.draw(st.permutations(range(len(queries))))
    assert busy.answer_batch([queries[i] for i in order]) == [alone[i] for i in order]
    for query, reply in zip(queries, alone, strict=True):
        other = bytes(octet ^ 0x55 for octet in query[:2]) + query[2:]
        again = busy.answer_now(other)
        if reply is None or len(query) < 2:
            assert again is None
        else:
            assert isinstance(reply, bytes)
            assert again == other[:2] + reply[2:]


class Pushed(Store):
    """A store whose contents change: *address* is what web.mesh and dual.mesh have."""

    def __init__(self) -> None:
        super().__init__()
        self.pushes: dict[int, Mapping[bytes, bytes]] = {}
        self.number = 0
        self.push()

    def push(self) -> None:
        self.number += 1
        if self.number not in self.pushes:
            address = f"240.7.{self.number >> 8}.{self.number & 255}"
            records = [record(name, address) for name in ("web.mesh", "dual.mesh", "*.wild.mesh")]
            self.pushes[self.number] = compile_zone(records, delivered=("kuma",))
        self.database = self.pushes[self.number]

    def generation(self, transaction: object, /) -> int:
        return self.number


@pytest.mark.parametrize("stream", [False, True])
def test_no_reply_outlives_its_push(stream: bool) -> None:
    store = Pushed()
    resolver = Resolver(store, Zones(RULES, ("kuma",)), [0] * COUNTS)
    queries = [named(name) for name in ("web.mesh", "dual.mesh", "a.wild.mesh", "WEB.mesh")]
    for _ in range(300):
        expected = bytes((240, 7, store.number >> 8, store.number & 255))
        for _ in range(3):
            for reply in resolver.answer_batch(queries, stream=stream):
                assert isinstance(reply, bytes)
                assert reply[-4:] == expected
        store.push()


def test_a_push_amid_a_batch_is_seen_by_the_next() -> None:
    """A transaction sees what it saw when it began."""

    class Moving(Pushed):
        def begin(self) -> "Moving":
            super().begin()
            self.seen, self.seen_number = self.database, self.number
            return self

        def get(self, key: bytes, /) -> bytes | None:
            self.push()  # the writer commits while we read
            return self.seen.get(key)

        def generation(self, transaction: object, /) -> int:
            return self.seen_number

    store = Moving()
    resolver = Resolver(store, Zones(RULES, ("kuma",)), [0] * COUNTS)
    last = 0
    for _ in range(20):
        replies = resolver.answer_batch([named("web.mesh"), named("dual.mesh"), named("b.wild.mesh")] * 5)
        (number,) = {int.from_bytes(reply[-2:], "big") for reply in replies if isinstance(reply, bytes)}
        assert number > last
        last = number


def test_what_is_remembered_is_bounded_and_no_denial_enters() -> None:
    resolver = fresh()
    for start in range(0, 3 * MEMO, 64):
        resolver.answer_batch([named(f"n{number}.wild.mesh") for number in range(start, start + 64)])
        assert 0 < len(resolver._memo) <= MEMO
    resolver = fresh()
    resolver.answer_batch([named(f"n{number}.nosuch.mesh", 28) for number in range(500)])
    assert not resolver._memo


def test_what_is_remembered_gives_way_to_what_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at once: where more names are asked than are remembered, to remember others all the time saves nothing."""
    monkeypatch.setattr(answer, "MEMO", 256)
    monkeypatch.setattr(answer, "MISSES", 2_048)
    resolver = fresh()
    for start in range(0, 256, 64):
        resolver.answer_batch([named(f"n{number}.wild.mesh") for number in range(start, start + 64)])
    hot = [named(f"m{number}.wild.mesh") for number in range(64)]
    resolver.answer_batch(hot)
    assert not any(query[2:] in resolver._memo for query in hot)
    for _ in range(2_048 // len(hot)):
        resolver.answer_batch(hot)
    assert all(query[2:] in resolver._memo for query in hot)
    remembered = dict(resolver._memo)
    for _ in range(2_048 // len(hot)):  # hits do not drive out
        resolver.answer_batch(hot)
    assert resolver._memo == remembered


def test_memory_does_not_grow_with_the_names_asked() -> None:
    resolver = fresh(elsewhere=Somebody())

    def ask(first: int, last: int) -> int:
        for start in range(first, last, 64):
            for name in ("wild.mesh", "nosuch.mesh", "elsewhere.org"):
                resolver.answer_batch([named(f"n{number}.{name}") for number in range(start, start + 64)])
            resolver._elsewhere.asked.clear()  # type: ignore[union-attr]
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = ask(0, MEMO)
        after = ask(MEMO, 2 * MEMO)
    finally:
        tracemalloc.stop()
    assert after - before < 1 << 20
