"""Steps, merging of calls into rows, and inserted step metrics."""

from __future__ import annotations

import math
from typing import Any

import pytest

from runfold.protocol.history.rows import CommittedRow, RowFold
from runfold.protocol.history.steps import StepCounter
from runfold.protocol.rows import COMMIT_FALSE, COMMIT_TRUE, STEP_GIVEN


class Writer:
    """Calls a fold as a run does."""

    def __init__(self) -> None:
        self.fold = RowFold()
        self.counter = StepCounter()
        self.seq = 1
        self.rows: list[CommittedRow] = []

    def log(self, data: dict[Any, Any], step: int | None = None, commit: bool | None = None) -> None:
        self.seq += 1
        flags = 0 if step is None else STEP_GIVEN
        if commit is not None:
            flags |= COMMIT_TRUE if commit else COMMIT_FALSE
        cells = [(key if isinstance(key, tuple) else (key,), value) for key, value in data.items()]
        self.rows += self.fold.call(self.seq, self.counter.take(step, commit), flags, self.seq * 1000, cells)

    def define(self, name: str, **said: Any) -> None:
        self.seq += 1
        self.fold.define({"name": name, **said})

    def finish(self) -> list[tuple[int, dict[Any, Any]]]:
        self.rows += self.fold.finish(self.seq + 1)
        return [
            (row.step, {key[0] if len(key) == 1 else key: value for key, value in row.cells.items()})
            for row in self.rows
        ]


def test_calls_without_step_are_rows() -> None:
    writer = Writer()
    for value in range(3):
        writer.log({"a": value})
    writer.log({})
    assert writer.finish() == [(0, {"a": 0}), (1, {"a": 1}), (2, {"a": 2}), (3, {})]
    assert writer.counter.current == 4


def test_an_explicit_step_waits_for_a_higher_one() -> None:
    writer = Writer()
    writer.log({"a": 1, "b": 1}, step=2)
    writer.log({"a": 99}, step=2)
    assert writer.rows == []
    writer.log({"a": 5}, step=7)
    assert [row.step for row in writer.rows] == [2]
    assert writer.rows[0].seq == 3
    assert writer.rows[0].commit_seq == 4
    assert writer.rows[0].t_ns == 3000
    assert writer.finish() == [(2, {"a": 99, "b": 1}), (7, {"a": 5})]


def test_a_plain_call_joins_and_commits_the_open_step() -> None:
    writer = Writer()
    writer.log({"x": 1}, step=100)
    writer.log({"y": 2})
    writer.log({"z": 3})
    assert writer.finish() == [(100, {"x": 1, "y": 2}), (101, {"z": 3})]


def test_commit_false_waits_and_commit_true_does_not() -> None:
    writer = Writer()
    writer.log({"a": 1}, commit=False)
    writer.log({"b": 1})
    writer.log({"a": 2}, step=1, commit=True)
    assert writer.counter.current == 2
    writer.log({"tail": 7}, commit=False)
    assert writer.finish() == [(0, {"a": 1, "b": 1}), (1, {"a": 2}), (2, {"tail": 7})]
    assert writer.fold.finish(99) == []


def test_late_calls_are_patches_and_do_not_move_the_step() -> None:
    writer = Writer()
    for value in range(4):
        writer.log({"x": value})
    writer.log({"x": 100, "late": 1}, step=1)
    writer.log({"x": 5})
    late = writer.rows[4]
    assert (late.late, late.step, late.cells) == (True, 1, {("x",): 100, ("late",): 1})
    assert writer.rows[5].step == 4


def test_a_call_below_an_open_step_is_late_and_leaves_it_open() -> None:
    writer = Writer()
    writer.log({"x": 1}, step=5)
    writer.log({"x": 2}, step=3, commit=True)
    writer.log({"y": 3}, step=5)
    assert writer.rows[0].late
    assert writer.finish()[1:] == [(5, {"x": 1, "y": 3})]


def test_a_later_value_replaces_what_lies_above_and_below_its_key() -> None:
    writer = Writer()
    writer.log({"a": 1, "c": 1}, commit=False)
    writer.log({("a", "b"): 2})
    writer.log({("a", "b"): 2, ("a", "c"): 2}, commit=False)
    writer.log({"a": 9})
    assert writer.finish() == [(0, {"c": 1, ("a", "b"): 2}), (1, {"a": 9})]


def test_step_and_runtime_cannot_be_logged() -> None:
    writer = Writer()
    writer.log({"_step": 50, "_runtime": 1.0, "_timestamp": 7.0, "x": 1})
    assert writer.finish() == [(0, {"_timestamp": 7.0, "x": 1})]


def test_a_missing_step_metric_is_inserted_from_zero_on() -> None:
    writer = Writer()
    writer.define("loss", step_metric="epoch")
    writer.log({"loss": 1})
    writer.log({"epoch": 4})
    writer.log({"loss": 2})
    writer.log({"other": 2})
    writer.log({"loss": 3, "epoch": 5.5})
    writer.log({"loss": 4})
    assert writer.finish() == [
        (0, {"loss": 1, "epoch": 0}),
        (1, {"epoch": 4}),
        (2, {"loss": 2, "epoch": 4}),
        (3, {"other": 2}),
        (4, {"loss": 3, "epoch": 5.5}),
        (5, {"loss": 4, "epoch": 5.5}),
    ]
    assert writer.rows[0].inserted == (("epoch",),)
    assert writer.rows[4].inserted == ()


