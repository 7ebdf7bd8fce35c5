"""Appending by pwrite: a write that the disk stops in the middle leaves nothing that could be read."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from contracts.spool_oracle import Clock, append_row, deliver, fill, make
from runfold.protocol.blocks import Gap
from runfold.spool.segment import write_whole


@pytest.mark.parametrize("kept_bytes", [0, 1, 7, 8, 40])
def test_a_write_that_stops_in_the_middle_leaves_nothing_behind(
    tmp_path: Path, kept_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    writer = make(tmp_path, "pwrite", clock)
    fill(writer, 5)
    seq = writer.last_seq
    pwrite = os.pwrite
    calls = 0

    def stop_in_the_middle(fd: int, data: bytes, offset: int) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            return pwrite(fd, bytes(data)[:kept_bytes], offset)
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as refusing:
        refusing.setattr(os, "pwrite", stop_in_the_middle)
        assert not append_row(writer)
    clock.now_ns += 10**9
    assert append_row(writer)
    delivered = deliver(writer.directory, dead=False)
    assert delivered.gaps == [Gap(seq + 1, seq + 1, "disk full")]
    assert delivered.hi == writer.last_seq


def test_a_short_write_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    calls = 0

    def half_of_the_first(fd: int, data: bytes, offset: int) -> int:
        nonlocal calls
        calls += 1
        return pwrite(fd, bytes(data)[: len(data) // 2] if calls == 1 else data, offset)

    with monkeypatch.context() as halving:
        halving.setattr(os, "pwrite", half_of_the_first)
        write_whole(fd, b"0123456789", 100)
    assert os.pread(fd, 20, 100) == b"0123456789"
    os.close(fd)
