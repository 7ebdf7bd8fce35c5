"""Runs with several writers: summaries over reduced rows in settled steps, the same whatever the order of
arrival.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.readers.stored_run import Said, StoredRun
from coordinator.readers.test_writer_summary import bits
from runfold_coordinator.readers import lane_summary, summary_reader
from runfold_coordinator.readers.summary_reader import SummaryReader
from runfold_coordinator.store.store import Store
from support.counted import calls_in

NUMBERS = itertools.count(1000, 100)


def summary(run: StoredRun) -> dict[str, Any]:
    return SummaryReader(run.store).summary(run.row)


def ranks(count: int, steps: int, *, seed: int = 0, ends: bool = True) -> tuple[list[Said], np.ndarray]:
    matrix = np.random.default_rng(seed).normal(size=(count, steps))
    said = [Said(rank) for rank in range(count)]
    said[0].define("loss", summary=("min", "max", "mean", "last", "first"))
    for rank, one in enumerate(said):
        for step in range(steps):
            one.log({"loss": float(matrix[rank, step]), "epoch": step // 3})
        if ends:
            one.exit()
    return said, matrix


def test_summaries_are_over_reduced_values(store):
    said, matrix = ranks(4, 30)
    run = StoredRun(store)
    for one in said:
        run.deliver(one, per_chunk=8)
    mean = matrix.mean(axis=0)
    total = 0.0
    for value in mean.tolist():
        total += value
    got = summary(run)
    assert got["loss"] == {
        "min": mean.min(),
        "max": mean.max(),
        "mean": total / 30,
        "last": mean[-1],
        "first": mean[0],
    }
    assert got["epoch"] == 9 and type(got["epoch"]) is int
    assert got["_step"] == 29 and got["_wandb"] == {"runtime": 33}


def test_live_summaries_take_settled_steps_and_the_newest_for_last(store):
    said, matrix = ranks(2, 20, ends=False)
    run = StoredRun(store)
    run.deliver(said[0])
    run.deliver(said[1], 11)  # its record, then steps 0 to 9
    mean = matrix.mean(axis=0)
    got = summary(run)["loss"]
    assert got["min"] == mean[:9].min() and got["max"] == mean[:9].max()  # step 9 may still be added to
    assert got["last"] == matrix[0, 19] and got["first"] == mean[0]
    run.end_writer(said[1])
    assert summary(run)["loss"]["max"] == max(mean[:10].max(), matrix[0, 10:19].max())


def test_a_writer_that_logs_another_key_holds_nothing_back(store):
    said, matrix = ranks(2, 20, ends=False)
    other = Said(None, label="eval")
    other.log({"eval/acc": 0.5})
    run = StoredRun(store)
    for one in (*said, other):
        run.deliver(one)
    assert summary(run)["loss"]["min"] == matrix.mean(axis=0)[:19].min()
    assert summary(run)["eval/acc"] == 0.5


def test_a_late_rank_starts_its_keys_again_and_only_those(store, monkeypatch):
    said, matrix = ranks(3, 40, ends=False)
    run = StoredRun(store)
    run.deliver(said[0])
    run.deliver(said[1])
    reader = SummaryReader(store)
    reader.keep_up(lambda: 0.0)
    assert run.row.summary["loss"]["first"] == matrix[:2, 0].mean()
    late = Said(2, started_s=1)
    for step in range(40):
        late.log({"loss": float(matrix[2, step])})
    run.deliver(late)
    folded = []
    original = lane_summary.read_reduced
    monkeypatch.setattr(lane_summary, "read_reduced", lambda *a: folded.append((a[2], a[3])) or original(*a))
    assert summary(run)["loss"]["first"] == matrix[:, 0].mean()
    assert {key for key, low in folded if low == 0} == {"loss"}


def test_superseded_rows_leave_the_summary(store):
    first, second = Said(0, restart_hint=0), Said(0, started_s=100, restart_hint=1)
    first.define("loss", summary=("max", "mean"))
    for step in range(6):
        first.log({"loss": 100.0 if step >= 4 else 1.0}, step=step)
    run = StoredRun(store)
    run.deliver(first)
    run.end_writer(first)
    assert summary(run)["loss"]["max"] == 100.0
    SummaryReader(store).keep_up(lambda: 0.0)
    for step in range(4, 8):
        second.log({"loss": 2.0}, step=step)
    second.exit()
    run.deliver(second)
    assert summary(run)["loss"] == {"max": 2.0, "mean": (4 * 1.0 + 4 * 2.0) / 8}
    assert summary(run)["_step"] == 7


def test_the_primarys_manual_value_stands_and_definitions_of_all_apply(store):
    said = [Said(rank) for rank in range(3)]
    said[2].define("acc", summary=("best",), goal="maximize")
    said[1].define("hid*", summary=("none",))
    for rank, one in enumerate(said):
        one.log({"acc": rank / 2, "hidden": 1})
        one.set("note", f"from {rank}")
        if rank:
            one.set(f"only{rank}", rank)
    said[2].delete("only2")
    for one in said:
        one.exit()
    run = StoredRun(store)
    for one in reversed(said):
        run.deliver(one)
    got = summary(run)
    assert got["note"] == "from 0" and got["only1"] == 1 and "only2" not in got
    assert got["acc"] == {"best": 0.5} and "hidden" not in got


def test_reduce_rules_and_weights_reach_the_summary(store):
    said = [Said(rank) for rank in range(2)]
    said[0].define("tokens", reduce="sum", summary=("last",))
    said[0].define("loss", reduce="mean", weight="tokens")
    for rank, one in enumerate(said):
        one.log({"tokens": 1 + 2 * rank, "loss": float(rank), "name": f"n{rank}"})
        one.exit()
    run = StoredRun(store)
    for one in said:
        run.deliver(one)
    got = summary(run)
    assert got["tokens"] == {"last": 4} and got["loss"] == 0.75 and got["name"] == "n0"


def test_a_key_that_is_a_value_on_one_rank_and_a_subtree_on_another(store):
    one, two = Said(0), Said(1)
    one.log({"a": 1})
    one.log({"x": 1})
    two.log({"x": 1})
    two.log({"a": {"b": 2}})
    run = StoredRun(store)
    for said in (one, two):
        said.exit()
        run.deliver(said)
    assert summary(run)["a"] == {"b": 2}


VALUES = st.one_of(
    st.floats(-10, 10),
    st.just(math.nan),
    st.integers(-5, 5),
    st.booleans(),
    st.sampled_from(["a", "b"]),
    st.none(),
    st.lists(st.integers(), max_size=1),
)
CALLS = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(["loss", "acc", "n.x"]), VALUES, max_size=2),
        st.none() | st.integers(0, 9),
        st.sampled_from([None, True, False]),
    ),
    max_size=12,
)


@pytest.fixture(scope="module")
def lasting_store(tmp_path_factory):
    opened = Store.open(f"sqlite:///{tmp_path_factory.mktemp('store') / 'runfold.db'}")
    yield opened
    opened.close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(CALLS, min_size=2, max_size=4),
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), max_size=12),
    st.booleans(),
    st.booleans(),
    st.sampled_from([5, 1_000_000]),
)
def test_any_order_of_arrival_with_restarts_in_between_gives_the_same_bytes(
    lasting_store, calls, arrivals, restarts, ends, cells
):
    number = next(NUMBERS)
    answers = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lane_summary, "MAX_WINDOW_CELLS", cells)
        patch.setattr(summary_reader, "SAVE_AFTER_RECORDS", 0)
        for way in ("in pieces", "at once, backwards"):
            number += 1
            run = StoredRun(lasting_store, f"m{number}")
            writers = []
            for rank, said_calls in enumerate(calls):
                # equal times in both runs: they are told apart by their ids only
                said = Said(rank if not restarts else rank // 2, run_id=f"m{number}", started_s=rank)
                said.writer_id = f"{number:08x}{rank:024x}"
                said.define("loss", summary=("min", "max", "mean", "first", "last"))
                if rank == 0:
                    said.define("acc", reduce="sum")
                for data, step, commit in said_calls:
                    said.log(dict(data), step, commit)
                if ends:
                    said.exit()
                writers.append(said)
            if way == "in pieces":
                upto = [0] * len(writers)
                for rank, count in arrivals:
                    if rank < len(writers):
                        upto[rank] = min(upto[rank] + count, len(writers[rank].records))
                        run.deliver(writers[rank], upto[rank], per_chunk=2)
                        SummaryReader(lasting_store).summary(run.row)  # saved: a restart goes on from here
                for said in writers:
                    run.deliver(said)
            else:
                for said in reversed(writers):
                    run.deliver(said)
            answers.append(bits(summary(run)))
            answers.append(bits(summary(run)))
    assert answers[0] == answers[1] == answers[2] == answers[3]


def test_values_set_by_hand_cost_the_same_however_many_there_are(store):
    counts = []
    for at, count in enumerate((100, 400)):
        said = [Said(rank, started_s=at) for rank in range(2)]
        run = StoredRun(store, f"by-hand-{at}")
        for one in said:
            for key in range(count):
                one.set(f"k{key}.{one.identity.rank}", key)
            run.deliver(one)
        reader = SummaryReader(store)
        counts.append(calls_in(lambda reader=reader, row=run.row: reader.summary(row)))
        assert len(reader.summary(run.row)) == 2 * count
    assert counts[1] < 5 * counts[0]
