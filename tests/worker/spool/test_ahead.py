"""The next segment's file is made beside the writer, and never in its way."""

from __future__ import annotations

import _thread
import ctypes
import mmap
import os
from pathlib import Path

import pytest

from contracts.spool_oracle import append_row, deliver, make, segments
from runfold.spool.ahead import FileAhead
from runfold.spool.segment import Segment


def test_a_prepared_file_is_taken_once(tmp_path: Path) -> None:
    ahead = FileAhead(tmp_path / "ahead.tmp")
    assert ahead.is_idle
    ahead.prepare(8192)
    fd = ahead.take(8192)
    assert fd is not None
    assert os.fstat(fd).st_size == 8192
    assert ahead.is_idle
    assert ahead.take(8192) is None
    os.close(fd)


def test_a_file_of_another_size_is_thrown_away(tmp_path: Path) -> None:
    ahead = FileAhead(tmp_path / "ahead.tmp")
    ahead.prepare(8192)
    assert ahead.take(4096) is None
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_used_is_removed(tmp_path: Path) -> None:
    ahead = FileAhead(tmp_path / "ahead.tmp")
    ahead.discard()
    ahead.prepare(8192)
    ahead.discard()
    assert list(tmp_path.iterdir()) == []


def test_no_space_is_nobodys_error_here(tmp_path: Path) -> None:
    ahead = FileAhead(tmp_path / "missing" / "ahead.tmp")
    ahead.prepare(8192)
    assert ahead.take(8192) is None
    assert ahead.is_idle


def test_at_interpreter_exit_no_thread_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    ahead = FileAhead(tmp_path / "ahead.tmp")
    ahead.prepare(8192)
    assert ahead.take(8192) is None


def test_a_writer_that_prepares_ahead_loses_nothing(tmp_path: Path) -> None:
    writer = make(tmp_path, "mmap", prepare_ahead=True)
    while len(segments(writer.directory)) < 20:
        assert append_row(writer)
    writer.close()
    assert not (writer.directory / "ahead.tmp").exists()
    delivered = deliver(writer.directory)
    assert (delivered.hi, delivered.gaps) == (writer.last_seq, [])


def test_a_prepared_file_is_in_memory_before_it_is_needed(tmp_path: Path) -> None:
    """A page that is met for the first time by a log() call costs it microseconds, or milliseconds."""
    ahead = FileAhead(tmp_path / "ahead.tmp")
    size = 4 * 1024 * 1024
    ahead.prepare(size)
    fd = ahead.take(size)
    assert fd is not None
    pages = mmap.mmap(fd, size)
    os.close(fd)
    first = ctypes.c_char.from_buffer(pages)
    found = (ctypes.c_ubyte * (size // mmap.PAGESIZE))()
    libc = ctypes.CDLL(None)
    assert libc.mincore(ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(size), found) == 0
    assert all(page & 1 for page in found)
    del first
    pages.close()


def test_the_segment_that_was_left_is_closed_beside_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = make(tmp_path, "mmap")
    closed_in: list[int] = []
    close = Segment.close

    def watched(segment: Segment, *, truncate_at: int | None = None) -> None:
        closed_in.append(_thread.get_ident())
        close(segment, truncate_at=truncate_at)

    monkeypatch.setattr(Segment, "close", watched)
    while len(segments(writer.directory)) < 3:
        append_row(writer)
    for _ in range(10_000):
        if len(closed_in) == 2:
            break
        append_row(writer)
    assert len(closed_in) >= 2
    assert _thread.get_ident() not in closed_in
    writer.close()
