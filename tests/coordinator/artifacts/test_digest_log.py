"""The cache of what manifests name: it saves reading, and whatever happens to its file changes no answer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runfold_coordinator.artifacts import digest_log
from runfold_coordinator.artifacts.digest_log import DigestLog
from runfold_coordinator.blobs.collector import Marks, numbers_of


def digest(number: int) -> str:
    return f"{number:016x}" + "0" * 48


def named_by(number: int) -> list[str]:
    """What the manifest of this number names; number 3 names nothing."""
    return [digest(number * 1000 + at) for at in range(number % 3 * 40)]


class Pass:
    """One reading of some manifests; `read` are those that were not known from before."""

    def __init__(self, path: Path, numbers: range) -> None:
        self.read: list[str] = []
        self.found: set[int] = set()
        for piece in DigestLog(path).read(set(map(digest, numbers)), self._named):
            self.found |= set(piece.tolist())
        assert self.found == {int(each[:16], 16) for number in numbers for each in named_by(number)}

    def _named(self, manifest: str) -> Iterator[str]:
        self.read.append(manifest)
        yield from named_by(int(manifest[:16], 16))


def test_each_manifest_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert len(Pass(path, range(1, 9)).read) == 8
    assert Pass(path, range(1, 9)).read == []
    assert Pass(path, range(3, 10)).read == [digest(9)]
    assert Pass(path, range(1, 10)).read == []


@pytest.mark.parametrize("lost", [1, 7, 200, 500, 2000])
def test_a_torn_end_costs_reading_again_what_it_held(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "log"
    Pass(path, range(1, 9))
    whole = path.stat().st_size
    os.truncate(path, max(0, whole - lost))
    assert Pass(path, range(1, 9)).read
    assert Pass(path, range(1, 9)).read == []
    assert path.stat().st_size == whole


def test_a_flipped_bit_anywhere_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    Pass(path, range(1, 4))
    whole = path.read_bytes()
    for at in range(0, len(whole), 13):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        assert Pass(path, range(1, 4)).read


def test_what_is_not_kept_any_more_goes_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest_log, "_LEAST_REWRITTEN", 100)
    path = tmp_path / "log"
    Pass(path, range(1, 30))
    large = path.stat().st_size
    assert Pass(path, range(1, 4)).read == []
    assert path.stat().st_size < large / 4
    assert Pass(path, range(1, 5)).read == [digest(4)]
    assert Pass(path, range(1, 5)).read == []
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_or_no_file_at_all_costs_the_cache_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    Pass(path, range(1, 4))
    real = os.pwrite
    with monkeypatch.context() as patched:  # a disk that takes half of what it is given
        patched.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[: len(data) // 2], at))
        assert len(Pass(path, range(1, 9)).read) == 5
    assert Pass(path, range(1, 4)).read == []
    assert len(Pass(tmp_path / "no" / "log", range(1, 4)).read) == 3
    link = tmp_path / "link"
    link.symlink_to(path)
    assert len(Pass(link, range(1, 4)).read) == 3


def test_of_two_with_one_file_the_second_goes_without(tmp_path: Path) -> None:
    path = tmp_path / "log"
    Pass(path, range(1, 4))
    first = DigestLog(path).read({digest(1), digest(50)}, lambda _: [])
    next(first)
    assert len(Pass(path, range(1, 4)).read) == 3
    first.close()  # type: ignore[attr-defined]
    assert Pass(path, range(1, 4)).read == []


@given(st.lists(st.lists(st.integers(0, 2**64 - 1), max_size=8), max_size=12), st.integers(0, 20))
def test_marks_are_a_set(pieces: list[list[int]], gathered: int) -> None:
    marks = Marks(gathered)
    for piece in pieces:
        marks.add(numbers_of(f"{number:016x}" for number in piece))
    assert marks.sorted().tolist() == sorted({number for piece in pieces for number in piece})
