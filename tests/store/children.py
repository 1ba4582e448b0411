"""Writers and readers as processes of their own, for tests in which they die.

``python -m tests.store.children WHAT NUMBER…``
LMDB forbids opening a store twice in a process and opening it before a fork, so this process only forks. It prints
one JSON document, and exits with 1 when a child did not do what it should.
"""

import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from itertools import count
from pathlib import Path

from meshdns.errors import StoreError
from meshdns.inventory.record import Table
from meshdns.store import integrity
from meshdns.store.integrity import Condition, check_in_child
from meshdns.store.progress import read_progress
from meshdns.store.reader import Reader
from meshdns.store.writer import Writer
from tests.store.contents import assert_digest
from tests.store.damage import HARMLESS, OCTETS, damage
from tests.store.tables import RULES, merged, mesh, record, table, zone_of

SOURCES = ("kuma", "file")
FILE = table(
    record("extra.mesh", "10.0.0.1"), record("svc1.ns1.svc.80.mesh", "10.0.0.2"), record("*.wild.mesh", "10.0.0.3")
)


def in_child(work: Callable[[], object], seconds: int = 20) -> tuple[int, bytes]:
    """Do *work* in a child; give its exit status (negative: a signal) and what it returned."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(seconds)
            os.write(writing, json.dumps(work()).encode())
            status = 0
        except BaseException:
            os.write(writing, traceback.format_exc().encode())
        finally:
            os._exit(status)
    os.close(writing)
    told = b""
    while piece := os.read(reading, 65_536):
        told += piece
    os.close(reading)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), told


def done_in_child(work: Callable[[], object]) -> object:
    """Do *work* in a child and give what it returned; it must end well."""
    status, told = in_child(work)
    if status:
        raise AssertionError(f"child ended with {status}: {told.decode()}")
    return json.loads(told)


def open_writer(store: Path, **options: object) -> Writer:
    return Writer(store, rules=RULES, sources=SOURCES, **options)  # type: ignore[arg-type]


class Expected:
    """What the store must answer from *tables*, in order of precedence; worked out once, before the forks."""

    def __init__(self, *tables: Table) -> None:
        self.zone = zone_of(tables, RULES, SOURCES[: len(tables)])
        self.records = {name: each for name, (each, _) in merged(tables).items()}
        self.listeners = {key: value for given in reversed(tables) for key, value in given.listeners.items()}


NOTHING = Expected()


def wrong_answers(store: Path, expected: Expected) -> list[str]:
    """Give in which ways the store's answers are not the *expected* ones; nothing when all are right."""
    wrong = []
    reader = Reader(store)
    txn = reader.begin()
    wrong += [f"{key!r}" for key, value in expected.zone.items() if txn.get(key) != value]
    wrong += [f"{key!r} is too much" for key in (b"\x04none\x04mesh\0", b"\x01x\x04wild\x04mesh\0") if txn.get(key)]
    txn.abort()
    with reader.snapshot() as now:
        if {each.record.name.lower(): each.record for each in now.records()} != expected.records:
            wrong.append("the records")
        if now.listeners() != expected.listeners:
            wrong.append("the listeners")
        if now.names_count() != len(expected.records):
            wrong.append("the count")
        list(now.journal())
    reader.close()
    return wrong


def generation_of(store: Path) -> int:
    """Give the generation that readers of *store* see."""
    reader = Reader(store)
    with reader.snapshot() as now:
        generation = now.generation
    reader.close()
    return generation


def damaged(first: int, last: int) -> object:
    """Damage a store in many ways; each must then answer rightly or be empty, and take two pushes rightly."""
    old, new = mesh(40, version="v3", ttl=33), mesh(40, version="v4", moved=7, first=3)
    before, after = Expected(old, FILE), Expected(new, FILE)
    with tempfile.TemporaryDirectory() as directory:
        master = Path(directory) / "master"

        def prepare() -> None:
            writer = open_writer(master)
            for each in (mesh(20), mesh(60, moved=5), mesh(40, moved=99), old):
                writer.apply("kuma", each)
            writer.apply("file", table())
            writer.apply("file", FILE)
            writer.close()

        done_in_child(prepare)
        found = {condition.value: 0 for condition in Condition}
        reached = read_progress(master).generation
        for seed in range(first, last):
            data_dir = Path(directory) / "instance"
            store = data_dir / "store"
            shutil.copytree(master, store)
            way = damage(store, seed)
            try:
                outcome = check_in_child(data_dir, timeout=10)
                found[outcome.condition.value] += 1
                kept = before if outcome.condition is Condition.SOUND else NOTHING
                if way in HARMLESS and outcome.condition is not Condition.SOUND:
                    raise AssertionError(f"harmless, but {outcome}")
                if (outcome.condition is Condition.DAMAGED) != (outcome.moved_to is not None):
                    raise AssertionError(f"{outcome}")

                def read_push_twice_read() -> list[list[str]]:
                    wrong = [wrong_answers(store, kept)]  # noqa: B023
                    if way in OCTETS and generation_of(store) < reached:  # noqa: B023
                        raise AssertionError("the generation went back")
                    writer = open_writer(store)  # noqa: B023
                    writer.apply("kuma", new)
                    writer.apply("file", FILE)
                    assert_digest(writer)
                    writer.close()
                    return [*wrong, wrong_answers(store, after)]  # noqa: B023

                wrong = done_in_child(read_push_twice_read)
                again = check_in_child(data_dir, timeout=10)
                if wrong != [[], []] or again.condition is not Condition.SOUND:
                    raise AssertionError(f"{outcome}; wrong before and after two pushes: {wrong}; then {again}")
            except Exception as error:
                raise AssertionError(f"seed {seed}, {way.__name__}: {error}") from error
            shutil.rmtree(data_dir)
    return found


