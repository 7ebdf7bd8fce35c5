"""Run.log(): steps, flags, what is stored and what is refused."""

from __future__ import annotations

import collections
import threading
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import runfold
from runfold.protocol.records import RecordKind
from runfold.protocol.rows import COMMIT_FALSE, COMMIT_TRUE, STEP_GIVEN
from support.spooled import Spooled

Read = Callable[[], Spooled]


def test_rows_are_stored_as_said(run: runfold.Run, spool: Read) -> None:
    run.log({"a": 1})
    run.log({"a": 2}, step=5)
    run.log({"b": 2.5}, commit=False)
    run.log({"b": True}, step=9, commit=True)
    run.log({}, commit=True)
    found = spool()
    assert [(step, flags) for _, step, flags, _ in found.rows] == [
        (0, 0),
        (5, STEP_GIVEN),
        (5, COMMIT_FALSE),
        (9, STEP_GIVEN | COMMIT_TRUE),
        (10, COMMIT_TRUE),
    ]
    assert found.values == [{"a": 1}, {"a": 2}, {"b": 2.5}, {"b": True}, {}]
    assert run.step == 11


def test_a_late_step_is_kept_and_moves_nothing(run: runfold.Run, spool: Read) -> None:
    run.log({"a": 1}, step=10)
    run.log({"a": 2}, step=3)
    assert run.step == 10
    assert spool().steps == [10, 3]


def test_a_step_below_zero_is_dropped_with_a_warning(
    run: runfold.Run, spool: Read, capsys: pytest.CaptureFixture[str]
) -> None:
    run.log({"a": 1}, step=-1)
    assert "steps begin at 0" in capsys.readouterr().err
    assert spool().rows == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"data": 5}, TypeError),
        ({"data": {1: 2}}, TypeError),
        ({"data": {"a": 1, None: 2}}, TypeError),
        ({"data": {"a": object()}}, TypeError),
        ({"data": {"a": 1}, "step": 1.0}, TypeError),
        ({"data": {"a": 1}, "step": "1"}, TypeError),
        ({"data": {"a": 1}, "step": True}, TypeError),
        ({"data": {"a": 1}, "step": 2**63}, ValueError),
        ({"data": {"a": 1}, "commit": "yes"}, TypeError),
        ({"data": {"k" * 5000: 1}}, ValueError),
    ],
)
def test_a_call_that_raises_stores_nothing(
    run: runfold.Run, spool: Read, arguments: dict[str, Any], error: type[Exception]
) -> None:
    run.log({"a": 1})  # the fast way knows the keys now
    with pytest.raises(error):
        run.log(**arguments)
    assert run.step == 1
    assert len(spool().rows) == 1


def test_numbers_travel_in_columns_and_the_rest_as_maps(run: runfold.Run, spool: Read) -> None:
    run.log({"a": 1, "b": 2.5, "c": True})
    run.log({"n": {"x": 1, "y": {"z": 2.5}}})
    run.log({"a": "text"})
    run.log({"a": None})
    run.log({"a": [1, 2]})
    found = spool()
    assert found.column_rows_count == 2
    assert found.values[1] == {"n.x": 1, "n.y.z": 2.5}
    assert found.values[2:] == [{"a": "text"}, {"a": None}, {"a": [1, 2]}]


def test_a_value_that_outgrows_its_slot_goes_the_slow_way(run: runfold.Run, spool: Read) -> None:
    run.log({"a": 1})
    run.log({"a": 2**70})
    run.log({"a": 3})
    assert spool().values == [{"a": 1}, {"a": float(2**70)}, {"a": 3}]
    assert [type(row["a"]) for row in spool().values] == [int, float, int]


def test_numpy_scalars_take_the_fast_way(run: runfold.Run, spool: Read) -> None:
    for number in range(3):
        run.log({"f": np.float32(0.5), "d": np.float64(1.5), "i": np.int64(number), "b": np.bool_(True)})
        run.log({"u": np.uint64(2**64 - 1)})
    found = spool()
    assert found.values[4] == {"f": 0.5, "d": 1.5, "i": 2, "b": True}
    assert found.values[5] == {"u": float(2**64 - 1)}
    assert found.column_rows_count == 6


