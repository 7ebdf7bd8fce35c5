"""A run with one writer: the stored summary is, to the bit, what the process itself would show."""

from __future__ import annotations

import itertools
import math
import struct
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.readers.stored_run import Said, StoredRun
from runfold.protocol.history.refold import summary_in_step_order
from runfold.protocol.history.writer_fold import WriterFold
from runfold.protocol.records import MetricRecord, SummaryRecord
from runfold_coordinator.readers import summary_reader, writer_summary
from runfold_coordinator.readers.summary_reader import SummaryReader
from runfold_coordinator.store.store import Store
from worker.history.said import Operation, programs

NUMBERS = itertools.count()


def bits(value: Any) -> Any:
    if isinstance(value, float):
        return "nan" if math.isnan(value) else struct.pack("<d", value)
    if isinstance(value, dict):
        return {key: bits(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [bits(inner) for inner in value]
    return (type(value).__name__, value)


def in_process(said: Said, upto: int | None = None) -> dict[str, Any]:
    """What the writer's own process shows: folded call by call, rows in the order of steps."""
    fold = WriterFold(said.started_ns, keep_rows=True)
    fold.feed([], said.records[:upto])
    return summary_in_step_order(fold.kept_rows, fold.kept_events, said.started_ns).as_dict()


def summary(run: StoredRun) -> dict[str, Any]:
    return SummaryReader(run.store).summary(run.row)


def say(said: Said, operations: list[Operation]) -> None:
    for operation in operations:
        if isinstance(operation, MetricRecord):
            said._add(14, operation.pack())
        elif isinstance(operation, SummaryRecord):
            said._add(13, operation.pack())
        else:
            from runfold.protocol.records import RowMap
            from runfold.protocol.rows import COMMIT_FALSE, COMMIT_TRUE, STEP_GIVEN

            flags = 0 if operation.step is None else STEP_GIVEN
            if operation.commit is not None:
                flags |= COMMIT_TRUE if operation.commit else COMMIT_FALSE
            row = RowMap(said.steps.take(operation.step, operation.commit), operation.cells)
            said._add(2, row.pack(), flags)


@pytest.fixture(scope="module")
def lasting_store(tmp_path_factory):
    opened = Store.open(f"sqlite:///{tmp_path_factory.mktemp('store') / 'runfold.db'}")
    yield opened
    opened.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    programs,
    st.lists(st.integers(0, 45), max_size=4),
    st.sampled_from([None, 1, 3]),
    st.sampled_from([20, 1_000_000]),
    st.booleans(),
    st.booleans(),
)
def test_the_stored_summary_is_the_live_one_at_every_cut(
    lasting_store, operations, cuts, per_chunk, cells, ends, saves
):
    number = next(NUMBERS)
    said = Said(mode="grouped", run_id=f"r{number}", started_s=number)
    say(said, operations)
    if ends:
        said.exit(runtime_s=77.5)
    run = StoredRun(lasting_store, f"r{number}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer_summary, "MAX_WINDOW_CELLS", cells)
        patch.setattr(summary_reader, "SAVE_AFTER_RECORDS", 0 if saves else 10**9)
        for cut in [*sorted({c for c in cuts if c < len(said.records)}), len(said.records)]:
            run.deliver(said, cut, per_chunk=per_chunk)
            assert bits(summary(run)) == bits(in_process(said, cut))


def test_what_a_dead_writer_left_open_counts_and_is_taken_back_when_it_speaks_again(store):
    said = Said(mode="grouped")
    said.define("loss", summary=("min",))
    said.log({"loss": 1.0}, step=3)
    said.log({"loss": 0.5}, step=3)
    run = StoredRun(store)
    run.deliver(said)
    assert "loss" not in summary(run)
    run.end_writer(said)
    assert summary(run)["loss"] == {"min": 0.5}
    SummaryReader(store).keep_up(lambda: 0.0)
    said.log({"loss": 7.0}, step=3)
    said.log({"loss": 9.0}, step=4)
    run.end_writer(said, "running")
    run.deliver(said)
    assert summary(run)["loss"] == {"min": 7.0}


def test_a_saved_fold_is_gone_on_with_and_filters_see_it(store, monkeypatch):
    said = Said(mode="grouped")
    said.define("loss", summary=("mean", "max"))
    for i in range(50):
        said.log({"loss": i / 7, "deep": {"x": i}})
    run = StoredRun(store)
    run.deliver(said, 30)
    reader = SummaryReader(store)
    assert not reader.keep_up(lambda: 0.0)
    assert run.row.summary["deep"] == {"x": 27} and store.load_fold(run.run_pk)
    monkeypatch.setattr(writer_summary, "read_spans", None)  # nothing starts again
    run.deliver(said)
    assert bits(summary(run)) == bits(in_process(said))
    reader.keep_up(lambda: 100.0)
    assert run.row.summary["loss"]["max"] == 7.0
    version = run.row.version
    reader.keep_up(lambda: 200.0)
    assert run.row.version == version  # nothing new: nothing written


def test_a_run_whose_folds_start_again_each_time_gets_a_small_part_of_the_background(store, monkeypatch):
    said = Said(mode="grouped")
    run = StoredRun(store)
    now_s = 0.0
    fold = SummaryReader._fold
    folded: list[float] = []

    def slow_fold(self, found, *, save_after):
        nonlocal now_s
        now_s += 4.0
        folded.append(now_s)
        return fold(self, found, save_after=save_after)

    monkeypatch.setattr(SummaryReader, "_fold", slow_fold)
    reader = SummaryReader(store)
    for i in range(300):
        said.log({"loss": 1.0}, step=100 - i % 50)
        run.deliver(said)
        reader.keep_up(lambda: now_s)
        now_s += 1.0
    assert 2 <= len(folded) <= 5
    now_s += 100.0
    reader.keep_up(lambda: now_s)
    assert folded[-1] == now_s and run.row.summary["loss"] == 1.0


def test_an_unreadable_state_is_folded_anew(store):
    said = Said(mode="grouped")
    said.log({"loss": 1.0})
    run = StoredRun(store)
    run.deliver(said)
    store.save_fold(run.run_pk, b"\x00nonsense")
    assert summary(run)["loss"] == 1.0


def test_an_empty_run_has_no_summary(store):
    assert summary(StoredRun(store)) == {}


def test_what_is_deleted_after_a_late_row_stays_deleted(lasting_store, monkeypatch):
    """Its late row lies below rows that came before: they, too, came before the deletion."""
    monkeypatch.setattr(writer_summary, "MAX_WINDOW_CELLS", 5)
    number = next(NUMBERS)
    said = Said(mode="grouped", run_id=f"r{number}", started_s=number)
    for step in (0, 1, 2):
        said.log({"a": 0.0, "b": 0.0}, step=step)
    said.log({}, step=3)
    said.log({"a": 0.0}, step=0)
    said.delete("a")
    run = StoredRun(lasting_store, f"r{number}")
    run.deliver(said)
    found = summary(run)
    assert "a" not in found and found["b"] == 0.0
