"""The files that resources are written in: what changes, goes, breaks or cannot be read; ConfigMaps and symlinks."""

import os
from pathlib import Path

import pytest

from meshdns.publisher import files as module
from meshdns.publisher.files import Files, PathError
from tests.publisher.meshes import dataplane, written

LATER = 3600 * 10**9


def watching(path: Path) -> Files:
    """Files looked at an hour from now, so that everything has settled."""
    return Files(path, now=lambda: module.time.time_ns() + LATER)


def found(files: Files) -> dict[str, list[str]]:
    return {Path(file).name: [each[2] for each in reading.resources] for file, reading in files.readings.items()}


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    path = tmp_path / "mesh"
    path.mkdir()
    (path / "a.yaml").write_text(written(dataplane("a", "web")))
    return path


def test_a_directory_is_read_with_what_is_below_it(mesh: Path) -> None:
    (mesh / "below").mkdir()
    (mesh / "below" / "b.yml").write_text(written(dataplane("b", "api")))
    (mesh / "c.json").write_text(written(dataplane("c", "api")))
    for name in (".hidden.yaml", "notes.txt", "a.yaml~"):
        (mesh / name).write_text("type: [")
    files = watching(mesh)
    assert files.look()
    assert found(files) == {"a.yaml": ["a"], "b.yml": ["b"], "c.json": ["c"]}
    assert not files.look()


def test_a_single_file_is_read(mesh: Path) -> None:
    files = watching(mesh / "a.yaml")
    assert files.look()
    assert found(files) == {"a.yaml": ["a"]}


def test_what_changes_is_read_anew_and_what_goes_is_gone(mesh: Path) -> None:
    files = watching(mesh)
    files.look()
    (mesh / "b.yaml").write_text(written(dataplane("b", "api")))
    assert files.look()
    (mesh / "a.yaml").write_text(written(dataplane("other", "web")))
    assert files.look()
    assert found(files) == {"a.yaml": ["other"], "b.yaml": ["b"]}
    (mesh / "a.yaml").unlink()
    assert files.look()
    assert found(files) == {"b.yaml": ["b"]}


def test_a_file_that_is_written_again_with_the_same_content_is_no_change(mesh: Path) -> None:
    files = watching(mesh)
    files.look()
    text = (mesh / "a.yaml").read_text()
    (mesh / "new").write_text(text)
    (mesh / "new").rename(mesh / "a.yaml")
    assert not files.look()


def test_an_empty_directory_is_read_too(tmp_path: Path) -> None:
    files = watching(tmp_path)
    assert files.look()
    assert files.ready
    assert not files.look()


def test_a_fresh_change_waits_until_it_has_settled_but_not_for_ever(mesh: Path) -> None:
    files = Files(mesh, now=lambda: max(each.stat().st_mtime_ns for each in (mesh, mesh / "a.yaml")))
    for _ in range(module.MAX_UNSETTLED):
        assert not files.look()
        assert not files.ready
    assert files.look()
    assert found(files) == {"a.yaml": ["a"]}


def test_a_clock_that_was_set_back_makes_nobody_wait(mesh: Path) -> None:
    assert Files(mesh, now=lambda: 0).look()


def test_the_symlink_swap_of_a_configmap_is_seen_as_one_change(tmp_path: Path) -> None:
    for version, name in (("..1", "one"), ("..2", "two")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "a.yaml").write_text(written(dataplane(name, "web")))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    files = watching(tmp_path)
    files.look()
    assert found(files) == {"a.yaml": ["one"]}
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    assert files.look()
    assert found(files) == {"a.yaml": ["two"]}


def test_symlinks_that_lead_back_or_nowhere_do_no_harm(mesh: Path) -> None:
    (mesh / "loop").symlink_to(mesh)
    (mesh / "nowhere.yaml").symlink_to("gone")
    files = watching(mesh)
    files.look()
    assert found(files) == {"a.yaml": ["a"]}


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a\0b", b"type: ["])
def test_a_file_that_breaks_keeps_what_it_said_and_is_named(mesh: Path, content: bytes) -> None:
    files = watching(mesh)
    files.look()
    (mesh / "a.yaml").write_bytes(content)
    assert files.look()
    assert found(files) == {"a.yaml": ["a"]}
    (fault,) = files.readings[str(mesh / "a.yaml")].faults
    assert str(fault).startswith(f"{mesh}/a.yaml")


def test_a_file_that_may_not_be_read_keeps_what_it_said(mesh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = watching(mesh)
    files.look()
    opened = Path.open

    def deny(path: Path, *args: object, **more: object) -> object:
        if path.name == "a.yaml":
            raise PermissionError(13, "Permission denied")
        return opened(path, *args, **more)  # type: ignore[call-overload]

    (mesh / "a.yaml").write_text(written(dataplane("other", "web")))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", deny)  # the tests may run as root, whom no mode stops
        assert files.look()
        assert not files.look()
    assert found(files) == {"a.yaml": ["a"]}
    assert "cannot be read: Permission denied" in str(files.readings[str(mesh / "a.yaml")].faults[0])
    assert files.look()  # nothing about the file changed, but it is tried again
    assert found(files) == {"a.yaml": ["other"]}
    assert not files.look()


def test_a_path_that_is_gone_is_told_and_nothing_is_lost(mesh: Path) -> None:
    files = watching(mesh)
    files.look()
    mesh.rename(mesh.with_name("moved"))
    with pytest.raises(PathError, match="No such file"):
        files.look()
    assert found(files) == {"a.yaml": ["a"]}
    mesh.with_name("moved").rename(mesh)
    assert not files.look()


def test_a_pipe_is_refused_without_being_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PathError, match="neither a file nor a directory"):
        watching(tmp_path / "pipe").look()


def test_too_many_and_too_large_files_are_refused(mesh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = watching(mesh)
    files.look()
    monkeypatch.setattr(module, "MAX_SIZE", 10)
    os.utime(mesh / "a.yaml")
    files.look()
    assert "larger than" in str(files.readings[str(mesh / "a.yaml")].faults[0])
    assert found(files) == {"a.yaml": ["a"]}
    monkeypatch.setattr(module, "MAX_FILES", 0)
    with pytest.raises(PathError, match="more than 0 files"):
        files.look()
