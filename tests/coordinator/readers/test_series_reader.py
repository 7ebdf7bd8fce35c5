"""Sampled tables from a real store: what is small is exact, what is long keeps its extremes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from coordinator.readers.stored_run import START_NS, Said, StoredRun
from runfold_coordinator.readers import series_reader
from runfold_coordinator.readers.answers import Table
from runfold_coordinator.readers.series_reader import SeriesReader


def read(run: StoredRun, **arguments: Any) -> Table:
    return SeriesReader(run.store).read(run.row, **arguments)


def columns(table: Table) -> dict[str, list[Any]]:
    found = {}
    for column in table.columns:
        rows = range(table.length) if column.rows is None else column.rows.tolist()
        values = column.values if isinstance(column.values, list) else np.asarray(column.values).tolist()
        whole: list[Any] = [None] * table.length
        for row, value in zip(rows, values, strict=True):
            whole[row] = value
        found[column.name] = whole
    return found


def test_a_small_history_comes_whole_with_its_own_columns(store):
    said = Said(mode="grouped")
    said.log({"loss": 3.0, "a": {"b": 1}, "a.b": "t"})
    said.log({"loss": 2, "flag": True})
    said.log({}, step=5)
    run = StoredRun(store)
    run.deliver(said)
    assert columns(read(run)) == {
        "_step": [0, 1, 5],
        "_timestamp": [float(START_NS + s * 10**9) / 1e9 for s in (2, 3, 4)],
        "_runtime": [2.0, 3.0, 4.0],
        "a.b": [1, None, None],
        r"a\.b": ["t", None, None],
        "flag": [None, True, None],
        "loss": [3.0, 2, None],
    }
    assert columns(read(run, keys=["flag", "loss"])) == {"_step": [1], "flag": [True], "loss": [2]}
    assert columns(read(run, keys=["loss"], x_axis="_runtime")) == {"_runtime": [2.0, 3.0], "loss": [3.0, 2]}
    assert columns(read(run, keys=["loss"], x_axis="a.b")) == {"a.b": [1], "loss": [3.0]}
    assert read(run, keys=["loss", "nothing"]).length == 0


def ranks_of(store, count=3, steps=50) -> tuple[StoredRun, np.ndarray]:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(count, steps))
    run = StoredRun(store)
    for rank in range(count):
        said = Said(rank)
        for value in matrix[rank].tolist():
            said.log({"loss": value, "host": f"n{rank}"})
        run.deliver(said, per_chunk=7)
    return run, matrix


def test_statistics_over_ranks_equal_numpy(store):
    run, matrix = ranks_of(store)
    got = columns(read(run, keys=["loss"], stats=True))
    assert got["loss"] == got["loss:mean"] == matrix.mean(axis=0).tolist()
    assert got["loss:std"] == matrix.std(axis=0, ddof=1).tolist()
    assert got["loss:min"] == matrix.min(axis=0).tolist()
    assert got["loss:max"] == matrix.max(axis=0).tolist()
    assert got["loss:argmin"] == matrix.argmin(axis=0).tolist()
    assert got["loss:argmax"] == matrix.argmax(axis=0).tolist()
    assert got["loss:count"] == [3] * 50
    everything = columns(read(run, stats=True))
    assert everything["loss:mean"] == got["loss:mean"] and "host:mean" not in everything
    assert columns(read(run, keys=["loss"], rank=2))["loss"] == matrix[2].tolist()


@pytest.mark.parametrize("cells", [10, 60, 10_000])
def test_windows_change_nothing(store, monkeypatch, cells):
    run, matrix = ranks_of(store)
    monkeypatch.setattr(series_reader, "MAX_WINDOW_CELLS", cells)
    got = columns(read(run, keys=["loss"], stats=True))
    assert got["_step"] == list(range(50))
    assert got["loss:std"] == matrix.std(axis=0, ddof=1).tolist()
    assert columns(read(run))["host"] == ["n0"] * 50
    few = columns(read(run, keys=["loss"], samples=20, stats=True))
    assert len(few["_step"]) <= 20
    mean = matrix.mean(axis=0)
    assert {mean.min(), mean.max()} <= set(few["loss"])
    assert min(few["loss:min"]) == matrix.min() and max(few["loss:max"]) == matrix.max()


def test_a_weighted_mean_reads_its_weights(store):
    run = StoredRun(store)
    for rank in range(2):
        said = Said(rank)
        said.define("loss", reduce="mean", weight="tokens")
        said.log({"loss": float(rank), "tokens": 1 + 2 * rank})
        run.deliver(said)
    assert columns(read(run, keys=["loss"]))["loss"] == [0.75]
    assert columns(read(run))["loss"] == [0.75]


def long_run(store, n=200_000) -> tuple[StoredRun, np.ndarray]:
    said = Said(mode="grouped")
    run = StoredRun(store)
    run.deliver(said)
    y = np.random.default_rng(1).normal(size=n)
    y[77_777], y[123_456] = 50.0, -50.0
    y[150_001] = math.nan
    run.insert_bulk(said, np.arange(n) * 3, {"loss": y, "other": np.arange(n) * 1.0})
    return run, y


def test_a_long_metric_is_read_by_its_extremes_and_only_real_points_come(store, monkeypatch):
    run, y = long_run(store)

    def no_cells(*_: Any, **__: Any) -> Any:
        raise AssertionError("the whole history was read")

    monkeypatch.setattr(series_reader, "read_window", no_cells)
    got = columns(read(run, keys=["loss"], samples=100))
    assert len(got["_step"]) <= 100
    at = np.array(got["_step"]) // 3
    np.testing.assert_array_equal(got["loss"], y[at])
    assert at[0] == 0 and at[-1] == len(y) - 1
    assert {77_777, 123_456, 150_001} <= set(at.tolist())


def test_overwritten_or_late_rows_of_a_long_metric_are_not_read_by_stale_extremes(store):
    said = Said(mode="grouped")
    run = StoredRun(store)
    run.deliver(said)
    n = 120_000
    steps, y = np.arange(n), np.zeros(n)
    y[500] = 99.0
    run.insert_bulk(said, steps, {"loss": y})
    run.insert_bulk(said, np.array([500]), {"loss": np.array([1.0])}, first_seq=n + 2)
    with store.transaction() as tx:  # both bulks belong to one writer
        tx.connection.exec_driver_sql(f"update writers set row_count={n + 1}, given_step_max={n - 1}")
    got = columns(read(run, keys=["loss"], samples=50))
    assert max(got["loss"]) == 1.0


def test_many_keys_over_a_long_history_stay_within_the_samples(store, monkeypatch):
    run, y = long_run(store)
    monkeypatch.setattr(series_reader, "MAX_WINDOW_CELLS", 50_000)
    got = columns(read(run, keys=["loss", "other"], samples=60))
    assert len(got["_step"]) <= 60
    at = np.array(got["_step"]) // 3
    np.testing.assert_array_equal(got["loss"], y[at])
    assert got["other"] == at.tolist()
    assert {77_777, 123_456} <= set(at.tolist())


def test_attempts_cut_what_a_long_metric_shows(store):
    first, second = Said(0, restart_hint=0), Said(0, started_s=9, restart_hint=1)
    run = StoredRun(store)
    run.deliver(first)
    run.deliver(second)
    run.insert_bulk(first, np.arange(100_000), {"loss": np.zeros(100_000)})
    run.insert_bulk(second, np.arange(60_000, 90_000), {"loss": np.ones(30_000)})
    got = columns(read(run, keys=["loss"], samples=50))
    assert got["_step"][-1] == 89_999
    assert [value for step, value in zip(got["_step"], got["loss"], strict=True) if step < 60_000] == [
        0.0
    ] * sum(s < 60_000 for s in got["_step"])
    assert {value for step, value in zip(got["_step"], got["loss"], strict=True) if step >= 60_000} == {1.0}


def test_an_empty_run_is_an_empty_table(store):
    run = StoredRun(store)
    assert read(run).length == 0
    assert read(run, keys=["loss"]).length == 0


def test_as_many_samples_as_rows_give_every_row_though_extremes_are_stored(store):
    run, y = long_run(store)
    got = columns(read(run, keys=["loss"], samples=1_000_000))
    np.testing.assert_array_equal(got["loss"], y)
