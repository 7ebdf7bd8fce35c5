"""Source: a file as it was when it was opened."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from runfold.uploads.failures import SourceError, StoppedError
from runfold.uploads.source import CHUNK_BYTES, Source, mark_of


def test_a_digest_may_be_made_in_parts(tmp_path: Path) -> None:
    content = os.urandom(3 * CHUNK_BYTES + 5)
    (tmp_path / "a").write_bytes(content)
    with Source(tmp_path / "a") as source:
        parts = 0
        while (digest := source.digest_some(lambda: False, lambda: True)) is None:
            parts += 1
        assert parts == 3
        assert digest == hashlib.sha256(content).hexdigest() == source.digest()
        assert b"".join(source.chunks(10, 20)) == content[10:30]
        assert max(len(chunk) for chunk in source.chunks()) == CHUNK_BYTES


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, message in ((tmp_path, "is no file"), (tmp_path / "pipe", "is no file")):
        with pytest.raises(SourceError, match=message) as caught:
            Source(path)
        assert not caught.value.is_gone
    with pytest.raises(SourceError, match="is not there") as caught:
        Source(tmp_path / "none")
    assert caught.value.is_gone
    with pytest.raises(SourceError, match="can't be read"):
        Source("nul\0")


def test_reading_ends_where_it_became_shorter_and_when_told(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100)
    with Source(tmp_path / "a") as source:
        with pytest.raises(StoppedError):
            source.digest(lambda: True)
        os.truncate(tmp_path / "a", 50)
        with pytest.raises(SourceError, match="became shorter"):
            source.digest()


def test_a_mark_tells_of_every_change(tmp_path: Path) -> None:
    path = tmp_path / "a"
    marks = set()
    for content in (b"x", b"xy"):
        path.write_bytes(content)
        with Source(path) as source:
            marks.add(source.mark)
            source.close()
    os.utime(path, ns=(1, 1))
    marks.add(mark_of(path.stat()))
    (tmp_path / "b").write_bytes(b"xy")
    os.utime(tmp_path / "b", ns=(1, 1))
    (tmp_path / "b").rename(path)
    marks.add(mark_of(path.stat()))
    assert len(marks) == 4
    assert mark_of(path.stat()) in marks
