"""kuma-dp's socket: a server in the test speaks HTTP over a real unix socket, well and badly."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from meshdns.inventory.event import Connected, Disconnected, Noticed, Pushed, SourceEvent, Unchanged
from meshdns.sources import kuma_dp
from meshdns.sources.kuma_dp import KumaDpSource
from meshdns.sources.settings import KumaDpSettings
from tests.sources.listening import PATIENCE, Listening

Speak = Callable[[asyncio.StreamWriter], Awaitable[None]]


def document(*names: str) -> bytes:
    """A ``/dns`` document as kuma-cp writes it, a VIP for each name."""
    records = [{"name": name, "ips": [f"240.0.0.{n}", f"::ffff:f000:{n:x}"]} for n, name in enumerate(names)]
    return json.dumps({"records": records, "ttl": 30, "extraLabels": {"mesh": "default"}}).encode()


def etag_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def http(status: str, body: bytes = b"", *headers: str, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body) if length is None else length}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Envoy:
    """What answers on the socket: the two routes of dynamic configuration, or what ``speak`` does instead."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.body: bytes | None = document("echo.mesh")
        """The document; None where there is no such route."""
        self.send_etag = True
        self.speak: Speak | None = None
        self.queries: list[dict[str, str]] = []
        """The headers of each query, and its first line under ``""``."""
        self._server: asyncio.Server | None = None
        self._asked = asyncio.Condition()

    async def asked(self, count: int) -> None:
        """Wait for *count* further queries."""
        until = len(self.queries) + count
        async with asyncio.timeout(PATIENCE), self._asked:
            await self._asked.wait_for(lambda: len(self.queries) >= until)

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def stop(self, *, leave_socket: bool = False) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None
            if not leave_socket:
                self.path.unlink()  # Python 3.11 leaves it

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {line.split(":")[0].lower(): line.split(":", 1)[1].strip() for line in rest if line}
            async with self._asked:
                self.queries.append({"": first} | headers)
                self._asked.notify_all()
            if self.speak is not None:
                await self.speak(writer)
            else:
                writer.write(self._answer(headers.get("if-none-match")))
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client had enough
        finally:
            writer.close()

    def _answer(self, known: str | None) -> bytes:
        if self.body is None:
            return http("404 Not Found")
        if known == etag_of(self.body):
            return http("304 Not Modified")
        return http("200 OK", self.body, *([f"etag: {etag_of(self.body)}"] if self.send_etag else []))


@pytest.fixture
async def envoy(tmp_path: Path) -> AsyncIterator[Envoy]:
    server = Envoy(tmp_path / "dp.sock")
    await server.start()
    yield server
    await server.stop()


@asynccontextmanager
async def listening(path: Path, *, timeout: float = 5.0, confirm_every: float = 0.0) -> AsyncIterator[Listening]:
    settings = KumaDpSettings(name="sidecar", type="kuma-dp", socket=path)
    source = KumaDpSource(settings, interval=0.005, timeout=timeout, confirm_every=confirm_every)
    async with Listening(source) as heard:
        yield heard


async def after_unchanged(heard: Listening) -> SourceEvent:
    """Give the next event that is not ``Unchanged``."""
    while (event := await heard.next(object)) == Unchanged():
        pass
    return event  # type: ignore[return-value]  # every event is one


async def test_the_document_is_pushed_and_then_asked_for_by_its_etag(envoy: Envoy) -> None:
    assert envoy.body is not None
    async with listening(envoy.path) as heard:
        assert await heard.next(Connected) == Connected(str(envoy.path))
        push = await heard.next(Pushed)
        record = push.table.records["echo.mesh"]
        assert [str(address) for address in record.addresses] == ["240.0.0.0", "::ffff:f000:0"]
        assert (record.ttl, record.origin.source, record.origin.resource) == (30, "sidecar", "/dns")
        assert push.version == record.origin.version == etag_of(envoy.body)
        assert push.table.lenient
        assert not push.table.listeners
        await heard.next(Unchanged)
        await heard.next(Unchanged)
    first, second, *_ = envoy.queries
    assert first[""] == "GET /dns HTTP/1.1"
    assert "host" in first
    assert "if-none-match" not in first
    assert second["if-none-match"] == etag_of(envoy.body)


async def test_a_changed_document_is_pushed(envoy: Envoy) -> None:
    async with listening(envoy.path) as heard:
        await heard.next(Connected)
        await heard.next(Pushed)
        envoy.body = document("echo.mesh", "web.mesh")
        push = await after_unchanged(heard)
        assert isinstance(push, Pushed)
        assert set(push.table.records) == {"echo.mesh", "web.mesh"}


async def test_without_an_etag_the_same_document_is_not_pushed_again(envoy: Envoy) -> None:
    envoy.send_etag = False
    async with listening(envoy.path) as heard:
        await heard.next(Connected)
        push = await heard.next(Pushed)
        assert envoy.body is not None
        assert push.version == etag_of(envoy.body)
        for _ in range(3):
            await heard.next(Unchanged)
    assert not any("if-none-match" in query for query in envoy.queries)


