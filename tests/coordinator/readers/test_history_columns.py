"""Rows built from columns are the rows that the row reader gives, page for page."""

from __future__ import annotations

import math
from typing import Any

import msgpack
import numpy as np
import pytest

from coordinator.readers.stored_run import Said, StoredRun
from runfold.api.columns import nested_rows_of
from runfold.api.connection import _extension
from runfold_coordinator.api.encoding import pack
from runfold_coordinator.api.routes_runs import _columns_document
from runfold_coordinator.readers import history_windows
from runfold_coordinator.readers.history_columns import HistoryColumns
from runfold_coordinator.readers.history_reader import HistoryReader


def scanned(run: StoredRun, limit: int, **arguments: Any) -> list[dict[str, Any]]:
    """All rows, as a client builds them from what travels."""
    rows: list[dict[str, Any]] = []
    cursor = None
    for _ in range(1000):
        page = HistoryColumns(run.store).scan(run.row, limit=limit, cursor=cursor, **arguments)
        sent = pack(_columns_document(page))
        built = nested_rows_of(msgpack.unpackb(sent, strict_map_key=False, ext_hook=_extension))
        assert len(built) == page.length <= limit
        rows += built
        cursor = page.next_cursor
        if cursor is None:
            return rows
    raise AssertionError("the scan has no end")


def as_rows(run: StoredRun, **arguments: Any) -> list[dict[str, Any]]:
    page = HistoryReader(run.store).scan(run.row, limit=100_000, **arguments)
    assert page.next_cursor is None
    return page.rows


def ragged(store) -> StoredRun:
    """Two attempts of two ranks; every kind of value, nested and sparse, some said twice."""
    run = StoredRun(store)
    for attempt in range(2):
        for rank in range(2):
            said = Said(rank, started_s=1000 * attempt + rank, restart_hint=attempt)
            for step in range(20 * attempt, 30 + 20 * attempt):
                row: dict[str, Any] = {"loss": step / (1 + rank), "deep": {"a": {"b": step}}, "n": step}
                if step % 3 == 0:
                    row |= {"text": f"t{step}", "flag": step % 2 == 0, "big": 10**30, "list": [1, None]}
                if step % 5 == 0:
                    row |= {"_timestamp": 5.0, "nan": math.nan, "deep.a": "dotted"}
                if step % 7 == 0:
                    row |= {"mixed": 1} if step % 2 else {"mixed": {"below": 1.5}}
                said.log(row, step=step)
            said.log({"late": 1.0, "loss": -1.0}, step=3 + 20 * attempt)
            said.exit()
            run.deliver(said)
    return run


@pytest.mark.parametrize("limit", [1, 7, 20, 1000])
@pytest.mark.parametrize("arguments", [
    {}, {"keys": ["loss"]}, {"keys": ["text", "_step"]}, {"keys": ["_runtime", "deep.a.b"]}, {"keys": ["_timestamp"]},
    {"keys": ["nothing"]}, {"keys": ["late", "loss"]}, {"min_step": 5, "max_step": 11}, {"rank": 1},
    {"attempt": 1}, {"superseded": True}, {"rank": 9}, {"min_step": 99},
])  # fmt: skip
def test_the_rows_are_those_of_the_row_reader(store, limit: int, arguments: dict[str, Any]) -> None:
    run = ragged(store)
    np.testing.assert_equal(scanned(run, limit, **arguments), as_rows(run, **arguments))


def test_rows_that_few_keys_have_are_found_a_bounded_look_at_a_time(store, monkeypatch) -> None:
    monkeypatch.setattr(history_windows, "MAX_ROWS_IN_VAIN", 10)
    run = ragged(store)
    assert scanned(run, 2, keys=["late"]) == as_rows(run, keys=["late"])
    assert len(scanned(run, 2, keys=["late"])) == 2


def test_a_cursor_of_no_scan_is_refused(store) -> None:
    run = ragged(store)
    for cursor in ("x", "1:2:3:4", ""):
        with pytest.raises(ValueError, match=r"\w"):
            HistoryColumns(store).scan(run.row, cursor=cursor)


def test_a_run_without_rows_has_an_empty_page(store) -> None:
    assert scanned(StoredRun(store), 10) == []