def numbered(push: int) -> Table:
    """Give the table of push number *push*: its number is every record's TTL, and its names depend on it."""
    return mesh(100 + push % 5 * 20, ttl=push + 1, moved=push % 3, version=str(push))


def push_on(store: Path, start: int) -> None:
    """Push one table after the other, for ever."""
    writer = open_writer(store)
    push = start
    while True:
        push += 1
        writer.apply("kuma", numbered(push), version=str(push))


def complete_push(store: Path) -> int:
    """Give the number of the one push that the store holds, whole; -1 if it holds none."""
    reader = Reader(store)
    with reader.snapshot() as now:
        served = list(now.records())
        if not served:
            if dict(now.listeners()) or list(now.journal()):
                raise AssertionError("no names, but something else")
            return -1
        push = served[0].record.ttl - 1
        newest = next(now.journal())
        if newest.version != str(push) or newest.generation != now.generation:
            raise AssertionError(f"the names of push {push}, the journal of {newest.version}")
    reader.close()
    expected = zone_of([numbered(push)], RULES, ["kuma"])
    reader = Reader(store)
    txn = reader.begin()
    if any(txn.get(key) != value for key, value in expected.items()):
        raise AssertionError(f"entries that are not those of push {push}")
    txn.abort()
    with reader.snapshot() as now:
        if {each.record for each in now.records()} != set(numbered(push).records.values()):
            raise AssertionError(f"records that are not those of push {push}")
        if now.listeners() != numbered(push).listeners:
            raise AssertionError(f"listeners that are not those of push {push}")
    return push


def killed(times: int) -> object:
    """Kill a writer in mid-push, again and again: the store always holds exactly one push, and goes on from it."""
    chance = random.Random(times)
    seen = []
    with tempfile.TemporaryDirectory() as directory:
        data_dir = Path(directory)
        push = -1
        generation = 0
        for number in count():
            if number >= times and push > 0:  # on a busy machine the first kills come before any push
                break
            pid = os.fork()
            if pid == 0:
                try:
                    push_on(data_dir / "store", push)
                finally:
                    os._exit(1)
            time.sleep(chance.uniform(0.0, 0.15 * (1 + number / times)))  # the random moment is what is tested
            os.kill(pid, signal.SIGKILL)
            if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != -signal.SIGKILL:
                raise AssertionError("the writer ended by itself")
            outcome = check_in_child(data_dir, timeout=10)
            if outcome.condition is Condition.DAMAGED or (outcome.condition is Condition.ABSENT and number):
                raise AssertionError(f"kill {number}: {outcome}")
            push = int(str(done_in_child(lambda: complete_push(data_dir / "store"))))
            seen.append(push)

            now = int(str(done_in_child(lambda: generation_of(data_dir / "store"))))
            if now < generation:
                raise AssertionError(f"generation {generation} went back to {now}")
            generation = now
    return seen


def watched(pushes: int) -> object:
    """Read while another process writes: every transaction sees one whole push. Give how many different ones."""
    with tempfile.TemporaryDirectory() as directory:
        store = Path(directory) / "store"

        def first() -> None:
            writer = open_writer(store)
            writer.apply("kuma", numbered(0), version="0")
            writer.close()

        def write() -> None:
            writer = open_writer(store)
            for push in range(1, pushes + 1):
                writer.apply("kuma", numbered(push), version=str(push))
            writer.close()

        whole = []
        for push in range(pushes + 1):
            whole.append(zone_of([numbered(push)], RULES, ["kuma"]))
        keys = set().union(*whole)

        def read() -> list[int]:
            reader = Reader(store)
            seen: list[int] = []
            while pushes not in seen:
                txn = reader.begin()
                got = {key: value for key in keys if (value := txn.get(key)) is not None}
                txn.abort()
                if got not in whole:
                    raise AssertionError(f"a mixture, between pushes {seen[-1:]} and the next")
                push = whole.index(got)
                if seen and push < seen[-1]:
                    raise AssertionError("back in time")
                seen += [push] if [push] != seen[-1:] else []
            return seen

        done_in_child(first)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                write()
                status = 0
            finally:
                os._exit(status)
        seen = done_in_child(read)
        if os.waitpid(pid, 0)[1]:
            raise AssertionError("the writer failed")
        return seen


