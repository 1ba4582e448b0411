"""The log: one line an event, never waiting, repeats limited."""

import fcntl
import logging
import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshdns import log
from meshdns.log import LineHandler, Outlet, RepeatLimit, line


class Pipe:
    """A pipe as small as the kernel makes one; ``outlet`` writes to it."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.size = fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, 4096)
        self.outlet = Outlet(self.writer)

    def read(self) -> str:
        os.set_blocking(self.reader, False)
        octets = b""
        while True:
            try:
                octets += os.read(self.reader, 65536)
            except BlockingIOError:
                return octets.decode()

    def fill(self) -> None:
        while self.outlet.write(b"x" * 512):
            pass

    def close(self) -> None:
        self.outlet.close()
        os.close(self.writer)
        os.close(self.reader)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def logger_on(handler: LineHandler) -> logging.Logger:
    logger = logging.Logger("meshdns.room")
    logger.addHandler(handler)
    return logger


def test_one_event_is_one_line_with_time_level_and_name(pipe: Pipe) -> None:
    logger_on(LineHandler(pipe.outlet)).warning("source %s: %d names", "kuma", 28)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z warning meshdns\.room: source kuma: 28 names\n", pipe.read()
    )


def test_time_is_utc_with_milliseconds() -> None:
    assert line("hello", "info", "x", 1795256430.123) == b"2026-11-21T10:20:30.123Z info x: hello\n"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("two\nlines", r"two\nlines"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("bell\x07 and \x9b", r"bell\x07 and \x9b"),
        ("\ud800 alone", r"\ud800 alone"),
        ("grün", "grün"),
    ],
)
def test_text_of_others_can_forge_nothing(text: str, written: str) -> None:
    assert line(text, "info", "x", 0.0).decode() == f"1970-01-01T00:00:00.000Z info x: {written}\n"


def test_a_long_line_is_cut_between_characters_and_fits_into_a_pipe_at_once() -> None:
    octets = line("ü" * 5000, "info", "x", 0.0)
    assert len(octets) <= log.MAX_LINE
    assert octets.decode().endswith("ü…\n")


def test_an_exception_and_its_cause_are_on_the_same_line(pipe: Pipe) -> None:
    logger = logger_on(LineHandler(pipe.outlet))
    try:
        try:
            raise OSError("disk full")
        except OSError as fault:
            raise RuntimeError("no push") from fault
    except RuntimeError:
        logger.exception("source %s failed", "kuma")
    text = pipe.read()
    assert text.count("\n") == 1
    assert re.search(
        r"source kuma failed \[RuntimeError: no push at test_log\.py:\d+ .*; from OSError: disk full", text
    )


def test_a_template_that_does_not_fit_its_arguments_is_still_told(pipe: Pipe) -> None:
    logger_on(LineHandler(pipe.outlet)).info("%d names", "many")
    assert "'%d names' ('many',)" in pipe.read()


def test_a_full_pipe_costs_lines_but_no_time_and_the_loss_is_told(pipe: Pipe) -> None:
    handler = LineHandler(pipe.outlet, limit=RepeatLimit(burst=1000))
    logger = logger_on(handler)
    pipe.fill()

    def write_fifty() -> None:
        for number in range(50):
            logger.info("line %d", number)

    caller = threading.Thread(target=write_fifty, daemon=True)
    caller.start()
    caller.join(10)
    assert not caller.is_alive()
    assert handler.lost == 50
    pipe.read()
    logger.info("after")
    told, after = pipe.read().splitlines()
    assert told.endswith("warning meshdns.log: 50 log lines were lost: stderr was not read")
    assert after.endswith("after")
    assert handler.lost == 0


def test_the_descriptor_that_others_share_stays_as_it_was(pipe: Pipe) -> None:
    pipe.outlet.write(b"x\n")
    assert os.get_blocking(pipe.writer)


def test_a_full_socket_costs_lines_but_no_time() -> None:
    reader, writer = socket.socketpair()
    with reader, writer:
        outlet = Outlet(writer.fileno())
        assert outlet.write(b"first\n")
        assert reader.recv(100) == b"first\n"
        writer.setblocking(False)
        try:
            while True:
                writer.send(b"x" * 4096)
        except BlockingIOError:
            writer.setblocking(True)
        assert not outlet.write(b"second\n" * 500)
        outlet.close()


def test_a_file_is_written(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        assert Outlet(file.fileno()).write(b"line\n")
    assert path.read_bytes() == b"line\n"


def test_a_pipe_without_reader_is_no_fault() -> None:
    reader, writer = os.pipe()
    outlet = Outlet(writer)
    os.close(reader)
    assert not outlet.write(b"line\n")
    outlet.close()
    os.close(writer)


def test_repeats_of_one_template_are_limited_and_summed_up_later(pipe: Pipe) -> None:
    clock = Clock()
    handler = LineHandler(pipe.outlet, clock=clock)
    logger = logger_on(handler)
    for number in range(log.BURST + 7):
        logger.warning("peer %s is away", number)
    logger.info("something else")
    written = pipe.read().splitlines()
    assert [text.split("room: ")[1] for text in written] == [
        *(f"peer {number} is away" for number in range(log.BURST)),
        "something else",
    ]
    clock.now += log.WINDOW
    handler.tell_left_out()
    (summary,) = pipe.read().splitlines()
    assert summary.endswith("warning meshdns.room: 7 more lines like this were left out: peer %s is away")
    logger.warning("peer %s is away", "again")
    assert pipe.read().endswith("peer again is away\n")


def test_what_must_all_be_told_is_not_limited(pipe: Pipe) -> None:
    logger = logger_on(LineHandler(pipe.outlet))
    for number in range(20):
        logger.error("fault %d", number, extra=log.EVERY)
    assert len(pipe.read().splitlines()) == 20


def test_the_memory_of_templates_is_bounded() -> None:
    limit = RepeatLimit(burst=5, window=10.0)
    passed = sum(limit.permits(f"text {number}", 0.0) for number in range(log.MAX_TEMPLATES + 100))
    assert passed == log.MAX_TEMPLATES + 5
    assert [count for _, count in limit.ended(10.0)] == [95]


def test_setup_sends_every_logger_there_from_its_level_up(pipe: Pipe) -> None:
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    root.handlers[:] = []
    try:
        first = log.setup("info", fd=pipe.writer)
        handler = log.setup("warning", fd=pipe.writer)
        assert root.handlers == [handler]
        assert handler is not first
        logging.getLogger("some.package").info("quiet")
        logging.getLogger("some.package").warning("loud")
        handler.close()
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.raiseExceptions = raising
        logging.captureWarnings(False)
    (text,) = pipe.read().splitlines()
    assert text.endswith("warning some.package: loud")
