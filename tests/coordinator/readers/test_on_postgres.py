"""The readers' own statements on PostgreSQL; what they answer is tested on SQLite."""

from __future__ import annotations

import pytest

from coordinator.readers.stored_run import Said, StoredRun
from coordinator.readers.test_series_reader import columns
from runfold_coordinator.readers.group_reader import GroupReader
from runfold_coordinator.readers.history_reader import HistoryReader
from runfold_coordinator.readers.series_reader import SeriesReader
from runfold_coordinator.readers.summary_reader import SummaryReader
from runfold_coordinator.store.store import Store
from support.postgres import postgres_server, postgres_url

__all__ = ["postgres_server", "postgres_url"]


@pytest.fixture
def store(postgres_url):
    opened = Store.open(postgres_url)
    yield opened
    opened.close()


def test_a_shared_run_and_its_group_are_read(store):
    run = StoredRun(store, group="g")
    said = [Said(rank) for rank in range(3)]
    for rank, one in enumerate(said):
        one.define("loss", summary=("min",))
        for step in range(20):
            one.log({"loss": float(rank + step)})
        run.deliver(one, 12, per_chunk=4)
    summaries = SummaryReader(store)
    assert not summaries.keep_up(lambda: 0.0)
    for one in said:
        one.exit()
        run.deliver(one)
    assert summaries.summary(run.row)["loss"] == {"min": 1.0}
    page = HistoryReader(store).scan(run.row, limit=7)
    assert [row["loss"] for row in page.rows] == [float(step + 1) for step in range(7)]
    assert columns(SeriesReader(store).read(run.row, keys=["loss"], stats=True))["loss:argmax"] == [2] * 20
    group = GroupReader(store, summaries)
    assert columns(group.history([run.row], keys=["loss"]))["loss"] == [float(step + 1) for step in range(20)]
    assert [row["mean"] for row in group.table([run.row])] == [1.0]
