"""Extremes of a numeric column over runs of 256 rows: charts read thousands of them, no spike is lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from runfold_coordinator.store.model import I64, U64

BUCKET_ROWS = 256
#: Order of the arrays in a stored rollup.
FIELDS = (
    "seq_first",
    "seq_last",
    "step_min",
    "step_max",
    "step_first",
    "step_last",
    "is_rising",
    "count",
    "nan_count",
    "sum",
    "min",
    "max",
    "argmin_step",
    "argmax_step",
)
Arrays = dict[str, npt.NDArray[Any]]


def roll_up_rows(seq: U64, step: I64) -> Arrays:
    """Return the seven row fields of each bucket; columns that every row has share them."""
    starts = np.arange(0, len(seq), BUCKET_ROWS)
    ends = np.minimum(starts + BUCKET_ROWS, len(seq)) - 1
    rises = np.ones(len(step), np.bool_)
    np.greater(step[1:], step[:-1], out=rises[1:])
    rises[starts] = True
    return {
        "seq_first": seq[starts],
        "seq_last": seq[ends],
        "step_min": np.minimum.reduceat(step, starts),
        "step_max": np.maximum.reduceat(step, starts),
        "step_first": step[starts],
        "step_last": step[ends],
        "is_rising": np.logical_and.reduceat(rises, starts),
    }


def roll_up_values(step: I64, values: npt.NDArray[Any]) -> Arrays:
    """Return count, nan_count, sum, min, max (float64), argmin_step, argmax_step (ties: the first row)."""
    floats = values if values.dtype == np.float64 else values.astype(np.float64)
    whole = len(floats) // BUCKET_ROWS * BUCKET_ROWS
    pieces = []
    if whole:
        pieces.append(
            _roll_up(step[:whole].reshape(-1, BUCKET_ROWS), floats[:whole].reshape(-1, BUCKET_ROWS))
        )
    if whole < len(floats):
        pieces.append(_roll_up(step[whole:].reshape(1, -1), floats[whole:].reshape(1, -1)))
    if len(pieces) == 1:
        return pieces[0]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def _roll_up(step: I64, floats: npt.NDArray[np.float64]) -> Arrays:
    buckets, width = floats.shape
    rows = np.arange(buckets)
    # One pass tells whether there is a NaN at all: min and max propagate it.
    low_at = floats.argmin(axis=1)
    low = floats[rows, low_at]
    nan_count = np.zeros(buckets, dtype=np.uint32)
    with np.errstate(invalid="ignore", over="ignore"):
        if not np.isnan(low).any():
            high_at = floats.argmax(axis=1)
            high = floats[rows, high_at]
            total = floats.sum(axis=1)
        else:
            is_nan = np.isnan(floats)
            nan_count = is_nan.sum(axis=1).astype(np.uint32)
            low_at = np.where(is_nan, np.inf, floats).argmin(axis=1)
            high_at = np.where(is_nan, -np.inf, floats).argmax(axis=1)
            # A bucket of +inf and NaN only: the masked NaN is +inf too and may come first.
            low_at, high_at = _skip_nan(is_nan, low_at), _skip_nan(is_nan, high_at)
            low, high = floats[rows, low_at], floats[rows, high_at]
            total = np.where(is_nan, 0.0, floats).sum(axis=1)
    return {
        "count": (width - nan_count).astype(np.uint32),
        "nan_count": nan_count,
        "sum": total,
        "min": low,
        "max": high,
        "argmin_step": step[rows, low_at],
        "argmax_step": step[rows, high_at],
    }


def _skip_nan(is_nan: npt.NDArray[np.bool_], at: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    rows = np.arange(len(at))
    return np.where(is_nan[rows, at], (~is_nan).argmax(axis=1), at)