def test_types_tell_schemas_apart(run: runfold.Run, spool: Read) -> None:
    for value in (1, 1.0, True, 2, 2.0, False):
        run.log({"a": value})
    assert [row["a"] for row in spool().values] == [1, 1.0, True, 2, 2.0, False]
    assert [type(row["a"]) for row in spool().values] == [int, float, bool, int, float, bool]


def test_key_sets_that_always_change_travel_as_maps(run: runfold.Run, spool: Read) -> None:
    for number in range(600):
        run.log({f"k{number}": number})
    found = spool()
    assert len(found.rows) == 600
    assert found.column_rows_count == 256
    for _ in range(2):
        run.log({"k599": 1})
    assert spool().column_rows_count == 258


@pytest.mark.parametrize("kind", [collections.OrderedDict, types.MappingProxyType, collections.UserDict])
def test_any_mapping_can_be_logged(run: runfold.Run, spool: Read, kind: Callable[[Any], Any]) -> None:
    run.log(kind({"a": 1}))
    run.log(kind({"a": 2}))
    assert [row["a"] for row in spool().values] == [1, 2]


def test_own_keys_are_dropped(run: runfold.Run, spool: Read) -> None:
    for _ in range(2):
        run.log({"_step": 50, "_runtime": 3, "": 1, "x": 1})
    assert spool().values == [{"x": 1}, {"x": 1}]
    assert run.step == 2


def test_data_is_captured_at_the_call(run: runfold.Run) -> None:
    data: dict[str, Any] = {"a": 1, "l": [1, 2], "n": {"b": 1}}
    run.log(data)
    data["l"].append(3)
    data["n"]["b"] = 7
    assert run.history[0]["l"] == [1, 2]
    assert run.history[0]["n"] == {"b": 1}


def test_many_threads_share_one_counter(run: runfold.Run, spool: Read) -> None:
    def log(worker: int) -> None:
        for number in range(200):
            run.log({f"w{worker}": number} if number % 3 else {"text": "t"})

    threads = [threading.Thread(target=log, args=(worker,)) for worker in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(spool().steps) == list(range(1200))
    assert run.status().rows == 1200


def test_module_log_is_the_current_runs(run: runfold.Run) -> None:
    runfold.log({"a": 1})
    runfold.log({"a": 2}, step=4)
    assert [row["_step"] for row in run.history] == [0]
    assert run.step == 4
    assert runfold.run is run
    assert runfold.config is run.config


def test_a_value_too_large_for_its_row_is_left_out_and_told(
    run: runfold.Run, spool: Read, capsys: pytest.CaptureFixture[str]
) -> None:
    large = "x" * (17 * 1024 * 1024)
    run.log({"text": large, "a": 1, "bytes": large.encode(), "list": [0.5] * 2_000_000, "b": {"c": 2}})
    run.log({"a": 1, "text": large})
    run.log({"text": "short"})
    assert spool().values == [{"a": 1, "b.c": 2}, {"a": 1}, {"text": "short"}]
    said = capsys.readouterr().err
    assert "text: 17,825,792 bytes of text; at most 15,728,640 fit" in said
    assert "list: 2,000,000 elements" in said
    assert run.status().left_out == 4
    (alert,) = spool().payloads(RecordKind.ALERT)
    assert (alert.title, alert.level) == ("Value left out", "WARN")
    run.finish()
    assert "4 values" in spool().payloads(RecordKind.ALERT)[-1].text


def test_a_log_that_somebody_put_on_the_class_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(runfold.Run, "log", lambda self, data, **_: seen.append(data))
    run = runfold.init(project="p")

    run.log({"a": 1})

    assert seen == [{"a": 1}]
    assert "log" not in vars(run)


def test_keys_and_types_of_one_row_are_never_taken_for_those_of_another(
    run: runfold.Run, spool: Read
) -> None:
    rows: list[dict[str, object]] = [
        {"a": 1.0, "b": 2.0},
        {"a": 1.5, "b": 2},
        {"b": 2.0, "a": 1.0},
        {"a": True, "b": 2.0},
        {"a": 3.0},
        {"a": 3.0, "b": "text"},
        {"a": 1.0, "b": 2.0},
    ]
    for row in rows * 3:
        run.log(row)

    found = spool().values
    assert [list(row.items()) for row in found] == [list(row.items()) for row in rows * 3]
    assert [[type(value) for value in row.values()] for row in found] == [
        [type(value) for value in row.values()] for row in rows * 3
    ]