def test_only_numbers_move_a_step_metric_and_only_once_it_is_one() -> None:
    writer = Writer()
    writer.log({"t": 9})
    writer.define("loss", step_metric="t")
    for value in (1.5, "text", math.nan, True):
        writer.log({"t": value})
        writer.log({"loss": 0})
    inserted = [row.cells[("t",)] for row in writer.rows if ("loss",) in row.cells]
    assert inserted[:2] == [1.5, 1.5]
    assert all(map(math.isnan, inserted[2:]))


def test_chains_of_step_metrics_are_inserted_to_the_end() -> None:
    writer = Writer()
    writer.define("a", step_metric="b")
    writer.define("b", step_metric="c")
    writer.log({"c": 3})
    writer.log({"a": 1})
    assert writer.finish()[1] == (1, {"a": 1, "b": 0, "c": 3})


def test_nested_and_glob_step_metrics() -> None:
    writer = Writer()
    writer.define("m.loss", step_metric="m.epoch")
    writer.define("g/*", step_metric="gs")
    writer.log({("m", "epoch"): 4, "gs": 7})
    writer.log({("m", "loss"): 1, "g/a": 1})
    assert writer.finish()[1] == (1, {("m", "loss"): 1, "g/a": 1, ("m", "epoch"): 4, "gs": 7})
    assert [path for path, _ in writer.rows[1].expanded] == [("g/a",)]


@pytest.mark.parametrize("name", ["_step", "_timestamp", "loss", "loss.x", "n"])
def test_an_insertion_never_replaces_what_was_logged(name: str) -> None:
    writer = Writer()
    writer.define("loss", step_metric=name)
    writer.log({"loss": 1, ("n", "x"): 2})
    assert writer.finish() == [(0, {"loss": 1, ("n", "x"): 2})]


def test_late_rows_get_no_step_metric_and_do_not_move_it() -> None:
    writer = Writer()
    writer.define("loss", step_metric="epoch")
    writer.log({"epoch": 5, "loss": 1}, step=10, commit=True)
    writer.log({"loss": 2}, step=3)
    writer.log({"epoch": 1}, step=2)
    writer.log({"loss": 3})
    assert [row.cells for row in writer.rows] == [
        {("epoch",): 5, ("loss",): 1},
        {("loss",): 2},
        {("epoch",): 1},
        {("loss",): 3, ("epoch",): 5},
    ]


def test_a_block_is_taken_whole_with_constant_insertions() -> None:
    fold = RowFold()
    fold.define({"name": "a", "step_metric": "b"})
    fold.call(2, 0, STEP_GIVEN, 1, [(("b",), 7)])
    taken = fold.take_block(
        (("a",),), "d", [[0.5, 1.5, 2.5]], [1, 2, 5], flags=0, increasing=True, first_seq=3
    )
    assert taken is not None
    assert taken.before is not None
    assert (taken.before.step, taken.before.commit_seq) == (0, 3)
    assert (taken.count, taken.inserted) == (3, ((("b",), 7),))
    assert fold.frontier == 5


def test_the_last_explicit_step_of_a_block_stays_open() -> None:
    fold = RowFold()
    taken = fold.take_block(
        (("a",),), "q", [[1, 2, 3]], [1, 2, 5], flags=STEP_GIVEN, increasing=True, first_seq=2
    )
    assert taken is not None
    assert taken.count == 2
    assert fold.frontier == 2


@pytest.mark.parametrize(
    ("steps", "flags", "increasing"),
    [
        ([4, 5], 0, True),
        ([6, 6], 0, False),
        ([6, 7], COMMIT_FALSE, True),
        ([5, 6], 0, True),
        ([7], STEP_GIVEN, True),
    ],
)
def test_a_block_that_merges_or_is_late_goes_call_by_call(
    steps: list[int], flags: int, increasing: bool
) -> None:
    fold = RowFold()
    fold.call(2, 5, STEP_GIVEN, 1, [(("b",), 7)])
    column = [[0] * len(steps)]
    assert (
        fold.take_block((("a",),), "q", column, steps, flags=flags, increasing=increasing, first_seq=3)
        is None
    )


@pytest.mark.parametrize(
    ("calls", "taken", "current"),
    [
        ([(None, None), (None, None)], [0, 1], 2),
        ([(None, False), (None, None), (None, False)], [0, 0, 1], 1),
        ([(5, None), (5, None), (None, None), (None, None)], [5, 5, 5, 6], 7),
        ([(2, True), (2, True), (None, None)], [2, 2, 3], 4),
        ([(7, None), (3, True), (-1, None), (None, None)], [7, 3, -1, 7], 8),
    ],
)
def test_step_counter(calls: list[tuple[int | None, bool | None]], taken: list[int], current: int) -> None:
    counter = StepCounter()
    assert [counter.take(step, commit) for step, commit in calls] == taken
    assert counter.current == current


@pytest.mark.parametrize("own", ["_step", "_runtime", "_timestamp"])
def test_what_every_row_has_inserts_a_step_metric_into_every_row(own: str) -> None:
    writer = Writer()
    writer.log({"a": 0})
    writer.define(own, step_metric="epoch")
    writer.define("epoch", step_metric="era")
    for row in ({"a": 1}, {}, {"epoch": 4}, {"era": 2, "a": 2}, {"epoch": "text"}):
        writer.log(row)
    assert writer.finish() == [
        (0, {"a": 0}),
        (1, {"a": 1, "epoch": 0, "era": 0}),
        (2, {"epoch": 0, "era": 0}),
        (3, {"epoch": 4, "era": 0}),
        (4, {"era": 2, "a": 2, "epoch": 4}),
        (5, {"epoch": "text", "era": 2}),
    ]
