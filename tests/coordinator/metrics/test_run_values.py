"""Values are read beside scrapes: each run gets its turn, and the thread takes a small share of the time."""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections import Counter

import pytest

from coordinator.metrics.test_page import job, store  # noqa: F401 - a fixture
from coordinator.readers.stored_run import Said, StoredRun
from runfold_coordinator.metrics import run_values
from runfold_coordinator.metrics.run_values import RunValues
from runfold_coordinator.readers.kept_goodput import KeptGoodput
from runfold_coordinator.readers.run_lanes import seat_writers
from runfold_coordinator.readers.settled_values import SettledValues
from support.frames import FakeClock


class Watched(RunValues):
    """Notes whose turn it was, and by which thread; each turn takes a given time."""

    def __init__(self, opened, took_s: float = 0.0) -> None:
        clock = FakeClock()
        super().__init__(
            opened, KeptGoodput(lambda _run: {"ratio": None}, clock), clock, wanted=lambda _name: True, most=9
        )
        self.took_s = took_s
        self.turns: Counter[int] = Counter()
        self.threads: Counter[str] = Counter()
        self.fails = False

    def _follow(self, run, found) -> None:
        self.turns[run.run_pk] += 1
        self.threads[threading.current_thread().name] += 1
        self._clock.now_s += self.took_s
        if self.fails:
            raise RuntimeError("unreadable")
        super()._follow(run, found)


def versions(runs, version: int):
    return [dataclasses.replace(run, version=version) for run in runs]


def test_each_run_has_its_turn_though_all_change_all_the_time(store, monkeypatch):  # noqa: F811
    runs = [job(store, f"run-{at}", ranks=1, started_s=at).row for at in range(6)]
    monkeypatch.setattr(RunValues, "_start_thread", lambda self: None)
    values = Watched(store, took_s=run_values.IN_SCRAPE_S)
    for version in range(12):
        values.keep_up(versions(runs, version))
    assert len(values.turns) == 6 and max(values.turns.values()) - min(values.turns.values()) <= 1


def test_a_run_that_did_not_change_is_left_alone(store):  # noqa: F811
    runs = [job(store).row]
    values = Watched(store)
    for _ in range(3):
        values.keep_up(runs)
    assert values.turns == {runs[0].run_pk: 1}
    assert values.of(runs[0].run_pk).values == {"loss": 7.0, "lr": pytest.approx(0.1)}
    values.keep_up([])
    assert values.of(runs[0].run_pk) is None
    values.close()


class Rests(threading.Event):
    """The end that the thread waits for while it rests; each rest lasts until `go_on` is released."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: queue.SimpleQueue[float | None] = queue.SimpleQueue()
        self.go_on = threading.Semaphore(0)

    def wait(self, timeout: float | None = None) -> bool:
        self.begun.put(timeout)
        assert self.go_on.acquire(timeout=60)
        return self.is_set()

    def set(self) -> None:
        super().set()
        self.go_on.release()


def test_the_thread_takes_its_share_and_no_more(store):  # noqa: F811
    runs = [job(store, f"run-{at}", ranks=1, started_s=at).row for at in range(20)]
    values = Watched(store, took_s=0.02)
    values._closing = rests = Rests()
    values.keep_up(versions(runs, 0))
    share_s = 0.02 / run_values.SHARE - 0.02
    for turn, rest_s in enumerate((share_s, share_s, run_values.MAX_PAUSE_S), start=1):
        assert rests.begun.get(timeout=60) == pytest.approx(rest_s)
        for more in range(4):  # scrapes meanwhile, which do work of their own
            values.keep_up(versions(runs, 4 * turn + more))
        assert values.threads["runfold-metrics"] == turn, "it rests between runs, scrapes or not"
        assert values.turns.total() == 1 + 5 * turn
        values.took_s = 0.02 if turn == 1 else 10.0
        rests.go_on.release()
    values.close()
    assert not any(thread.name == "runfold-metrics" and thread.is_alive() for thread in threading.enumerate())


def test_a_run_that_can_not_be_read_keeps_its_values(store):  # noqa: F811
    runs = [job(store).row]
    values = Watched(store)
    values.keep_up(runs)
    values.fails = True
    values.keep_up(versions(runs, 99))
    assert values.of(runs[0].run_pk).values["loss"] == 7.0
    values.close()


def test_values_are_the_same_read_by_lane_or_by_key(store):  # noqa: F811
    run = StoredRun(store)
    for rank in range(4):
        for attempt in range(2):
            said = Said(rank, started_s=100 * attempt + rank, restart_hint=attempt)
            said.define("loss", reduce="mean", weight="tokens")
            more = {f"more{at}": float(at * rank) for at in range(5)}
            for step in range(4 + attempt, 8 + attempt):
                said.log({"loss": float(step * rank), "tokens": rank + 1.0, **more}, step=step, commit=True)
            run.deliver(said)
    lanes = seat_writers(run.row, store.writers(run.run_pk), dict(store.keys_of([run.run_pk])[run.run_pk]))
    by_key, by_lane = SettledValues(), SettledValues()
    by_key.follow(store, lanes, {"loss", "tokens", "more3"}.__contains__, 9)  # 3 metrics of 4 ranks
    by_lane.follow(store, lanes, lambda _name: True, 9)  # 7 of 4
    assert len(by_lane.values) == 7 and by_key.step == by_lane.step == 7
    assert by_key.values == {name: by_lane.values[name] for name in by_key.values}
    assert by_key.values["loss"] == pytest.approx(7 * (1 * 2 + 2 * 3 + 3 * 4) / 10)