def growth(*, killed_reader: bool) -> int:
    """Give the store's size in octets after many pushes beside a reader that holds, or died in, a transaction."""
    with tempfile.TemporaryDirectory() as directory:
        store = Path(directory) / "store"

        def write(start: int, end: int) -> None:
            writer = open_writer(store)
            for push in range(start, end):
                writer.apply("kuma", numbered(push), version=str(push))
            writer.close()

        done_in_child(lambda: write(0, 5))
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            reader = Reader(store)
            txn = reader.begin()
            os.write(writing, str(txn.id()).encode())
            signal.pause()
            os._exit(0)
        os.read(reading, 10)
        if killed_reader:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        done_in_child(lambda: write(5, 40))
        if not killed_reader:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        return (store / "data.mdb").stat().st_size


def grown() -> object:
    """Give the sizes with a living reader and with a dead one."""
    return [growth(killed_reader=False), growth(killed_reader=True)]


def no_space() -> object:
    """Fill the disk (a limit on the file's size) in mid-push: the last table stays, and later pushes work."""
    with tempfile.TemporaryDirectory() as directory:
        store = Path(directory) / "store"

        def push() -> str:
            small, large = mesh(20), mesh(2_000)
            writer = open_writer(store)
            first = writer.apply("kuma", small)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, resource.RLIM_INFINITY))
            said = ""
            for _ in range(2):
                try:
                    writer.apply("kuma", large)
                except StoreError as error:
                    said = str(error)
            if not said or writer.generation != first.generation or writer.names_count() != len(small.records):
                raise AssertionError(f"{said!r}, {writer}")
            writer.apply("kuma", mesh(21))
            assert_digest(writer)
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            writer.apply("kuma", large)
            assert_digest(writer)
            writer.close()
            return said

        said = done_in_child(push)
        wrong = done_in_child(lambda: wrong_answers(store, Expected(mesh(2_000))))
        return [said, wrong]


def no_space_for_a_copy() -> object:
    """Check a sound store when there is no room for its copy: it is used as it is."""
    with tempfile.TemporaryDirectory() as directory:
        data_dir = Path(directory)

        def push() -> None:
            writer = open_writer(data_dir / "store")
            writer.apply("kuma", mesh(500))
            writer.close()

        done_in_child(push)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        outcome = check_in_child(data_dir, timeout=10)
        wrong = done_in_child(lambda: wrong_answers(data_dir / "store", Expected(mesh(500))))
        return [
            outcome.condition.value,
            outcome.reason,
            wrong,
            sorted(each.name for each in (data_dir / "store").iterdir()),
        ]


def hung() -> object:
    """Check a store with a check that never ends, and one with a check that dies: both are set aside."""
    told = []
    for way in (signal.pause, lambda: os.kill(os.getpid(), signal.SIGBUS)):
        with tempfile.TemporaryDirectory() as directory:
            data_dir = Path(directory)
            (data_dir / "store").mkdir()
            real = integrity._check_and_rewrite
            integrity._check_and_rewrite = lambda _, way=way: way()  # type: ignore[misc]
            try:
                outcome = check_in_child(data_dir, timeout=0.2)
            finally:
                integrity._check_and_rewrite = real
            wrong = done_in_child(lambda: wrong_answers(data_dir / "store", NOTHING))  # noqa: B023
            told.append(
                [outcome.condition.value, outcome.reason, str(outcome.moved_to and outcome.moved_to.name), wrong]
            )
    return told


def beside_a_reader() -> object:
    """Check a store while somebody reads it: that reader goes on as it was, and everybody after sees what comes."""
    with tempfile.TemporaryDirectory() as directory:
        data_dir = Path(directory)
        store = data_dir / "store"

        def push(number: int) -> int:
            writer = open_writer(store)
            writer.apply("kuma", numbered(number), version=str(number))
            writer.close()
            return writer.generation

        generations = [done_in_child(lambda: push(0))]
        ready, told = os.pipe()
        go_on, asked = os.pipe()
        reader = os.fork()
        if reader == 0:
            status = 1
            try:
                held = Reader(store)
                os.write(told, b"1")
                os.read(go_on, 1)
                with held.snapshot() as now:
                    status = 0 if {each.record.ttl for each in now.records()} == {1} else 2
            finally:
                os._exit(status)
        os.read(ready, 1)
        outcome = check_in_child(data_dir, timeout=10)
        generations.append(done_in_child(lambda: push(1)))
        whole = done_in_child(lambda: complete_push(store))
        os.write(asked, b"1")
        status = os.waitstatus_to_exitcode(os.waitpid(reader, 0)[1])
        return [outcome.condition.value, whole, status, generations, f"{store.stat().st_mode & 0o777:o}",
                {each.name: f"{each.stat().st_mode & 0o777:o}" for each in store.iterdir()}]  # fmt: skip


WHAT: dict[str, Callable[..., object]] = {
    each.__name__: each
    for each in (damaged, killed, watched, grown, no_space, no_space_for_a_copy, hung, beside_a_reader)
}


if __name__ == "__main__":
    name, *numbers = sys.argv[1:]
    print(json.dumps(WHAT[name](*map(int, numbers))))
