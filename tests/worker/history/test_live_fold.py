"""The live fold and the summary object over a real spool."""

from __future__ import annotations

import contextlib
import enum
import gc
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runfold.errors import UsageError
from runfold.family_spools import ROLL_NAME, enrol
from runfold.live_fold import LiveFold
from runfold.node.processes import pid_namespace
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


class Family:
    """A run's maker and processes that joined it; times by hand."""

    def __init__(self, root: Path) -> None:
        self.root, self.now_ns = root, 1_000_000_000
        self.maker = self._spool("maker")
        self.spools = [self.maker]

    def _spool(self, label: str, pid: int | None = None) -> SpoolWriter:
        identity = {"entity": "e", "project": "p", "run_id": "r", "mode": "grouped", "label": label}
        made = {**identity, "started_unix_ns": 1_000_000_000, "v": 1, "pid": pid or os.getpid()}
        made["pid_namespace"] = pid_namespace()
        return SpoolWriter.create(self.root, "offline", made, clock_ns=lambda: self.now_ns)

    def join(self, pid: int | None = None) -> SpoolWriter:
        child = self._spool("child", pid)
        enrol(self.maker.directory, child.directory)
        self.spools.append(child)
        return child

    def log(self, spool: SpoolWriter, step: int, value: float, schema: RowSchema = LOSS) -> None:
        self.now_ns += 1_000_000
        assert spool.append_row(schema, 0, step, [value])

    def said(self, spool: SpoolWriter, kind: RecordKind, payload: bytes) -> None:
        self.now_ns += 1_000_000
        spool.append_record(kind, payload)

    def fold(self, spool: SpoolWriter) -> LiveFold:
        return LiveFold(spool.directory, 1_000_000_000, family=self.maker.directory)


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Family]:
    made = Family(tmp_path)
    yield made
    for spool in made.spools:
        spool.close()


def without_times(summary: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in summary.items() if not key.startswith(("_t", "_r", "_w"))}


def test_a_family_is_one_run_from_everybodys_view(family: Family) -> None:
    maker = family.maker
    family.said(maker, RecordKind.METRIC, MetricRecord(name="loss", summary=("min", "mean")).pack())
    family.log(maker, 0, 6.0)
    live = family.fold(maker)
    assert without_times(live.summary()) == {"_step": 0, "loss": {"min": 6.0, "mean": 6.0}}
    child = family.join()
    family.log(child, 1, 1.0)
    family.log(child, 2, 0.5, ACC)
    family.log(maker, 3, 2.0)
    expected = {"_step": 3, "acc": 0.5, "loss": {"min": 1.0, "mean": 3.0}}
    assert without_times(live.summary()) == expected
    assert without_times(family.fold(child).summary()) == expected
    assert [(row["_step"], row["_runtime"]) for row in family.fold(child).rows()] == [
        (0, 0.002), (1, 0.003), (2, 0.004), (3, 0.005)
    ]  # fmt: skip
    assert live.is_whole


def test_the_last_word_of_a_family_counts(family: Family) -> None:
    maker, child = family.maker, family.join()
    live = family.fold(maker)
    family.said(maker, RecordKind.SUMMARY, SummaryRecord((("set", ("x",), 1), ("set", ("y",), 1))).pack())
    family.said(child, RecordKind.SUMMARY, SummaryRecord((("set", ("x",), 2), ("del", ("y",)))).pack())
    assert live.summary() == {"x": 2}
    family.said(maker, RecordKind.SUMMARY, SummaryRecord((("set", ("x",), 3),)).pack())
    assert live.summary() == {"x": 3}


def test_a_childs_end_is_not_the_runs(family: Family) -> None:
    maker, child = family.maker, family.join()
    family.log(maker, 0, 1.0)
    family.now_ns += 7_500_000_000
    family.said(child, RecordKind.EXIT, ExitRecord(code=0).pack())
    child.close()
    live = family.fold(maker)
    assert live.summary()["_runtime"] == 0.001
    family.log(maker, 1, 2.0)
    assert live.summary()["loss"] == 2.0


def test_many_children_cost_no_descriptors(family: Family) -> None:
    live = family.fold(family.maker)
    before = len(os.listdir("/proc/self/fd"))
    own = 0
    for step in range(40):
        child = family.join()
        family.log(child, step, float(step))
        own = len(os.listdir("/proc/self/fd")) - before
        assert live.summary()["loss"] == float(step)
    assert len(os.listdir("/proc/self/fd")) - before < own + 20
    # All of them go on, by turns.
    for step in range(40, 120):
        family.log(family.spools[1 + step * 7 % 40], step, float(step))
    assert live.summary()["loss"] == 119.0
    assert live.is_whole


def test_children_that_died_are_asked_no_more(family: Family) -> None:
    dead = os.fork()
    if not dead:
        os._exit(0)
    os.waitpid(dead, 0)
    live = family.fold(family.maker)
    living = family.join()
    for step in range(40):
        family.log(family.join(dead), step, float(step))
    for _ in range(3):
        assert live.summary()["loss"] == 39.0
    assert len(live._spools._members) < 20
    family.log(living, 40, 40.0)
    assert live.summary()["loss"] == 40.0
    assert live.is_whole


def test_a_member_whose_spool_is_gone_is_told(family: Family) -> None:
    child = family.join()
    family.log(family.maker, 0, 1.0)
    child.close()
    for name in os.listdir(child.directory):
        (child.directory / name).unlink()
    child.directory.rmdir()
    live = family.fold(family.maker)
    assert live.summary()["loss"] == 1.0
    assert not live.is_whole


def test_a_spool_that_cant_be_opened_for_now_is_read_later(family: Family) -> None:
    live = family.fold(family.maker)
    assert live.summary() == {}
    child = family.join()
    family.log(child, 0, 1.0)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open(os.devnull, os.O_RDONLY)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 40, limits[1]))
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(taken[0]))
        os.close(taken.pop())  # the roll can be read, and no more
        assert live.summary() == {}
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert live.summary()["loss"] == 1.0
    assert live.is_whole


def test_half_a_name_in_the_roll_waits(family: Family) -> None:
    live = family.fold(family.maker)
    child = family._spool("child")
    family.spools.append(child)
    family.log(child, 0, 1.0)
    roll = family.maker.directory / ROLL_NAME
    name = bytes.fromhex(child.directory.name)
    roll.write_bytes(name[:7])
    assert live.summary() == {}
    roll.write_bytes(name)
    assert live.summary()["loss"] == 1.0
    assert live.is_whole


def test_a_long_family_is_folded_in_slices_as_at_once(family: Family) -> None:
    child = family.join()
    for step in range(3000):
        family.log(child if step // 7 % 2 else family.maker, step, float(step))
    sliced = family.fold(family.maker)
    while sliced.fold_slice(10_000):
        pass
    assert sliced.summary() == family.fold(child).summary()
    assert sliced.summary()["loss"] == 2999.0
    assert len(sliced.rows()) == 3000
