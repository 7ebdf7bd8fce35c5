"""Frames of random programs through the real ingest, merged in the background: history and summary as in the
process.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.readers.test_writer_summary import bits
from runfold.protocol.frames import Frame
from runfold.protocol.history.refold import rows_in_step_order, summary_in_step_order
from runfold.protocol.history.summary import nest
from runfold.protocol.history.writer_fold import WriterFold
from runfold.protocol.records import ExitRecord, Record, RecordKind
from runfold_coordinator.readers import history_windows, writer_summary
from runfold_coordinator.readers.history_reader import HistoryReader
from runfold_coordinator.readers.summary_reader import SummaryReader
from runfold_coordinator.store.compaction import Compactor
from runfold_coordinator.store.store import Store
from support.frames import Bench, Speaker
from worker.history.said import START_NS, batches, programs, say

NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    store = Store.open(f"sqlite:///{tmp_path_factory.mktemp('store') / 'runfold.db'}")
    yield Bench(store)
    store.close()


def scan(bench: Bench, run, **arguments: Any) -> list[dict[str, Any]]:
    rows, cursor = [], None
    while True:
        page = HistoryReader(bench.store).scan(run, cursor=cursor, **arguments)
        rows += page.rows
        cursor = page.next_cursor
        if cursor is None:
            return rows


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    programs,
    st.lists(st.integers(0, 40), max_size=6),
    st.sampled_from([15, 1_000_000]),
    st.sampled_from([1, 3, 1000]),
    st.booleans(),
)
def test_what_is_read_back_is_what_the_process_shows(bench, operations, cuts, cells, limit, merges):
    number = next(NUMBERS)
    said = say(operations)
    end_seq = len(said) + 2
    speaker = Speaker(number.to_bytes(16, "big"), f"local/demo/p{number}")
    bench.feed(speaker.hello())
    fold = WriterFold(START_NS, keep_rows=True)
    seq = 1
    for blocks, others in [
        *batches(said, cuts),
        ([], [Record(end_seq, START_NS, RecordKind.EXIT, 0, ExitRecord(0, "finish", runtime_s=9.0).pack())]),
    ]:
        hi = seq + sum(block.n for block in blocks) + len(others)
        if hi == seq:
            continue
        frame = Frame(speaker.writer, speaker.run_path, seq + 1, hi, tuple(blocks), tuple(others))
        bench.feed(frame, frame)  # delivered twice
        fold.feed(blocks, others)
        seq = hi
        if merges:
            Compactor(bench.store).merge_some()
    run = bench.store.find_run("local", "demo", f"p{number}")
    expected = rows_in_step_order(fold.kept_rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer_summary, "MAX_WINDOW_CELLS", cells)
        patch.setattr(history_windows, "MAX_WINDOW_CELLS", cells)
        summary = SummaryReader(bench.store).summary(run)
        rows = scan(bench, run, limit=limit)
        logged = scan(bench, run, limit=limit, per_writer=True)
    assert bits(summary) == bits(summary_in_step_order(fold.kept_rows, fold.kept_events, START_NS).as_dict())
    assert [row["_step"] for row in rows] == [row.step for row in expected]
    plain = [{k: v for k, v in row.items() if k not in ("_step", "_timestamp", "_runtime")} for row in rows]
    assert bits(plain) == bits([nest(dict(sorted(row.cells.items()))) for row in expected])
    assert [row["_timestamp"] for row in rows] == [float(row.t_ns) / 1e9 for row in expected]
    assert sorted(row["_seq"] for row in logged) == [
        r.seq for r in said if getattr(r, "kind", RecordKind.ROW) in (RecordKind.ROW, RecordKind.ROW_MAP)
    ]