async def test_confirmations_keep_their_distance(envoy: Envoy) -> None:
    async with listening(envoy.path, confirm_every=1e9) as heard:
        await heard.next(Connected)
        await heard.next(Pushed)
        waiting = asyncio.create_task(heard.next(Pushed))
        await envoy.asked(5)
        envoy.body = document()
        assert (await waiting).table.records == {}


async def test_names_that_cannot_be_are_named_and_the_rest_is_pushed(envoy: Envoy) -> None:
    envoy.body = document("a..b.mesh", "echo.mesh")
    async with listening(envoy.path) as heard:
        await heard.next(Connected)
        push = await heard.next(Pushed)
        assert set(push.table.records) == {"echo.mesh"}
        assert "a..b.mesh" in push.skipped[0]


async def test_a_kuma_dp_without_dns_is_told_once(envoy: Envoy) -> None:
    envoy.body = None
    async with listening(envoy.path) as heard:
        await heard.next(Connected)
        told = await heard.next(Noticed)
        assert told.problem == "this kuma-dp serves no /dns"
        assert "feature-embedded-dns" in told.remedy
        waiting = asyncio.create_task(heard.next(Pushed))  # the next thing heard, however often it is asked
        await envoy.asked(3)
        envoy.body = document("echo.mesh")
        await waiting


async def send(writer: asyncio.StreamWriter, *parts: bytes) -> None:
    for part in parts:
        writer.write(part)
        await writer.drain()


GARBAGE: list[tuple[str, bytes, type[Noticed] | type[Disconnected], str]] = [
    ("no JSON", http("200 OK", b"records: []"), Noticed, "not JSON"),
    ("half a JSON", http("200 OK", document("echo.mesh")[:-9]), Noticed, "not JSON"),
    ("JSON that is no table", http("200 OK", b'["echo.mesh"]'), Noticed, "not an object"),
    ("a table that is none", http("200 OK", b'{"records": 5}'), Noticed, "not a list"),
    ("nothing", http("200 OK"), Noticed, "not JSON"),
    ("bytes", http("200 OK", bytes(range(256))), Noticed, "not JSON"),
    ("an error", http("503 Service Unavailable", b"no healthy upstream"), Noticed, "/dns answered 503 Service Unav"),
    ("a redirect", http("302 Found", b"", "location: /"), Noticed, "/dns answered 302 Found"),
    ("304 to no etag", http("304 Not Modified"), Noticed, "/dns answered 304"),
    ("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", Disconnected, "is not HTTP"),
    ("no answer", b"", Disconnected, "cut or is not HTTP"),
    ("half a status", b"HTTP/1.1 2", Disconnected, "cut or is not HTTP"),
    ("endless status", b"HTTP/1.1 200 " + b"x" * 100_000, Disconnected, "cut or is not HTTP"),
    ("many headers", http("200 OK", b"", *(f"x-{n}: y" for n in range(500))), Disconnected, "more than 100 headers"),
    ("a cut body", http("200 OK", document("echo.mesh"), length=9_999), Disconnected, "octets are missing"),
    (
        "a cut chunk",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffff\r\n{}",
        Disconnected,
        "cut or is not HTTP",
    ),
    (
        "odd chunks",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}",
        Disconnected,
        "cut or is not HTTP",
    ),
]


@pytest.mark.parametrize(("answer", "kind", "message"), [row[1:] for row in GARBAGE], ids=[row[0] for row in GARBAGE])
async def test_a_bad_answer_is_named_once_and_changes_nothing(
    envoy: Envoy, answer: bytes, kind: type[Noticed] | type[Disconnected], message: str
) -> None:
    async with listening(envoy.path) as heard:
        await heard.next(Connected)
        await heard.next(Pushed)
        if "304" not in message:
            envoy.speak = lambda writer: send(writer, answer)
            event = await after_unchanged(heard)
        else:
            envoy.body = None  # which takes the etag from the source
            await after_unchanged(heard)
            envoy.speak = lambda writer: send(writer, answer)
            event = await after_unchanged(heard)
        assert isinstance(event, kind)
        assert message in (event.problem if isinstance(event, Noticed) else event.reason)
        assert event.remedy
        waiting = asyncio.create_task(heard.next(object))
        await envoy.asked(3)
        assert "if-none-match" not in envoy.queries[-1]
        envoy.speak, envoy.body = None, document("echo.mesh")
        if kind is Disconnected:
            assert isinstance(await waiting, Connected)
            await heard.next(Unchanged)
        else:
            assert isinstance(await waiting, Unchanged)


