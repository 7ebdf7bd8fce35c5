"""Step metrics are inserted at ingest, under the seq of the call, whatever the batches."""

from __future__ import annotations

import pytest

from runfold.protocol.records import ExitRecord, MetricRecord, RecordKind
from runfold_coordinator.store.model import INSERTED
from support.frames import Bench, Speaker


def inserted(bench: Bench, key: str) -> dict[int, tuple[int, float]]:
    (run,) = bench.store.list_runs()
    return {
        seq: (step, value)
        for cells in bench.store.read_cells(run.run_pk, key)
        for seq, step, flags, value in zip(
            cells.seq.tolist(), cells.step.tolist(), cells.flags.tolist(), list(cells.values), strict=True
        )
        if flags & INSERTED
    }


@pytest.mark.parametrize("is_one_batch", [True, False])
def test_the_last_epoch_is_added_to_rows_without_one(bench: Bench, is_one_batch: bool) -> None:
    speaker = Speaker(b"w" * 16)
    frames = [
        speaker.hello(),
        speaker.others((RecordKind.METRIC, MetricRecord("loss", step_metric="epoch", step_sync=True).pack())),
        speaker.rows({"loss": [1.0, 2.0]}, steps=[0, 1]),
        speaker.rows({"epoch": [5.0]}, steps=[2]),
        speaker.rows({"loss": [3.0], "other": [0.0]}, steps=[3]),
        speaker.rows({"other": [3.0]}, steps=[4]),
        speaker.rows({"loss": [4.0], "epoch": [6.0]}, steps=[5]),
        speaker.maps((6, {"loss": 7.0, "text": "x"})),
    ]
    for batch in [frames] if is_one_batch else [[frame] for frame in frames]:
        bench.feed(*batch)
    assert inserted(bench, "epoch") == {3: (0, 0), 4: (1, 0), 6: (3, 5.0), 9: (6, 6.0)}


def test_a_row_that_is_open_is_completed_when_it_is_committed(bench: Bench) -> None:
    speaker = Speaker(b"w" * 16)
    given = 1  # step=, without commit
    bench.feed(
        speaker.hello(),
        speaker.others((RecordKind.METRIC, MetricRecord("loss", step_metric="epoch", step_sync=True).pack())),
        speaker.rows({"loss": [1.0]}, steps=[3], flags=given),
    )
    bench.feed(speaker.rows({"epoch": [2.0]}, steps=[3], flags=given))
    bench.feed(speaker.rows({"loss": [2.0]}, steps=[4], flags=given))
    assert inserted(bench, "epoch") == {}
    bench.feed(speaker.others((RecordKind.EXIT, ExitRecord(0, "finish").pack())))
    assert inserted(bench, "epoch") == {5: (4, 2.0)}


def test_a_definition_that_comes_late_finds_the_row_that_is_open(bench: Bench) -> None:
    speaker = Speaker(b"w" * 16)
    bench.feed(speaker.hello(), speaker.rows({"loss": [1.0]}, steps=[3], flags=1))
    bench.feed(speaker.others((RecordKind.METRIC, MetricRecord("loss", step_metric="epoch").pack())))
    bench.feed(speaker.rows({"loss": [2.0]}, steps=[4], flags=1))
    assert inserted(bench, "epoch") == {2: (3, 0)}
