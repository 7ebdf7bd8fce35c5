"""A spool that can't be made at first: counted, asked for once a second, then used."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

from runfold.late_spool import RETRY_S, LateSpool
from runfold.protocol.records import RecordKind
from runfold.protocol.rows import RowSchema
from runfold.spool import SpoolReader, SpoolWriter

LOSS = RowSchema([("loss",)], "d")
IDENTITY: dict[str, Any] = {"entity": "local", "project": "p", "run_id": "r", "mode": "grouped"}


def test_what_was_lost_before_there_was_space_is_declared(tmp_path: Path) -> None:
    now_s, asked, has_space = [0.0], [0], [False]

    def make(lost_count: int) -> SpoolWriter | None:
        asked[0] += 1
        if not has_space[0]:
            return None
        writer = SpoolWriter.create(tmp_path, "local", IDENTITY)
        writer.declare_lost(lost_count, OSError(errno.ENOSPC, "full"))
        return writer

    late = LateSpool(make, clock=lambda: now_s[0])
    for _ in range(100):
        assert not late.append_row(LOSS, 0, 0, [1.0])
    assert (asked[0], late.last_seq, late.dropped_count) == (0, 100, 100)
    now_s[0] += RETRY_S
    assert not late.append_row(LOSS, 0, 0, [1.0])
    assert not late.append_row(LOSS, 0, 0, [1.0])
    assert asked[0] == 1
    has_space[0] = True
    now_s[0] += RETRY_S
    assert late.append_row(LOSS, 0, 7, [2.0])
    assert late.append_record(RecordKind.RUN, b"\x80")
    assert late.dropped_count == 102
    late.close()
    [directory] = [path for path in (tmp_path / "local").iterdir() if path.is_dir()]
    reader = SpoolReader(directory)
    batch = reader.read(1, max_bytes=1_000_000)
    assert batch is not None
    # 1: who; 2 to 103: lost; 104: the gap record; then the row and the record.
    assert (batch.lo, batch.hi) == (1, 106)
    assert [(gap.lo, gap.hi) for gap in batch.gaps] == [(2, 103)]
    assert sum(block.n for block in batch.blocks) == 1
    reader.close()


def test_nothing_is_made_after_the_end() -> None:
    late = LateSpool(lambda _: None)
    assert not late.append_row(LOSS, 0, 0, [1.0])
    late.close()
    assert late.close_with_status(b"", lambda _: True)
    assert late.last_seq == 1
