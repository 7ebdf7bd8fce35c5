"""A spool of very many segments costs the writer no more than one of few."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from runfold.spool import segments
from runfold.spool.directory import segment_sizes
from runfold.spool.format import FixedHeader
from runfold.spool.limits import SpoolLimits
from runfold.spool.segments import SegmentChain

SIZE_BYTES = 8192


def test_segments_are_counted_anew_only_when_the_quota_presses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    def look(directory: Path) -> dict[int, tuple[int, float]]:
        looks.append(directory)
        return segment_sizes(directory)

    monkeypatch.setattr(segments, "segment_sizes", look)
    limits = SpoolLimits(
        max_bytes=10 * SIZE_BYTES,
        first_segment_bytes=SIZE_BYTES,
        max_segment_bytes=SIZE_BYTES,
        min_free_bytes=0,
    )
    chain = SegmentChain(
        tmp_path, FixedHeader(b"w" * 16, 1, 0.0, bytes(16), 1), limits, mapped=False, acked_seq=lambda: 0
    )
    for first_seq in range(1, 11):
        chain.open_next(first_seq, 64)
        for _, (size, _) in segment_sizes(tmp_path).items():
            assert size <= SIZE_BYTES
    assert looks == []
    for path in tmp_path.glob("*.seg"):
        os.truncate(path, SIZE_BYTES)
    with pytest.raises(OSError, match="quota") as refused:
        chain.open_next(11, 64)
    assert refused.value.errno == errno.EDQUOT
    assert looks
    next(tmp_path.glob("*.seg")).unlink()
    chain.open_next(11, 64)
    chain.close(truncate_at=None)
