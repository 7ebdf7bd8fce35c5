"""Summaries are folded once a version, and forgotten before they take too much memory."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.api.runs import run_row
from runfold_coordinator.api import fresh_summaries
from runfold_coordinator.api.fresh_summaries import FreshSummaries
from runfold_coordinator.store.model import RunRow


class CountingReader:
    def __init__(self, size: int = 1) -> None:
        self.asked: list[tuple[int, int]] = []
        self._size = size

    def summary(self, run: RunRow) -> dict[str, Any]:
        self.asked.append((run.run_pk, run.version))
        return {f"k{n}": {"last": run.version} for n in range(self._size)}


def test_a_run_is_folded_once_a_version() -> None:
    reader = CountingReader()
    fresh = FreshSummaries(reader)
    for version in (1, 1, 2, 2, 1):
        assert fresh.summary(run_row(version=version)) == {"k0": {"last": version}}
    assert reader.asked == [(1, 1), (1, 2), (1, 1)]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh_summaries, "MAX_VALUES", 100)
    reader = CountingReader(size=10)
    fresh = FreshSummaries(reader)
    for pk in range(50):
        fresh.summary(run_row(run_pk=pk))
    assert fresh._value_count <= 100
    assert fresh._value_count == sum(count for _, _, count in fresh._known.values())
    fresh.summary(run_row(run_pk=49))
    fresh.summary(run_row(run_pk=0))
    assert reader.asked[50:] == [(0, 1)]
