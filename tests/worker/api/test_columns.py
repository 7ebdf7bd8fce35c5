"""Columns become rows and frames without inventing values."""

from __future__ import annotations

import array
import math

import pandas

from runfold.api.columns import frame_of, rows_of

TABLE = {
    "length": 3,
    "columns": [
        {"name": "_step", "values": array.array("q", [0, 1, 2]), "rows": None},
        {"name": "loss", "values": array.array("d", [1.5, math.nan]), "rows": array.array("I", [0, 2])},
        {"name": "text", "values": ["x"], "rows": array.array("I", [1])},
    ],
}


def test_rows_leave_absent_cells_out() -> None:
    rows = rows_of(TABLE)
    assert rows[0] == {"_step": 0, "loss": 1.5}
    assert rows[1] == {"_step": 1, "text": "x"}
    assert math.isnan(rows[2]["loss"])


def test_a_frame_shows_absent_numbers_as_nan() -> None:
    frame = frame_of(TABLE, pandas)
    assert list(frame.columns) == ["_step", "loss", "text"]
    assert frame["_step"].dtype == "int64"
    assert frame["loss"].isna().tolist() == [False, True, True]
    assert frame["text"].tolist()[1] == "x"
    assert len(frame_of({"length": 0, "columns": []}, pandas)) == 0
