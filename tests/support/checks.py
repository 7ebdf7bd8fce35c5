"""Compares what the API says with what was logged: numpy's results on the same values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from support.known import same, value


def check_reduced(run: Any, key: str, expected: np.ndarray, *, first_step: int = 0) -> None:
    """Check one metric of a shared run, reduced over its ranks.

    Args:
        run: A `runfold.api.Run`.
        expected: float64 (ranks, steps), as each rank logged it; NaN where a rank logged nothing.
    """
    rows = run.history(samples=100_000, keys=[key], pandas=False, stats=True)
    steps = [row["_step"] for row in rows]
    assert steps == list(range(first_step, first_step + expected.shape[1]))
    column = {
        name: np.array([row[f"{key}:{name}"] for row in rows], dtype=float)
        for name in ("mean", "min", "max", "count", "std")
    }
    np.testing.assert_allclose(column["mean"], expected.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose([row[key] for row in rows], expected.mean(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(column["min"], expected.min(axis=0))
    np.testing.assert_array_equal(column["max"], expected.max(axis=0))
    np.testing.assert_array_equal(column["count"], np.full(expected.shape[1], expected.shape[0]))
    if expected.shape[0] > 1:
        np.testing.assert_allclose(column["std"], expected.std(axis=0, ddof=1), rtol=1e-9)
    # Ranks, or the labels "rank-N" of writers that have none.
    argmin = [int(str(row[f"{key}:argmin"]).removeprefix("rank-")) for row in rows]
    assert argmin == expected.argmin(axis=0).tolist()


def check_accounting(run: Any, *, complete: bool = True) -> dict[str, int]:
    """Check that every record is accounted for; `complete`: nothing pending, nothing lost."""
    counts: dict[str, int] = run.accounting()
    total = counts["stored"] + counts["declared_gaps"] + counts["dead_letters"] + counts["pending"]
    assert counts["acknowledged"] == total, counts
    if complete:
        assert counts["pending"] == counts["declared_gaps"] == counts["dead_letters"] == 0, counts
    return counts


def rows_by_writer(run: Any, **options: Any) -> dict[int, list[dict[str, Any]]]:
    """All rows of a run that the trainers of `support.trainer` logged, as each logged them, by writer number."""
    found: dict[int, list[dict[str, Any]]] = {}
    for row in run.scan_history(per_writer=True, **options):
        found.setdefault(int(row["w"]), []).append(row)
    return found


def check_rows(rows: list[dict[str, Any]], writer: int, *, acked: int, attempted: int) -> list[int]:
    """Check one writer's rows against its oracle; return the numbers of the acked rows that are missing."""
    numbers = [int(row["n"]) for row in rows]
    sequence = [int(row["_seq"]) for row in rows]
    assert len(set(numbers)) == len(numbers), f"writer {writer}: rows stored twice: {_repeated(numbers)[:10]}"
    assert numbers == sorted(numbers), f"writer {writer}: rows out of order"
    assert sequence == sorted(set(sequence)), f"writer {writer}: seq out of order"
    assert not numbers or numbers[-1] <= attempted, f"writer {writer}: row {numbers[-1]} was never logged"
    for row, number in zip(rows, numbers, strict=True):
        assert same(float(row["v"]), value(writer, number)), (
            f"writer {writer}: row {number} has another value"
        )
        assert not math.isnan(row["_step"])
        assert row["_step"] == number
    return sorted(set(range(1, acked + 1)) - set(numbers))


def _repeated(numbers: list[int]) -> list[int]:
    seen: set[int] = set()
    return [number for number in numbers if number in seen or seen.add(number)]  # type: ignore[func-returns-value]
