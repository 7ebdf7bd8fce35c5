"""For whatever one process says in order, rows and summary are what the client's rules make of them."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from runfold.protocol.history.refold import rows_in_step_order
from runfold.protocol.history.summary import nest
from runfold.protocol.history.writer_fold import WriterFold
from runfold.protocol.records import MetricRecord, SummaryRecord
from worker.history.client_model import Client
from worker.history.said import INTS, NUMBERS, START_NS, Log, Operation, batches, say

PATHS = [("a",), ("b",), ("n", "x"), ("n", "y"), ("epoch",), ("_own",)]

values = st.one_of(NUMBERS, INTS, st.booleans(), st.none(), st.text(max_size=2))
cells = st.dictionaries(st.sampled_from(PATHS), values, max_size=4).map(lambda found: tuple(found.items()))
commits = st.sampled_from([None, None, True, False])
logs = st.builds(Log, cells, st.one_of(st.none(), st.none(), st.integers(0, 40)), commits)
definitions = st.builds(
    MetricRecord,
    name=st.sampled_from(["a", "b", "n.x", "epoch", "_own", "*", "n.*", "n*", "a*"]),
    step_metric=st.sampled_from([None, None, "epoch", "b", "n.y", "loop", "_step"]),
    step_sync=st.sampled_from([None, True, False]),
    summary=st.one_of(
        st.none(),
        st.lists(
            st.sampled_from(["min", "max", "mean", "best", "last", "first", "none", "copy"]), max_size=3
        ).map(tuple),
    ),
    goal=st.sampled_from([None, "minimize", "maximize"]),
    overwrite=st.sampled_from([None, None, True]),
)
deletions = st.sampled_from([*PATHS, ("n",)]).map(lambda path: SummaryRecord((("del", path),)))
programs = st.lists(st.one_of(logs, logs, logs, definitions, deletions), max_size=25)


def alike(value: Any) -> Any:
    """Return a value in which ints equal integral floats, as after W&B's JSON, and NaN equals NaN."""
    if isinstance(value, dict):
        return {key: alike(item) for key, item in value.items()}
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return (type(value).__name__, value)
    return "NaN" if math.isnan(value) else float(value)


@given(programs, st.lists(st.integers(0, 25), max_size=3))
def test_rows_and_summary_are_the_clients(operations: list[Operation], cuts: list[int]) -> None:
    client = Client()
    client.run(operations)
    assume(not client.dropped)
    writer = WriterFold(START_NS, keep_rows=bool(len(cuts) % 2))
    for blocks, others in batches(say(operations), cuts):
        writer.feed(blocks, others)
    if writer.kept_rows is not None:
        rows = {row.step: alike(row.cells) for row in rows_in_step_order(writer.kept_rows)}
        assert rows == {step: alike(row) for step, row in client.rows.items()}
    shown = {
        k: v
        for k, v in writer.summary.as_dict().items()
        if k not in {"_step", "_timestamp", "_runtime", "_wandb"}
    }
    assert alike(shown) == alike(nest(client.summary()))
