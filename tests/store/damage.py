"""Ways in which the files of a store get damaged, each a function of a seed."""

import random
import shutil
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path

PAGE = 4096
META = struct.Struct("=Q2xH4x II16x I4x32xQ 40xQ QQ")
"""Of a meta page: number, flags, magic, version, page size, root of the free list, root of main, last page, commit."""


def flip(content: bytearray, bit: int) -> None:
    content[bit // 8] ^= 1 << bit % 8


def flips(times: int, low: int = 0, high: int | None = None) -> Callable[[bytearray, random.Random], None]:
    """Flip bits between two octets of the file."""

    def damage(content: bytearray, chance: random.Random) -> None:
        for _ in range(chance.randint(1, times)):
            flip(content, chance.randrange(low * 8, (len(content) if high is None else high) * 8))

    return damage


def newest_meta(content: bytearray) -> tuple[int, ...]:
    metas = [META.unpack_from(content, at) for at in (0, PAGE)]
    return max(metas, key=lambda meta: meta[-1])


def free_list(content: bytearray, chance: random.Random) -> None:
    """Flip bits in the root page of the list of free pages: only the next writer would notice."""
    root = newest_meta(content)[5]
    assert root * PAGE < len(content), "the store of this test has free pages"
    flips(4, root * PAGE, root * PAGE + 200)(content, chance)


def main_root(content: bytearray, chance: random.Random) -> None:
    """Flip bits in the page that says where the databases are."""
    root = newest_meta(content)[6]
    flips(2, root * PAGE, (root + 1) * PAGE)(content, chance)


def meta_fields(content: bytearray, chance: random.Random) -> None:
    """Flip a bit of what the meta pages say."""
    at = chance.choice([0, PAGE])
    flips(1, at, at + 160)(content, chance)


def fall_back(content: bytearray, chance: random.Random) -> None:
    """Make the last commit look older than the one before it."""
    metas = [META.unpack_from(content, at) for at in (0, PAGE)]
    at = 0 if metas[0][-1] > metas[1][-1] else PAGE
    number = metas[at // PAGE][-1]
    struct.pack_into("=Q", content, at + META.size - 8, number - 2 * chance.randint(1, number // 2))


def truncate(content: bytearray, chance: random.Random) -> None:
    del content[chance.randrange(len(content)) :]


def truncate_at_page(content: bytearray, chance: random.Random) -> None:
    del content[PAGE * chance.randrange(len(content) // PAGE) :]


def empty(content: bytearray, _: random.Random) -> None:
    content.clear()


def swap_pages(content: bytearray, chance: random.Random) -> None:
    one, other = (PAGE * page for page in chance.sample(range(len(content) // PAGE), 2))
    content[one : one + PAGE], content[other : other + PAGE] = content[other : other + PAGE], content[one : one + PAGE]


def copy_page(content: bytearray, chance: random.Random) -> None:
    one, other = (PAGE * page for page in chance.sample(range(len(content) // PAGE), 2))
    content[one : one + PAGE] = content[other : other + PAGE]


def blank_page(content: bytearray, chance: random.Random) -> None:
    one = PAGE * chance.randrange(len(content) // PAGE)
    content[one : one + PAGE] = bytes(PAGE)


def noise_in_page(content: bytearray, chance: random.Random) -> None:
    one = PAGE * chance.randrange(len(content) // PAGE)
    content[one : one + PAGE] = chance.randbytes(PAGE)


def noise(content: bytearray, chance: random.Random) -> None:
    content[:] = chance.randbytes(len(content))


def text(content: bytearray, chance: random.Random) -> None:
    content[:] = b"this is no database\n" * chance.randrange(1, 5_000)


def longer(content: bytearray, chance: random.Random) -> None:
    """Octets behind the last page: harmless."""
    content += chance.randbytes(chance.randrange(1, 3 * PAGE))


OCTETS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flips(1), flips(1), flips(1), flips(3), flips(50), flips(2_000), flips(4, 0, 2 * PAGE), meta_fields, meta_fields,
    free_list, free_list, main_root, fall_back, truncate, truncate_at_page, empty, swap_pages, swap_pages, copy_page,
    blank_page, noise_in_page, noise, text, longer,
)  # fmt: skip


def sqlite_file(store: Path, _: random.Random) -> None:
    (store / "data.mdb").unlink()
    with sqlite3.connect(store / "data.mdb") as database:
        database.execute("create table names (name, address)")
    database.close()


def no_data_file(store: Path, _: random.Random) -> None:
    (store / "data.mdb").unlink()


def directory_for_file(store: Path, _: random.Random) -> None:
    (store / "data.mdb").unlink()
    (store / "data.mdb").mkdir()


def file_for_directory(store: Path, _: random.Random) -> None:
    shutil.rmtree(store)
    store.write_bytes(b"store")


def no_store(store: Path, _: random.Random) -> None:
    shutil.rmtree(store)


def lock_file(store: Path, chance: random.Random) -> None:
    (store / "lock.mdb").write_bytes(chance.randbytes(chance.randrange(20_000)))


def progress_file(store: Path, chance: random.Random) -> None:
    (store / "progress").write_bytes(chance.randbytes(chance.randrange(50)))


def older_progress(store: Path, _: random.Random) -> None:
    (store / "progress").unlink()


def half_written_copy(store: Path, chance: random.Random) -> None:
    (store / "rewritten").mkdir()
    (store / "rewritten" / "data.mdb").write_bytes(chance.randbytes(5_000))


FILES: tuple[Callable[[Path, random.Random], None], ...] = (
    sqlite_file, no_data_file, directory_for_file, file_for_directory, no_store, lock_file, progress_file,
    older_progress, half_written_copy,
)  # fmt: skip

HARMLESS = {longer, lock_file, progress_file, older_progress, half_written_copy}


def damage(store: Path, seed: int) -> Callable[..., None]:
    """Damage the store in the directory *store* in the way that *seed* says; give the way."""
    chance = random.Random(seed)
    number = seed % (len(OCTETS) + len(FILES))
    if number >= len(OCTETS):
        file_way = FILES[number - len(OCTETS)]
        file_way(store, chance)
        return file_way
    content = bytearray((store / "data.mdb").read_bytes())
    way = OCTETS[number]
    way(content, chance)
    (store / "data.mdb").write_bytes(content)
    return way
