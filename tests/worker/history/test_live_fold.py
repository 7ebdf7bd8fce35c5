"""The live fold and the summary object over a real spool."""

from __future__ import annotations

import enum
import gc
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runfold.errors import UsageError
from runfold.live_fold import LiveFold
from runfold.protocol.history.steps import StepCounter
from runfold.protocol.records import ExitRecord, MetricRecord, RecordKind, RowMap, SummaryRecord
from runfold.protocol.rows import STEP_GIVEN, RowSchema
from runfold.spool.reader import SpoolReader
from runfold.spool.writer import SpoolWriter
from runfold.summary import Summary, convert
from support.counted import calls_in

LOSS = RowSchema([("loss",)], "d")
ACC = RowSchema([("acc",)], "d")


class SmallRun:
    """The part of a run that the summary needs."""

    def __init__(self, root: Path) -> None:
        self.started_unix_ns = time.time_ns()
        identity = {"entity": "e", "project": "p", "run_id": "r", "mode": "grouped"}
        self.spool = SpoolWriter.create(
            root, "offline", {**identity, "started_unix_ns": self.started_unix_ns, "v": 1, "pid": 1}
        )
        self.steps = StepCounter()
        self.fold = LiveFold(self.spool.directory, self.started_unix_ns)
        self.summary = Summary(self.fold.summary, self.write)

    def write(self, said: SummaryRecord) -> None:
        self.spool.append_record(RecordKind.SUMMARY, said.pack())

    def log(self, schema: RowSchema, *values: float, step: int | None = None) -> None:
        flags = 0 if step is None else STEP_GIVEN
        assert self.spool.append_row(schema, flags, self.steps.take(step), values)

    def define(self, name: str, **said: Any) -> None:
        self.spool.append_record(RecordKind.METRIC, MetricRecord(name=name, **said).pack())


@pytest.fixture
def run(tmp_path: Path) -> Iterator[SmallRun]:
    small = SmallRun(tmp_path)
    yield small
    small.fold.close()
    small.spool.close()


def test_reads_go_on_where_the_last_one_stopped(run: SmallRun) -> None:
    assert run.summary.keys() == []
    run.define("loss", summary=("min", "mean"))
    for value in (3.0, 1.0, 2.0):
        run.log(LOSS, value)
        assert run.summary["loss"]["min"] <= value
    assert run.summary._as_dict()["loss"] == {"min": 1.0, "mean": 2.0}
    assert run.summary["_step"] == 2
    run.log(ACC, 0.5)
    assert run.summary.acc == 0.5


def test_a_pending_row_is_not_seen(run: SmallRun) -> None:
    run.log(LOSS, 1.0, step=4)
    assert run.summary.get("loss", "nothing") == "nothing"
    assert run.fold.rows() == []
    run.log(LOSS, 2.0, step=5)
    assert run.summary["loss"] == 1.0
    assert [row["_step"] for row in run.fold.rows()] == [4]
    run.spool.append_record(RecordKind.EXIT, ExitRecord(code=0, how="finish", runtime_s=7.5).pack())
    assert run.summary["loss"] == 2.0
    assert run.summary._as_dict()["_wandb"] == {"runtime": 7}


def test_many_rows_in_many_segments(run: SmallRun) -> None:
    run.define("*", summary=("mean", "max"))
    total = 0.0
    for number in range(20_000):
        run.log(LOSS if number % 3 else ACC, number * 0.1)
        if number % 3:
            total += number * 0.1
    kept = 20_000 - 20_000 // 3 - 1
    assert run.summary._as_dict()["loss"] == {"max": 19_999 * 0.1, "mean": total / kept}
    assert run.summary["_step"] == 19_999


def test_late_rows_are_folded_in_step_order(run: SmallRun) -> None:
    run.define("loss", summary=("min", "max", "mean", "first", "last"))
    for step in (5, 6, 7):
        run.log(LOSS, float(step), step=step)
    run.log(LOSS, 100.0, step=2)
    run.log(LOSS, 1.0, step=5)
    run.log(LOSS, 8.0, step=8)
    assert run.summary._as_dict()["loss"] == {
        "min": 1.0,
        "max": 100.0,
        "mean": 28.5,
        "first": 100.0,
        "last": 7.0,
    }
    assert run.summary._as_dict() == run.fold.summary()
    assert [(row["_step"], row["loss"]) for row in run.fold.rows()] == [
        (2, 100.0),
        (5, 1.0),
        (6, 6.0),
        (7, 7.0),
    ]


def test_what_was_folded_stays_when_segments_are_released(run: SmallRun) -> None:
    run.define("loss", summary=("min", "mean"))
    run.log(LOSS, -7.0)
    for _ in range(20_000):
        run.log(LOSS, 1.0)
    while run.fold.fold_slice(2**20):
        pass
    reader = SpoolReader(run.spool.directory)
    reader.header.acked_seq = run.spool.last_seq
    assert reader.remove_acked(0, 0) > 0
    assert reader.first_held_seq() > 2
    reader.close()
    run.log(LOSS, 1.0)
    assert run.summary._as_dict()["loss"] == {"min": -7.0, "mean": 19_994 / 20_002}
    run.log(LOSS, -9.0, step=3)
    assert run.summary["loss"]["min"] == -9.0


