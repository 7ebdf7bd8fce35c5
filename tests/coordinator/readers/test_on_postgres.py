"""The readers' own statements on PostgreSQL; what they answer is tested on SQLite."""

from __future__ import annotations

import re

import pytest

from coordinator.readers.stored_run import Said, StoredRun
from coordinator.readers.test_live_reader import HandClock
from coordinator.readers.test_nodes_now import Agent
from coordinator.readers.test_series_reader import columns
from runfold_coordinator.metrics.building import Metrics
from runfold_coordinator.metrics.http_counts import HttpCounts
from runfold_coordinator.metrics.own import OwnSources
from runfold_coordinator.readers.goodput_reader import GoodputReader
from runfold_coordinator.readers.group_reader import GroupReader
from runfold_coordinator.readers.history_reader import HistoryReader
from runfold_coordinator.readers.live_reader import LiveReader, NothingHeard
from runfold_coordinator.readers.series_reader import SeriesReader
from runfold_coordinator.readers.summary_reader import SummaryReader
from runfold_coordinator.store.store import Store


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


def test_a_job_as_it_stands_now_and_its_metrics(store):
    run = StoredRun(store)
    said = [Said(rank, boot_id="boot") for rank in range(2)]
    for one in said:
        for step in range(20):
            one.log({"loss": 1.0}, step=step, commit=True)
        run.deliver(one, per_chunk=3)
    agent = Agent(store, *(one.writer_id for one in said))
    for second in range(2):
        agent.sample(float(second))
    clock = HandClock()
    live = LiveReader(store, clock, NothingHeard(), GoodputReader(store, clock).goodput)
    view = live.look(run.row)
    assert [(w.step, w.step_s, w.use.cpu_percent) for w in view.writers] == [(19, 1.0, 77.0)] * 2
    assert len(view.nodes[0].gpus) == 2 and view.goodput_ratio is not None
    metrics = Metrics(OwnSources(store=store, clock=clock, http=HttpCounts()), live)
    page = metrics.page.answer("").body.decode()
    metrics.close()
    assert 'runfold_run_step{entity="e",project="p",run_id="r",run_name=""} 19' in page
    assert re.search(r"^runfold_database_bytes \d", page, re.MULTILINE)
    assert 'runfold_writers{state="running"} 2.0' in page
