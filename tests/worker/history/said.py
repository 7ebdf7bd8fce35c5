"""What a writer said, for tests: operations to records, records to blocks as spools and frames hold them."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from runfold.protocol.blocks import RowBlock
from runfold.protocol.history.steps import StepCounter
from runfold.protocol.keypath import KeyPath
from runfold.protocol.records import MetricRecord, Record, RecordKind, RowMap, SummaryRecord
from runfold.protocol.rows import COMMIT_FALSE, COMMIT_TRUE, STEP_GIVEN

START_NS = 1_700_000_000_000_000_000

Cells = tuple[tuple[KeyPath, Any], ...]


@dataclass(frozen=True)
class Row:
    """A row whose values are all plain numbers or bools: it may travel in a block."""

    seq: int
    t_ns: int
    flags: int
    step: int
    cells: Cells


Said = Row | Record


@dataclass(frozen=True)
class Log:
    cells: Cells
    step: int | None = None
    commit: bool | None = None


Operation = Log | MetricRecord | SummaryRecord


def say(operations: Sequence[Operation]) -> list[Said]:
    """Return the records of these operations; seqs start at 2, as the writer's own record is 1."""
    counter, said = StepCounter(), []
    for seq, operation in enumerate(operations, start=2):
        t_ns = START_NS + seq * 1_234_567
        if isinstance(operation, MetricRecord):
            said.append(Record(seq, t_ns, RecordKind.METRIC, 0, operation.pack()))
        elif isinstance(operation, SummaryRecord):
            said.append(Record(seq, t_ns, RecordKind.SUMMARY, 0, operation.pack()))
        else:
            said.append(_row(operation, seq, t_ns, counter))
    return said


def _row(operation: Log, seq: int, t_ns: int, counter: StepCounter) -> Said:
    flags = 0 if operation.step is None else STEP_GIVEN
    if operation.commit is not None:
        flags |= COMMIT_TRUE if operation.commit else COMMIT_FALSE
    step = counter.take(operation.step, operation.commit)
    if all(type(value) in (int, float, bool) for _, value in operation.cells):
        return Row(seq, t_ns, flags, step, operation.cells)
    return Record(seq, t_ns, RecordKind.ROW_MAP, flags, RowMap(step, operation.cells).pack())


def batches(said: Sequence[Said], cuts: Sequence[int] = ()) -> list[tuple[list[RowBlock], list[Record]]]:
    """Return the records in batches that end before the given places; consecutive rows of a kind in blocks."""
    edges = sorted({0, len(said), *(cut % (len(said) + 1) for cut in cuts)})
    return [_batch(said[lo:hi]) for lo, hi in itertools.pairwise(edges)]


def _batch(said: Sequence[Said]) -> tuple[list[RowBlock], list[Record]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    others = []
    for one in said:
        if isinstance(one, Record):
            others.append(one)
        else:
            key = tuple((path, type(value)) for path, value in one.cells)
            groups.setdefault(key, []).append(one)
    return [block(rows) for rows in groups.values()], others


def block(rows: Sequence[Row]) -> RowBlock:
    """Return rows of one key set as a block."""
    n = len(rows)
    kinds = "".join({int: "q", float: "d", bool: "?"}[type(value)] for _, value in rows[0].cells)
    contiguous = rows[-1].seq - rows[0].seq == n - 1
    return RowBlock(
        paths=tuple(path for path, _ in rows[0].cells),
        kinds=kinds,
        n=n,
        seqs=rows[0].seq if contiguous else struct.pack(f"<{n}Q", *(row.seq for row in rows)),
        t_ns=struct.pack(f"<{n}Q", *(row.t_ns for row in rows)),
        steps=struct.pack(f"<{n}q", *(row.step for row in rows)),
        flags=bytes(row.flags for row in rows),
        columns=tuple(
            struct.pack(f"<{n}{'d' if kind == 'd' else 'q'}", *(row.cells[at][1] for row in rows))
            for at, kind in enumerate(kinds)
        ),
    )


NUMBERS = st.one_of(
    st.floats(width=64),
    st.sampled_from([0.0, -0.0, 1.0, float("nan"), float("inf"), float("-inf")]),
)
INTS = st.integers(-(2**63), 2**63 - 1)
PATHS: list[KeyPath] = [("a",), ("b",), ("n", "x"), ("n", "y"), ("a.b",), ("epoch",)]
NAMES = ["a", "b", "n.x", "n", "a\\.b", "a.b", "epoch", "*", "n.*", "a*"]

plain_cells = st.fixed_dictionaries(dict.fromkeys(PATHS[:3], NUMBERS)).map(lambda d: tuple(d.items()))
_any_value = st.one_of(
    NUMBERS, INTS, st.booleans(), st.none(), st.text(max_size=3), st.lists(INTS, max_size=2)
)
any_cells = st.dictionaries(st.sampled_from(PATHS), _any_value, max_size=3).map(lambda d: tuple(d.items()))

plain_logs = st.builds(Log, plain_cells)
stepped_logs = st.builds(
    Log, st.one_of(plain_cells, any_cells), st.integers(0, 12), st.sampled_from([None, True, False])
)
any_logs = st.builds(Log, any_cells, st.none(), st.sampled_from([None, True, False]))
definitions = st.builds(
    MetricRecord,
    name=st.sampled_from(NAMES),
    step_metric=st.sampled_from([None, "epoch", "b", "n.y", "loop"]),
    step_sync=st.sampled_from([None, True, False]),
    hidden=st.sampled_from([None, True]),
    summary=st.one_of(
        st.none(),
        st.lists(
            st.sampled_from(["min", "max", "mean", "best", "last", "first", "none", "copy"]), max_size=3
        ).map(tuple),
    ),
    goal=st.sampled_from([None, "minimize", "maximize"]),
    overwrite=st.sampled_from([None, True]),
)
manual = st.one_of(
    st.tuples(st.just("set"), st.sampled_from([*PATHS, ("n",), ("a", "min")]), _any_value),
    st.tuples(st.just("del"), st.sampled_from([*PATHS, ("n",)])),
).map(lambda change: SummaryRecord((change,)))

programs = st.lists(
    st.one_of(plain_logs, plain_logs, stepped_logs, any_logs, definitions, manual), max_size=40
)
