"""Resumes, rewinds and forks in a real store: what readers show equals a simple model of what was said."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.readers.stored_run import Said, StoredRun
from coordinator.readers.test_history_reader import plain, scan
from runfold.protocol.branching import Branch
from runfold_coordinator.readers.attempts_reader import AttemptsReader
from runfold_coordinator.readers.branches import load_history
from runfold_coordinator.readers.group_reader import GroupReader
from runfold_coordinator.readers.history_columns import HistoryColumns
from runfold_coordinator.readers.series_reader import SeriesReader
from runfold_coordinator.readers.summary_reader import SummaryReader
from runfold_coordinator.readers.visible_top import visible_top

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


def said_as(run_id: str, at_s: float, rank: int | None = None, **more: Any) -> Said:
    mode = "grouped" if rank is None else "shared"
    return Said(rank, mode=mode, run_id=run_id, started_s=at_s, **more)


def logged(said: Said, *values: float, key: str = "loss") -> Said:
    for value in values:
        said.log({key: value})
    return said


def forked(run_id: str, at_s: float, base: str, step: int, rank: int | None = None, **more: Any) -> Said:
    return said_as(run_id, at_s, rank, branch=Branch("fork", base, step), start_step=step + 1, **more)


def delivered(store: Any, run_id: str, *everybody: Said, group: str | None = None) -> StoredRun:
    run = StoredRun(store, run_id, group=group)
    for said in everybody:
        run.deliver(said)
    return run


def losses(run: StoredRun, **more: Any) -> dict[int, float]:
    return {row["_step"]: row["loss"] for row in scan(run, **more)}


def test_a_fork_of_a_shared_run_begins_with_all_its_ranks(store):
    ranks = [logged(said_as("b", rank, rank), *(10.0 * rank + s for s in range(6))) for rank in range(3)]
    ranks[1].define("loss", reduce="max")
    delivered(store, "b", *ranks)
    own = [logged(forked("f", 100 + rank, "b", 3, rank), 100.0 + rank, 200.0 + rank) for rank in range(2)]
    fork = delivered(store, "f", *own)
    assert losses(fork) == {0: 20.0, 1: 21.0, 2: 22.0, 3: 23.0, 4: 101.0, 5: 201.0}
    assert losses(fork, rank=0) == {0: 0.0, 1: 1.0, 2: 2.0, 3: 3.0, 4: 100.0, 5: 200.0}
    table = SeriesReader(store).read(fork.row, keys=["loss"], stats=True)
    columns = {column.name: list(column.values) for column in table.columns}
    assert columns["loss:count"] == [3, 3, 3, 3, 2, 2]
    assert columns["loss:argmax"] == [2, 2, 2, 2, 1, 1]
    rows = scan(fork, per_writer=True)
    assert [row["_rank"] for row in rows] == [0, 1, 2] * 4 + [0, 1] * 2
    assert SummaryReader(store).summary(fork.row)["loss"] == 201.0
    # One process alone goes on from all of them.
    alone = delivered(store, "one", logged(forked("one", 300, "b", 1), 5.0))
    assert losses(alone) == {0: 20.0, 1: 21.0, 2: 5.0}


def test_summaries_of_a_fork_are_over_its_bases_rows_too(store):
    base = said_as("b", 0)
    base.define("loss", summary=("min", "mean"))
    base.set("by_hand", 1)
    logged(base, 4.0, 2.0, 6.0)
    base.set("too_late", 2)
    delivered(store, "b", base)
    done = logged(forked("f", 100, "b", 1), 9.0)
    done.exit()
    fork = delivered(store, "f", done)
    summary = SummaryReader(store).summary(fork.row)
    assert (summary["loss"], summary["by_hand"], summary["_step"]) == ({"min": 2.0, "mean": 5.0}, 1, 2)
    assert "too_late" not in summary
    own = logged(forked("g", 200, "b", 2), 9.0)
    own.define("loss", summary=("max",))
    own.exit()
    other = delivered(store, "g", own)
    summary = SummaryReader(store).summary(other.row)
    assert (summary["loss"]["max"], summary["too_late"]) == (9.0, 2)


def test_a_base_that_comes_later_changes_what_was_folded_before(store):
    own = logged(forked("f", 100, "b", 1), 9.0)
    own.define("loss", summary=("min",))
    fork = delivered(store, "f", own)
    summaries = SummaryReader(store)
    assert summaries.summary(fork.row)["loss"] == {"min": 9.0}
    base = StoredRun(store, "b")
    process = logged(said_as("b", 0), 5.0, 3.0, 1.0)
    base.deliver(process, upto=2)  # its first row
    assert (losses(fork), summaries.summary(fork.row)["loss"]) == ({0: 5.0, 2: 9.0}, {"min": 5.0})
    while summaries.keep_up(lambda: 0.0):
        pass
    base.deliver(process)
    assert (losses(fork), summaries.summary(fork.row)["loss"]) == ({0: 5.0, 1: 3.0, 2: 9.0}, {"min": 3.0})


def test_a_saved_fold_goes_on_while_its_base_goes_its_own_way(store):
    base, process = StoredRun(store, "b"), said_as("b", 0)
    base.deliver(logged(process, *map(float, range(5))))
    own = forked("f", 100, "b", 3)
    fork = delivered(store, "f", logged(own, 9.0))
    summaries = SummaryReader(store)
    while summaries.keep_up(lambda: 0.0):
        pass
    base.deliver(logged(process, *[-1.0] * 20))
    fork.deliver(logged(own, 7.0))
    assert summaries.summary(fork.row)["loss"] == 7.0
    assert losses(fork) == {0: 0.0, 1: 1.0, 2: 2.0, 3: 3.0, 4: 9.0, 5: 7.0}


def test_runs_that_say_they_begin_with_each_other_are_still_read(store):
    one = delivered(store, "a", logged(forked("a", 10, "b", 2), 1.0))
    other = delivered(store, "b", logged(forked("b", 20, "a", 2), 2.0))
    itself = delivered(store, "c", logged(forked("c", 30, "c", 2), 3.0))
    assert losses(one) == {3: 1.0}
    assert losses(other) == {3: 2.0} == {step: value - 1 for step, value in losses(itself).items()}


def test_a_run_that_was_there_does_not_become_a_fork(store):
    base = delivered(store, "b", logged(said_as("b", 0), 1.0, 2.0))
    run = delivered(store, "r", logged(said_as("r", 10), 5.0), logged(forked("r", 20, "b", 1), 6.0))
    assert losses(run) == {0: 5.0, 2: 6.0} and run.row.fork is None
    assert losses(base) == {0: 1.0, 1: 2.0}


def test_groups_count_a_fork_as_a_whole_run(store):
    base = delivered(store, "b", logged(said_as("b", 0, group="g"), 1.0, 2.0, 3.0), group="g")
    fork = delivered(store, "f", logged(forked("f", 50, "b", 1, group="g"), 30.0), group="g")
    reader = GroupReader(store, SummaryReader(store))
    table = reader.history([base.row, fork.row], keys=["loss"], stats=True)
    columns = {column.name: list(column.values) for column in table.columns}
    assert (columns["_step"], columns["loss"]) == ([0, 1, 2], [1.0, 2.0, 16.5])
    assert columns["loss:count"] == [2, 2, 2]


def test_long_forks_are_read_by_their_stored_extremes(store):
    steps = np.arange(300_000)
    base, fork = StoredRun(store, "b"), StoredRun(store, "f")
    old, own = said_as("b", 0), forked("f", 100, "b", 199_999)
    base.deliver(old)
    base.insert_bulk(old, steps, {"loss": np.where(steps == 77_777, 1e6, steps * 1.0)})
    fork.deliver(own)
    more = steps[:100_000] + 200_000
    fork.insert_bulk(own, more, {"loss": more * -1.0})
    table = SeriesReader(store).read(fork.row, keys=["loss"], samples=200)
    step, loss = (np.asarray(column.values) for column in table.columns)
    assert (step[0], step[-1], loss.max(), loss.min()) == (0, 299_999, 1e6, -299_999.0)
    expected = np.where(step < 200_000, np.where(step == 77_777, 1e6, step), -1.0 * step)
    np.testing.assert_array_equal(loss, expected)


def test_attempts_tell_where_they_went_on(store):
    first = logged(said_as("r", 0), 1.0, 2.0, 3.0)
    second = logged(said_as("r", 100, branch=Branch("rewind", "r", 0), start_step=1), 20.0)
    run = delivered(store, "r", first, second)
    told = AttemptsReader(store).attempts(run.row)
    assert [attempt["branch"] for attempt in told] == [None, {"kind": "rewind", "step": 0}]
    assert [(attempt["cut_step"], attempt["lost_steps"]) for attempt in told] == [(1, 2), (None, 0)]


def test_what_was_set_by_hand_on_an_old_branch_is_taken_back(store):
    first = said_as("r", 0)
    first.set("early", 1)
    logged(first, 1.0, 2.0)
    first.set("late", 2)
    second = logged(said_as("r", 100, branch=Branch("rewind", "r", 0), start_step=1), 20.0)
    run = delivered(store, "r", first, second)
    summary = SummaryReader(store).summary(run.row)
    assert summary["early"] == 1 and "late" not in summary
    # A resume takes nothing back that was said before it.
    third = said_as("q", 400, branch=Branch("resume", "q", 1), start_step=2)
    again = said_as("q", 300)
    logged(again, 1.0, 2.0).set("late", 2)
    kept = delivered(store, "q", again, logged(third, 3.0))
    assert SummaryReader(store).summary(kept.row)["late"] == 2


def test_the_last_step_is_one_that_is_there(store):
    first = said_as("r", 0)
    for step in (0, 100, 200, 300):
        first.log({"loss": float(step)}, step=step)
    run = StoredRun(store, "r")
    run.deliver(first, per_chunk=2)
    second = said_as("r", 100, branch=Branch("rewind", "r", 250), start_step=251)
    run.deliver(second)
    lanes = load_history(store, run.row)
    assert visible_top(store, lanes.seats) == 200
    assert SummaryReader(store).summary(run.row)["_step"] == 200
    empty = said_as("r", 200, branch=Branch("rewind", "r", -1), start_step=0)
    run.deliver(empty)
    assert visible_top(store, load_history(store, run.row).seats) == -1
    assert losses(run) == {}
