"""The publisher as a source: from a file that is written to a table and a view, with everything that may go wrong."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from meshdns.errors import ResourceError, StoreError
from meshdns.inventory.event import Connected, Disconnected, Noticed, Pushed, SourceEvent
from meshdns.publisher import source as module
from meshdns.publisher.mesh_view import MeshView
from meshdns.publisher.source import PublisherSource, read_once
from meshdns.publisher.vips import Allocation, Leases
from tests.publisher.meshes import dataplane, names, services, settings, written
from tests.scale import bound

PATIENCE = 40.0


@dataclass
class Followed:
    """A source whose events are taken as they come."""

    source: PublisherSource
    path: Path
    events: list[SourceEvent] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)

    async def follow(self) -> None:
        async for event in self.source.events():
            self.events.append(event)
            self.came.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for *condition*, looked at after each event."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await self.came.wait()
                self.came.clear()

    async def pushed(self, condition: Callable[[Pushed], bool] = lambda _: True) -> Pushed:
        """Wait for a push that *condition* holds for."""
        await self.until(lambda: any(isinstance(each, Pushed) and condition(each) for each in self.events))
        return next(each for each in reversed(self.events) if isinstance(each, Pushed) and condition(each))

    async def viewed(self, condition: Callable[[MeshView], bool]) -> MeshView:
        """Wait for a view that *condition* holds for."""
        seen = self.source.current
        async with asyncio.timeout(PATIENCE):
            while seen is None or not condition(seen):
                seen = await self.source.changed(seen)
        return seen

    def write(self, *resources: Any, name: str = "mesh.yaml") -> None:
        """Replace a file as an editor does."""
        (self.path / ".new").write_text(written(*resources))
        (self.path / ".new").rename(self.path / name)


@asynccontextmanager
async def following(path: Path, *resources: Any, **more: Any) -> AsyncIterator[Followed]:
    (path / "mesh").mkdir(exist_ok=True)
    options = {key: more.pop(key) for key in ("vips", "linger") if key in more}
    listening = more.pop("listening", "transparent")
    source = PublisherSource(settings(path / "mesh", vips=listening, **more), data_dir=path / "data", **options)
    followed = Followed(source, path / "mesh")
    if resources:
        followed.write(*resources)
    task = asyncio.create_task(followed.follow())
    try:
        yield followed
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        source.close()


def addresses(push: Pushed) -> dict[str, str]:
    return {name: str(record.addresses[0]) for name, record in push.table.records.items()}


async def test_files_become_a_table(tmp_path: Path) -> None:
    async with following(tmp_path, dataplane("a", "echo_default_svc_80"), mesh="default") as followed:
        push = await followed.pushed()
        assert followed.events[0] == Connected(str(tmp_path / "mesh"))
        assert addresses(push) == {"echo.default.svc.80.mesh": "240.0.0.0", "echo_default_svc_80.mesh": "240.0.0.0"}
        record = push.table.records["echo_default_svc_80.mesh"]
        assert (record.service, record.origin.source, record.origin.version) == (
            "echo_default_svc_80", "own", push.version,
        )  # fmt: skip
        assert push.table.lenient
        view = followed.source.current
        assert view is not None
        assert services(view) == {"240.0.0.0:80": "echo_default_svc_80"}


async def test_a_change_is_published_within_a_tenth_of_a_second(tmp_path: Path) -> None:
    async with following(tmp_path, dataplane("a", "web")) as followed:
        await followed.pushed()
        took = []
        for number in range(5):
            began = time.monotonic()
            followed.write(dataplane("a", "web"), dataplane("b", f"api{number}"))
            await followed.viewed(lambda view, name=f"api{number}.mesh": name in names(view))  # type: ignore[misc]
            took.append(time.monotonic() - began)
        assert min(took) <= bound(0.1), took


async def test_vips_survive_a_restart(tmp_path: Path) -> None:
    async with following(tmp_path, dataplane("b", "web")) as followed:
        await followed.pushed()
    async with following(tmp_path, dataplane("a", "api"), dataplane("b", "web")) as followed:
        assert addresses(await followed.pushed()) == {"web.mesh": "240.0.0.0", "api.mesh": "240.0.0.1"}


async def test_when_listeners_are_to_bind_vips_are_others(tmp_path: Path) -> None:
    async with following(tmp_path, dataplane("b", "web")) as followed:
        assert addresses(await followed.pushed()) == {"web.mesh": "240.0.0.0"}
    async with following(tmp_path, listening="bind") as followed:
        assert addresses(await followed.pushed()) == {"web.mesh": "127.80.0.0"}
    async with following(tmp_path) as followed:
        assert addresses(await followed.pushed()) == {"web.mesh": "240.0.0.0"}


async def test_a_broken_file_changes_nothing_and_is_told(tmp_path: Path) -> None:
    async with following(tmp_path, dataplane("a", "web")) as followed:
        first = await followed.pushed()
        before = followed.source.current
        (followed.path / "mesh.yaml").write_text("type: [")
        push = await followed.pushed(lambda push: bool(push.skipped))
        assert push.table == first.table
        assert f"{followed.path}/mesh.yaml" in push.skipped[0]
        assert followed.source.current is before
        followed.write(dataplane("a", "web"), dataplane("b", "api"))
        assert (
            "api.mesh"
            in (await followed.pushed(lambda push: not push.skipped and len(push.table.records) > 1)).table.records
        )


async def test_an_instance_that_goes_changes_the_view_and_not_the_table(tmp_path: Path) -> None:
    both = [dataplane("a", "web"), dataplane("b", "web", address="192.168.0.2")]
    async with following(tmp_path, *both) as followed:
        await followed.pushed()
        followed.write(both[0])
        view = await followed.viewed(lambda view: len(view.clusters["web"].endpoints) == 1)
        assert view.clusters["web"].endpoints[0].address == "192.168.0.1"
        assert sum(isinstance(each, Pushed) for each in followed.events) == 1


async def test_a_path_that_goes_is_told_and_what_was_published_stays(tmp_path: Path) -> None:
    async with following(tmp_path, dataplane("a", "web")) as followed:
        await followed.pushed()
        before = followed.source.current
        followed.path.rename(tmp_path / "moved")
        await followed.until(lambda: any(isinstance(each, Disconnected) for each in followed.events))
        assert followed.source.current is before
        (tmp_path / "moved").rename(followed.path)
        await followed.until(lambda: sum(isinstance(each, Connected) for each in followed.events) == 2)
        assert followed.source.current is before


async def test_a_path_that_is_missing_at_start_is_told_at_once(tmp_path: Path) -> None:
    source = PublisherSource(settings(tmp_path / "gone"), data_dir=tmp_path)
    events = source.events()
    assert isinstance(await anext(events), Disconnected)
    assert source.current is None
    await events.aclose()  # type: ignore[attr-defined]


async def test_a_data_plane_joins_with_its_stream_and_leaves_after_it(tmp_path: Path) -> None:
    async with following(tmp_path, dataplane("a", "web"), linger=0.05) as followed:
        await followed.pushed()
        joined = followed.source.join(written(dataplane("b", "api")), "default", "b")
        view = await followed.viewed(lambda view: "b" in view.dataplanes)
        assert view.dataplanes["b"] == joined
        assert names(view)["api.mesh"] == "240.0.0.1"
        followed.source.leave("b")
        await followed.viewed(lambda view: "b" not in view.dataplanes)


async def test_a_data_plane_that_comes_back_in_time_never_left(tmp_path: Path) -> None:
    async with following(tmp_path, dataplane("a", "web"), linger=3600) as followed:
        await followed.pushed()
        followed.source.join(written(dataplane("b", "api")), "default", "b")
        view = await followed.viewed(lambda view: "b" in view.dataplanes)
        followed.source.leave("b")
        followed.source.join(written(dataplane("b", "api")), "default", "b")
        followed.write(dataplane("a", "web"), dataplane("c", "late"))
        late = await followed.viewed(lambda view: "late.mesh" in names(view))
        assert late.dataplanes["b"] == view.dataplanes["b"]
        followed.source.leave("nobody")


async def test_a_data_plane_that_cannot_be_used_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    async with following(tmp_path, dataplane("a", "web")) as followed:
        await followed.pushed()
        before = followed.source.current
        with pytest.raises(ResourceError, match="does not match proxy resource"):
            followed.source.join(written(dataplane("b", "api")), "default", "other")
        assert followed.source.current is before


class Failing:
    """VIPs that cannot be kept until told otherwise."""

    def __init__(self) -> None:
        self.broken = True

    def update(self, space: str, change: Callable[[Leases], Allocation]) -> Allocation:
        if self.broken:
            raise StoreError("vips.sqlite: disk full")
        return change({})

    def close(self) -> None:
        pass


async def test_vips_that_cannot_be_kept_are_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_EVERY", 0.05)
    vips = Failing()
    async with following(tmp_path, dataplane("a", "web"), vips=vips) as followed:
        await followed.until(lambda: any(isinstance(each, Noticed) for each in followed.events))
        assert followed.source.current is None
        vips.broken = False
        assert addresses(await followed.pushed()) == {"web.mesh": "240.0.0.0"}
        assert sum(isinstance(each, Noticed) for each in followed.events) == 1


async def test_exhaustion_is_told_and_ends_when_an_address_has_rested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_EVERY", 0.05)
    more = {"ranges": {"services": "240.0.0.0/31"}, "quarantine": 0.3}
    three = [dataplane(name, name) for name in ("a", "b", "c")]
    async with following(tmp_path, *three, **more) as followed:
        push = await followed.pushed()
        assert addresses(push) == {"a.mesh": "240.0.0.0", "b.mesh": "240.0.0.1"}
        assert push.skipped == ("no VIP is left in 240.0.0.0/31 for 0:c: it has no name (widen ranges.services)",)
        followed.write(*three[1:])
        push = await followed.pushed(lambda push: "c.mesh" in push.table.records)
        assert addresses(push) == {"b.mesh": "240.0.0.1", "c.mesh": "240.0.0.0"}
        assert push.skipped == ()


async def test_a_second_run_of_events_begins_with_the_whole_table(tmp_path: Path) -> None:
    async with following(tmp_path, dataplane("a", "web")) as followed:
        await followed.pushed()
        again = followed.source.events()
        kinds = [type(await anext(again)), type(await anext(again))]
        assert kinds == [Connected, Pushed]
        await again.aclose()  # type: ignore[attr-defined]


def test_files_can_be_read_once_without_keeping_anything(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(written(dataplane("a", "web"), dataplane("b", "")))
    seen = read_once(settings(tmp_path))
    assert names(seen) == {"web.mesh": "240.0.0.0"}
    assert "mandatory tag 'kuma.io/service' is missing" in seen.skipped[0]
    assert [each.name for each in tmp_path.iterdir()] == ["a.yaml"]
    with pytest.raises(ResourceError, match="No such file"):
        read_once(settings(tmp_path / "gone"))
