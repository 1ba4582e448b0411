"""A damaged store is found before it answers; a sound one is never taken for a damaged one."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from meshdns.errors import StoreError
from meshdns.store.integrity import Condition, check_in_child, set_aside, verify
from meshdns.store.schema import FORMAT_KEY, format_entry, open_environment, read_format
from meshdns.store.writer import Writer
from tests.scale import scale
from tests.store.damage import META, PAGE
from tests.store.tables import RULES, mesh

ROOT = Path(__file__).parents[2]


def run(what: str, *numbers: int, timeout: float = 100) -> object:
    """Run *what* of ``children`` in a process that has neither threads nor an open store; give what it printed."""
    command = [sys.executable, "-m", "tests.store.children", what, *map(str, numbers)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    writer = Writer(tmp_path / "store", rules=RULES, sources=["kuma"])
    writer.apply("kuma", mesh(20))
    writer.apply("kuma", mesh(30, moved=50))
    writer.close()
    return tmp_path / "store"


@pytest.mark.timeout(1_000)
@pytest.mark.parametrize("part", range(2))
def test_no_damage_gives_a_wrong_answer_or_stops_the_next_pushes(part: int) -> None:
    count = scale(500)
    found = run("damaged", part * count, (part + 1) * count, timeout=900)
    assert isinstance(found, dict)
    assert found["damaged"] > count // 4
    assert found["sound"] > 0


@pytest.mark.timeout(300)
def test_a_killed_writer_leaves_exactly_one_complete_push() -> None:
    seen = run("killed", scale(50), timeout=250)
    assert isinstance(seen, list)
    assert seen == sorted(seen)
    assert seen[-1] > 0


def test_a_reader_sees_one_whole_push_while_others_are_written() -> None:
    seen = run("watched", 15)
    assert isinstance(seen, list)
    assert len(seen) > 1
    assert seen[-1] == 15


def test_a_reader_that_died_in_a_transaction_does_not_make_the_file_grow() -> None:
    beside_a_living_one, beside_a_dead_one = run("grown")  # type: ignore[misc]
    assert beside_a_dead_one * 4 < beside_a_living_one


def test_a_full_disk_keeps_the_last_table_and_the_writer_goes_on() -> None:
    said, wrong = run("no_space")  # type: ignore[misc]
    assert "store: " in said
    assert wrong == []


def test_without_room_for_a_copy_a_sound_store_is_used_as_it_is() -> None:
    condition, reason, wrong, files = run("no_space_for_a_copy")  # type: ignore[misc]
    assert condition == "sound"
    assert "used as it is" in reason
    assert wrong == []
    assert files == ["data.mdb", "lock.mdb", "progress"]


def test_a_check_that_hangs_or_dies_has_found_damage() -> None:
    hung, died = run("hung")  # type: ignore[misc]
    assert hung[:2] == ["damaged", "reading it did not end within 0.2 s"]
    assert died[:2] == ["damaged", "reading it ended the check with SIGBUS"]
    assert hung[2].startswith("store.damaged-2")
    assert hung[3] == died[3] == []


def test_a_store_may_be_checked_while_a_command_reads_it() -> None:
    condition, push, reader_status, generations, mode, files = run("beside_a_reader")  # type: ignore[misc]
    assert condition == "sound"
    assert push == 1
    assert reader_status == 0
    assert generations == sorted(set(generations))
    assert mode == "700"
    assert files == {"data.mdb": "600", "lock.mdb": "600", "progress": "600"}


def test_a_sound_store_is_sound(store: Path) -> None:
    verdict = verify(store)
    assert verdict.condition is Condition.SOUND
    assert verdict.entries > 100
    assert verify(store.parent).condition is Condition.ABSENT


def test_a_store_is_set_aside_under_a_name_of_its_own(store: Path) -> None:
    first = set_aside(store.parent)
    store.mkdir()
    second = set_aside(store.parent)
    assert first != second
    assert verify(first).condition is Condition.SOUND
    assert not store.exists()
    with pytest.raises(StoreError, match=str(store)):
        set_aside(store.parent)


def test_a_file_may_end_before_its_last_page(store: Path) -> None:
    """A page taken and given back by one commit is counted but never written."""
    content = bytearray((store / "data.mdb").read_bytes())
    for at in (0, PAGE):
        last = META.unpack_from(content, at)[-2]
        struct.pack_into("=Q", content, at + META.size - 16, last + 5)
    (store / "data.mdb").write_bytes(content)
    assert verify(store).condition is Condition.SOUND


def test_a_newer_store_is_refused_and_left_alone(store: Path) -> None:
    with open_environment(store) as env, env.begin(write=True) as txn:
        txn.put(FORMAT_KEY, format_entry(2), db=env.open_db(b"meta", txn=txn))
    assert verify(store).format == 2
    before = (store / "data.mdb").read_bytes()
    with pytest.raises(StoreError, match=f"{store}.*format 2.*format 1"):
        check_in_child(store.parent, timeout=10)
    assert (store / "data.mdb").read_bytes() == before
    assert [each.name for each in store.parent.iterdir()] == ["store"]


@pytest.mark.parametrize("value", [None, b"", b"1", b"meshdns store 1 00000000", format_entry(1)[:-1], b"x 1 2"])
def test_a_damaged_format_is_no_format(value: bytes | None) -> None:
    assert read_format(value) is None


def test_no_flipped_bit_makes_a_newer_format() -> None:
    sound = format_entry(1)
    for bit in range(8 * len(sound)):
        flipped = bytearray(sound)
        flipped[bit // 8] ^= 1 << bit % 8
        assert read_format(bytes(flipped)) is None
    assert read_format(sound) == 1
    assert read_format(format_entry(12)) == 12
