"""Messages in a stream come out whole, whatever the segments were."""

from hypothesis import given
from hypothesis import strategies as st

from meshdns.wire.framing import Deframer, frame


@given(st.lists(st.binary(max_size=300), max_size=20), st.lists(st.integers(1, 50), min_size=1, max_size=10))
def test_messages_survive_any_segmentation(messages: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(map(frame, messages))
    deframer, found, at, turn = Deframer(), [], 0, 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        deframer.feed(stream[at : at + size])
        found += deframer.take(3)
        at, turn = at + size, turn + 1
    while deframer.has_message:
        found += deframer.take(3)
    assert found == messages
    assert deframer.buffered == 0


def test_part_of_a_message_waits() -> None:
    deframer = Deframer()
    deframer.feed(b"\0")
    assert (deframer.take(1), deframer.buffered, deframer.has_message) == ([], 1, False)
    deframer.feed(b"\5abcd")
    assert (deframer.take(1), deframer.has_message) == ([], False)
    deframer.feed(b"e\0\0")
    assert deframer.take(1) == [b"abcde"]
    assert deframer.take(9) == [b""]


def test_no_more_messages_are_given_than_asked_for() -> None:
    deframer = Deframer()
    deframer.feed(frame(b"a") * 5)
    assert len(deframer.take(2)) == 2
    assert deframer.has_message
