"""Resumes, rewinds and forks in a real store: what readers show equals a simple model of what was said."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.readers.stored_run import Said, StoredRun
from coordinator.readers.test_history_reader import plain, scan
from runfold.protocol.branching import Branch
from runfold_coordinator.readers.history_columns import HistoryColumns
from runfold_coordinator.readers.series_reader import SeriesReader
from runfold_coordinator.readers.summary_reader import SummaryReader

NUMBERS = itertools.count()


@dataclass
class Spoke:
    """A process in the model: when it began, what it took back, what it logged by its own counter."""

    began: int
    said: Said
    #: First step of earlier processes that it took back; None: none, its steps follow theirs.
    cut: int | None = None
    rows: list[float] = field(default_factory=list)
    delivered: int = 0


@dataclass
class Model:
    """A run in the model."""

    stored: StoredRun
    spoke: list[Spoke] = field(default_factory=list)
    base: Model | None = None
    fork_step: int = -1
    forked: int = 0

    def view(self, before: float = float("inf")) -> dict[int, float]:
        """What counts, of those that began before."""
        rows: dict[int, float] = {}
        if self.base is not None:
            inherited = self.base.view(self.forked)
            rows = {step: value for step, value in inherited.items() if step <= self.fork_step}
        last = self.fork_step
        for process in self.spoke:
            if process.began >= before:
                break
            first = process.cut
            if first is None:
                first = last + 1
            else:
                rows = {step: value for step, value in rows.items() if step < first}
                last = min(last, first - 1)
            last = max(last, first + len(process.rows) - 1)
            rows.update({first + at: value for at, value in enumerate(process.rows)})
        return rows


class Play:
    """Plays operations into a store and the model alike."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.now = 0
        self.value = 0.0
        self.runs: list[Model] = []
        self.begin()

    def begin(self, **more: Any) -> Model:
        run = Model(StoredRun(self.store, f"r{next(NUMBERS)}"), **more)
        self.runs.append(run)
        return run

    def process(self, run: Model, branch: Branch | None = None, cut: int | None = None) -> None:
        self.now += 1
        start = 0 if branch is None else branch.step + 1
        said = Said(
            mode="grouped",
            started_s=self.now * 1000,
            run_id=run.stored.run_id,
            branch=branch,
            start_step=start,
        )
        said.writer_id = f"{next(NUMBERS):032x}"
        run.spoke.append(Spoke(self.now, said, cut))

    def log(self, run: Model, which: int, count: int) -> None:
        if not run.spoke:
            self.process(run)
        process = run.spoke[-1 - which % len(run.spoke)]
        for _ in range(count):
            self.value += 1.0
            process.said.log({"loss": self.value})
            process.rows.append(self.value)

    def rewind(self, run: Model, step: int) -> None:
        self.process(run, Branch("rewind", run.stored.run_id, step), cut=step + 1)

    def resume(self, run: Model) -> None:
        last = max(run.view(), default=-1)
        self.process(run, Branch("resume", run.stored.run_id, last), cut=last + 1)

    def fork(self, base: Model, step: int) -> None:
        self.now += 1
        run = self.begin(base=base, fork_step=step, forked=self.now)
        self.process(run, Branch("fork", base.stored.run_id, step))
        run.forked = run.spoke[0].began

    def deliver(self, run: Model, process: Spoke, upto: int | None = None) -> None:
        run.stored.deliver(process.said, upto, per_chunk=3)


numbers = st.integers(0, 12)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("log"), numbers, st.integers(0, 3), st.integers(1, 7)),
        st.tuples(st.just("rewind"), numbers, numbers),
        st.tuples(st.just("fork"), numbers, numbers),
        st.tuples(st.just("resume"), numbers),
        st.tuples(st.just("restart"), numbers),
        st.tuples(st.just("deliver"), numbers),
    ),
    min_size=1,
    max_size=14,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations, st.integers(0, 2**32))
def test_history_equals_the_model_after_any_rewinds_and_forks(store, said, seed):
    play, order = Play(store), random.Random(seed)
    play.log(play.runs[0], 0, 5)
    for what, number, *more in said:
        run = play.runs[number % len(play.runs)]
        if what == "deliver":  # and somebody looks: nothing that is remembered may stay
            for process in run.spoke:
                play.deliver(run, process, order.randint(0, len(process.said.records)))
            SummaryReader(store).summary(run.stored.row)
        elif what == "restart":
            play.process(run)
        else:
            getattr(play, what)(run, *more)
    left = [(run, process) for run in play.runs for process in run.spoke]
    order.shuffle(left)
    for run, process in left:
        play.deliver(run, process)
    for run in play.runs:
        if run.spoke:
            check(run, order.choice([1, 2, 1000]))


def check(run: Model, limit: int) -> None:
    expected = run.view()
    shown = [{"_step": step, "loss": value} for step, value in sorted(expected.items())]
    assert plain(scan(run.stored, limit=limit)) == shown
    row, store = run.stored.row, run.stored.store
    table = SeriesReader(store).read(row, keys=["loss"], samples=1000)
    assert dict(zip(table.columns[0].values, table.columns[1].values, strict=True)) == expected
    whole = SeriesReader(store).read(row, samples=1000)
    assert next(c for c in whole.columns if c.name == "_step").values.tolist() == sorted(expected)
    columns = HistoryColumns(store).scan(row, limit=1000).columns
    assert [list(c.values) for c in columns if c.path == ("_step",)] == (
        [sorted(expected)] if expected else []
    )
    summary = SummaryReader(store).summary(row)
    if expected:
        assert (summary["loss"], summary["_step"]) == (expected[max(expected)], max(expected))
    logged = scan(run.stored, per_writer=True, limit=limit)
    assert [(r["_step"], r["loss"]) for r in logged] == sorted(expected.items())
    everything = scan(run.stored, per_writer=True, superseded=True)
    kept = [value for process in run.spoke for value in process.rows]
    assert sorted(set(kept) | set(expected.values())) == sorted(
        {r["loss"] for r in everything} & (set(kept) | set(expected.values()))
    )
    hidden = {r["loss"] for r in everything if r.get("_superseded")}
    assert hidden.isdisjoint(expected.values())
    assert hidden | set(expected.values()) == {r["loss"] for r in everything}