async def test_an_unusable_etag_is_not_sent_back(envoy: Envoy) -> None:
    body = document("echo.mesh")
    for etag in ("x" * 257, "caf\u00e9"):
        envoy.speak = lambda writer, etag=etag: send(  # type: ignore[misc]
            writer, b"HTTP/1.1 200 OK\r\netag: " + etag.encode("latin-1") + b"\r\n\r\n" + body
        )
        async with listening(envoy.path) as heard:
            await heard.next(Connected)
            assert (await heard.next(Pushed)).version == etag_of(body)
            await heard.next(Unchanged)
    assert not any("if-none-match" in query for query in envoy.queries)


async def test_a_body_in_chunks_and_one_that_ends_with_the_connection_are_read(envoy: Envoy) -> None:
    body = document("echo.mesh")
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:7], body[7:])) + b"0\r\n\r\n"
    for answer in (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunks,
        b"HTTP/1.0 200 OK\r\n\r\n" + body,
    ):
        envoy.speak = lambda writer, answer=answer: send(writer, answer)  # type: ignore[misc]
        async with listening(envoy.path) as heard:
            await heard.next(Connected)
            assert set((await heard.next(Pushed)).table.records) == {"echo.mesh"}


async def test_a_document_beyond_the_limit_is_refused(envoy: Envoy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kuma_dp, "MAX_BODY", 1 << 20)
    block = b" " * (1 << 16)

    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await send(writer, block)

    envoy.speak = endless
    async with listening(envoy.path) as heard:
        await heard.next(Connected)
        assert (await heard.next(Noticed)).problem == "the /dns document is larger than 1 MiB"


async def test_a_silent_server_is_told_after_the_timeout(envoy: Envoy) -> None:
    ended = asyncio.Event()

    async def silent(writer: asyncio.StreamWriter) -> None:
        await ended.wait()

    envoy.speak = silent
    async with listening(envoy.path, timeout=0.2) as heard:
        assert (await heard.next(Disconnected)).reason == f"{envoy.path}: no whole answer within 0.2 s"
        envoy.speak = None
        await heard.next(Connected)
        await heard.next(Pushed)
    ended.set()


async def test_an_answer_in_drops_does_not_outlast_the_timeout(envoy: Envoy) -> None:
    """Each drop comes well within a socket's timeout, all of them never."""

    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        while True:
            await send(writer, b" ")
            await asyncio.sleep(0.02)

    envoy.speak = drip
    async with listening(envoy.path, timeout=0.3) as heard:
        assert (await heard.next(Disconnected)).reason == f"{envoy.path}: no whole answer within 0.3 s"


async def test_a_listening_that_ends_does_not_wait_for_the_server(envoy: Envoy) -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    async def silent(writer: asyncio.StreamWriter) -> None:
        asked.set()
        await ended.wait()

    envoy.speak = silent
    async with listening(envoy.path, timeout=60) as heard:
        waiting = asyncio.create_task(heard.next(Connected))
        await asked.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    ended.set()
    async with asyncio.timeout(5):  # the thread of the exchange is over: nothing holds up the end of a process
        await asyncio.get_running_loop().shutdown_default_executor()


async def test_a_restart_is_heard(envoy: Envoy) -> None:
    async with listening(envoy.path) as heard:
        await heard.next(Connected)
        await heard.next(Pushed)
        await envoy.stop()
        gone = await after_unchanged(heard)
        assert isinstance(gone, Disconnected)
        assert gone.reason == f"{envoy.path}: no such socket"
        assert "kuma-dp of 2.11 or later" in gone.remedy
        await envoy.start()
        await heard.next(Connected)
        await heard.next(Unchanged)
        envoy.body = document("web.mesh")
        assert isinstance(await after_unchanged(heard), Pushed)


async def test_a_socket_without_a_listener_is_told(envoy: Envoy) -> None:
    await envoy.stop(leave_socket=True)
    async with listening(envoy.path) as heard:
        assert (await heard.next(Disconnected)).reason == f"{envoy.path}: nobody listens on it"
    envoy.path.unlink()


async def test_a_socket_that_may_not_be_used_is_told(envoy: Envoy, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(self: object, path: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(kuma_dp.socket.socket, "connect", deny)  # the tests may run as root, whom no mode stops
    async with listening(envoy.path) as heard:
        told = await heard.next(Disconnected)
        assert told.reason == f"{envoy.path}: permission denied"
        assert "same user or group" in told.remedy


async def test_no_more_files_than_the_process_may_have_is_told(envoy: Envoy, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*words: object) -> None:
        raise OSError(24, "Too many open files")

    async with listening(envoy.path) as heard:
        monkeypatch.setattr(kuma_dp.socket, "socket", exhausted)
        assert (await heard.next(Disconnected)).reason == f"{envoy.path}: Too many open files"
        monkeypatch.undo()
        await heard.next(Connected)


async def test_a_second_listening_begins_with_the_whole_table(envoy: Envoy) -> None:
    source = KumaDpSource(KumaDpSettings(name="sidecar", type="kuma-dp", socket=envoy.path), interval=0.005)
    for _ in range(2):
        async with Listening(source) as heard:
            await heard.next(Connected)
            await heard.next(Pushed)
    assert "heard" in repr(source)