def test_files_are_closed_with_the_fold(run: SmallRun) -> None:
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    fold = LiveFold(run.spool.directory, run.started_unix_ns)
    fold.summary()
    assert len(os.listdir("/proc/self/fd")) > before
    del fold
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_rows_come_as_logged(run: SmallRun) -> None:
    row = RowMap(0, ((("a", "b"), 1), (("a.b",), 2), (("text",), "x"), (("none",), None)))
    run.spool.append_record(RecordKind.ROW_MAP, row.pack())
    (shown,) = run.fold.rows()
    assert shown["_timestamp"] == pytest.approx(time.time(), abs=60)
    assert 0 <= shown["_runtime"] < 60
    del shown["_timestamp"], shown["_runtime"]
    assert shown == {"_step": 0, "a": {"b": 1}, "a.b": 2, "text": "x", "none": None}


def test_writing_goes_through_records(run: SmallRun) -> None:
    run.summary["best"] = 5
    run.summary.update({"u": 1, "v": {"w": 2}})
    run.summary.attr = 7
    run.summary["v"]["x"] = 3
    assert run.summary._as_dict() == {"attr": 7, "best": 5, "u": 1, "v": {"x": 3}}
    del run.summary["u"]
    del run.summary.attr
    del run.summary["never"]
    assert run.summary.keys() == ["best", "v"]
    assert repr(run.summary) == '{"best": 5, "v": {"x": 3}}'
    assert repr(run.summary["v"]) == '{"x": 3}'


def test_the_read_api_is_as_small_as_the_clients(run: SmallRun) -> None:
    run.log(LOSS, 1.0)
    summary = run.summary
    for missing in (
        lambda: summary["nope"],
        lambda: summary.nope,
        lambda: "loss" in summary,
        lambda: list(summary),
    ):
        with pytest.raises(KeyError):
            missing()
    with pytest.raises(KeyError, match="items"):
        summary.items()
    with pytest.raises(TypeError, match="no len"):
        len(summary)
    with pytest.raises(AttributeError, match="items"):
        summary.update(None)  # type: ignore[arg-type]  # the mistake that is tested
    with pytest.raises(TypeError):
        summary[1] = 2  # type: ignore[index]  # same
    with pytest.raises(TypeError, match="not JSON serializable"):
        summary["x"] = object()
    assert "_wandb" not in summary.keys()  # keys() is what hides it


def test_a_finished_run_refuses() -> None:
    def refuse(said: SummaryRecord) -> None:
        raise UsageError("finished")

    summary = Summary(dict, refuse)
    with pytest.raises(UsageError):
        summary["a"] = 1
    with pytest.raises(UsageError):
        del summary["a"]
    summary.update({})


class Colour(enum.Enum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (float("nan"), None),
        (float("inf"), float("inf")),
        (True, True),
        ((1, 2), [1, 2]),
        ({"a": {"b": np.float32(0.5)}}, {"a": {"b": 0.5}}),
        (np.int64(3), 3),
        (np.array([[4]]), 4),
        (np.arange(3), [0, 1, 2]),
        (np.float64("nan"), None),
        (Colour.RED, "RED"),
        (b"abc", "abc"),
        (2**70, float(2**70)),
    ],
)
def test_values_set_by_hand_are_converted(value: Any, kept: Any) -> None:
    assert convert(value) == kept
    assert type(convert(value)) is type(kept)


def test_large_arrays_become_statistics() -> None:
    shown = convert(np.arange(101))
    assert shown["_type"] == "numpy.ndarray"
    assert (shown["mean"], shown["min"], shown["max"], shown["10%"], shown["size"]) == (
        50.0,
        0,
        100,
        10.0,
        101,
    )


def test_slices_fold_the_same_as_one_read(run: SmallRun) -> None:
    for number in range(1000):
        run.log(LOSS, number * 0.1)
    sliced = LiveFold(run.spool.directory, run.started_unix_ns)
    count = 0
    while sliced.fold_slice(1024):
        count += 1
    assert count > 10
    assert sliced.summary() == run.fold.summary()
    assert sliced.is_whole
    sliced.close()


def test_a_fold_tells_that_rows_were_released(run: SmallRun) -> None:
    while len(list(run.spool.directory.glob("*.seg"))) < 3:
        run.log(LOSS, 1.0)
    reader = SpoolReader(run.spool.directory)
    reader.header.store_ack(run.spool.last_seq, bytes(range(16)))
    run.log(LOSS, 2.0)
    assert run.fold.summary()["loss"] == 2.0
    assert run.fold.is_whole
    reader.remove_acked(0.0, 0)
    reader.close()
    assert run.fold.summary()["loss"] == 2.0
    assert run.fold.is_whole, "it was folded before"
    late = LiveFold(run.spool.directory, run.started_unix_ns)
    assert late.summary()["loss"] == 2.0
    assert not late.is_whole
    late.close()


def test_reading_keys_one_by_one_folds_once(run: SmallRun) -> None:
    counts = []
    for count in (50, 200):
        run.summary.update({f"k{at}": at for at in range(count)})
        assert run.summary["k0"] == 0
        counts.append(calls_in(lambda count=count: [run.summary[f"k{at}"] for at in range(count)]))  # type: ignore[misc]
    assert counts[1] < 5 * counts[0]


def test_what_was_read_can_be_changed_without_harm(run: SmallRun) -> None:
    run.summary.update({"of": {"cat": [1]}, "list": [[1]]})
    run.summary.get("of")["cat"].append(2)
    run.summary["list"][0].append(2)
    run.summary["of"]["cat"].append(2)
    assert run.summary.get("of") == {"cat": [1]} and run.summary.get("list") == [[1]]
    assert run.summary.get("absent") is None and run.summary.get("absent", 3) == 3
