"""No name and no symbolic link leads a download out of its folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runfold.protocol.file_names import FileNameError
from runfold.target_folder import TargetError, TargetFolder


def write(folder: TargetFolder, name: str, content: bytes = b"new") -> Path:
    return folder.write(name, "key", lambda fd: _fill(fd, content))


def _fill(fd: int, content: bytes) -> None:
    os.ftruncate(fd, 0)
    os.write(fd, content)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "canary").write_text("old")
    return outside


@pytest.fixture
def target(tmp_path: Path) -> TargetFolder:
    return TargetFolder(tmp_path / "target")


@pytest.mark.parametrize("name", ["../outside/canary", "/etc/x", "a\\b", "a/../b", "", "a//b", "C:x", "a\0b"])
def test_names_that_mean_another_place_are_refused(target: TargetFolder, outside: Path, name: str) -> None:
    with pytest.raises(FileNameError):
        write(target, name)
    with pytest.raises(FileNameError):
        target.check_names([name])


def test_a_folder_that_is_a_link_is_refused(target: TargetFolder, outside: Path) -> None:
    (target.root / "sub").symlink_to(outside)
    with pytest.raises(TargetError, match="symbolic link"):
        write(target, "sub/canary")
    with pytest.raises(TargetError, match="symbolic link"):
        target.holds("sub/canary", "", 3)
    assert [path.name for path in outside.iterdir()] == ["canary"]
    assert (outside / "canary").read_text() == "old"


def test_a_file_that_is_a_link_is_refused(target: TargetFolder, outside: Path) -> None:
    (target.root / "canary").symlink_to(outside / "canary")
    with pytest.raises(TargetError, match="symbolic link"):
        write(target, "canary")
    with pytest.raises(TargetError, match="symbolic link"):
        target.holds("canary", "", 3)
    assert (outside / "canary").read_text() == "old"


def test_an_unfinished_file_that_is_another_file_too_is_not_written_through(
    target: TargetFolder, outside: Path
) -> None:
    with pytest.raises(RuntimeError):
        target.write("a", "key", _stop)
    (part,) = target.root.iterdir()
    part.unlink()
    part.hardlink_to(outside / "canary")
    write(target, "a")
    assert (outside / "canary").read_text() == "old"
    assert (target.root / "a").read_bytes() == b"new"


def _stop(fd: int) -> None:
    os.write(fd, b"half")
    raise RuntimeError


def test_an_attempt_that_was_cut_off_leaves_no_file_and_is_given_to_the_next(target: TargetFolder) -> None:
    (target.root / "a").write_text("old")
    with pytest.raises(RuntimeError):
        target.write("a", "key", _stop)
    assert (target.root / "a").read_text() == "old"
    found: list[bytes] = []
    target.write("a", "other", lambda fd: found.append(os.read(fd, 9)))
    target.write("a", "key", lambda fd: found.append(os.read(fd, 9)))
    assert found == [b"", b"half"]
    assert [path.name for path in target.root.iterdir()] == ["a"]


def test_a_folder_in_the_way_is_told(target: TargetFolder) -> None:
    write(target, "a/b")
    with pytest.raises(TargetError, match="in the way"):
        write(target, "a")
    with pytest.raises(TargetError, match="no folder"):
        write(target, "a/b/c")


def test_names_that_can_not_all_be_files_are_refused(target: TargetFolder) -> None:
    target.check_names(["a/b", "a/c", "A/b", "ab"])
    with pytest.raises(TargetError, match="folder of"):
        target.check_names(["a", "x", "a/b/c"])
    with pytest.raises(TargetError, match="ignores case"):
        target.check_names(["Model.bin", "model.bin"], ignores_case=True)
    with pytest.raises(TargetError, match="ignores case"):
        target.check_names(["Data/a", "data/b"], ignores_case=True)
    with pytest.raises(TargetError, match="ignores case"):
        target.check_names(["caf\u00e9", "cafe\u0301"], ignores_case=True)
    target.check_names(["a/b", "a/c"], ignores_case=True)


def test_whether_case_counts_is_tried_out(target: TargetFolder) -> None:
    (target.root / "x").write_text("")
    assert target.ignores_case() == (target.root / "X").exists()
    assert [path.name for path in target.root.iterdir()] == ["x"]


def test_an_attempt_that_nobody_can_go_on_with_is_removed(target: TargetFolder) -> None:
    with pytest.raises(RuntimeError):
        target.write("a", "key", _stop, keeps_part=False)
    assert list(target.root.iterdir()) == []
