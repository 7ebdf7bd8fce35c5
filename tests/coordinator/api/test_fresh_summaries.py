"""Summaries are folded once a version, and forgotten before they take too much memory."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from coordinator.api.runs import run_row
from runfold_coordinator.api import fresh_summaries
from runfold_coordinator.api.fresh_summaries import FreshSummaries
from runfold_coordinator.store.model import RunRow
from support.processes import until


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
    for version in (1, 1, 2, 2):
        assert fresh.summary(run_row(version=version)) == {"k0": {"last": version}}
    assert reader.asked == [(1, 1), (1, 2)]


def test_an_older_row_gets_the_newer_summary() -> None:
    fresh = FreshSummaries(CountingReader())
    fresh.summary(run_row(version=2))
    assert fresh.summary(run_row(version=1)) == {"k0": {"last": 2}}


def test_ranks_that_rewind_a_run_share_a_fold_whichever_row_each_has_read() -> None:
    asked: list[tuple[int, int, int]] = []

    class Reader(CountingReader):
        def summary_until(self, run: RunRow, step: int) -> dict[str, Any]:
            asked.append((run.run_pk, run.version, step))
            return {"step": step, "version": run.version}

    fresh = FreshSummaries(Reader())
    found = [fresh.summary_until(run_row(version=version), 4)["version"] for version in (2, 1, 2, 3, 2)]
    assert (found, [version for _, version, _ in asked]) == ([2, 2, 2, 3, 3], [2, 3])
    assert fresh.summary_until(run_row(version=1), 5) == {"step": 5, "version": 1}


class SlowReader(CountingReader):
    """Folds when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.may_fold = threading.Event()
        self.fails = 0

    def summary(self, run: RunRow) -> dict[str, Any]:
        found = super().summary(run)
        assert self.may_fold.wait(30)
        if self.fails:
            self.fails -= 1
            raise OSError("no database")
        return found


def _ask_all(fresh: FreshSummaries, reader: SlowReader, rows: list[RunRow]) -> list[Any]:
    """Let all ask while the first one's fold is being made; return what each got."""
    with ThreadPoolExecutor(len(rows)) as threads:
        asked = []
        for n, row in enumerate(rows, 1):
            asked.append(threads.submit(fresh.summary, row))
            until(lambda n=n: sum(queue.count for queue in fresh._queues.values()) == n, 30)  # type: ignore[misc]
        until(lambda: reader.asked, 30)
        reader.may_fold.set()
        return [one.exception(30) or one.result() for one in asked]


def test_who_asks_during_a_fold_waits_for_one_more_at_most() -> None:
    reader = SlowReader()
    fresh = FreshSummaries(reader)
    rows = [run_row(version=version) for version in (1, 1, 2, 4, 3, 2)]
    versions = [found["k0"]["last"] for found in _ask_all(fresh, reader, rows)]
    assert all(got >= row.version for got, row in zip(versions, rows, strict=True))
    assert len(reader.asked) <= 2 and reader.asked[-1] == (1, 4)
    assert fresh._queues == {}


def test_a_fold_that_fails_is_tried_by_the_next() -> None:
    reader = SlowReader()
    reader.fails = 1
    fresh = FreshSummaries(reader)
    found = _ask_all(fresh, reader, [run_row(version=1)] * 3)
    assert sum(isinstance(one, OSError) for one in found) == 1
    assert found.count({"k0": {"last": 1}}) == 2
    assert fresh._queues == {}


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
