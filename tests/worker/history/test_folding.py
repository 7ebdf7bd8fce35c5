"""Folding in any chunks, with saved state between any two, equals folding one by one."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from runfold.protocol.history.refold import summary_in_step_order
from runfold.protocol.history.rows import RowFold
from runfold.protocol.history.summary import SummaryTree
from runfold.protocol.history.writer_fold import WriterFold
from runfold.protocol.values import pack_value, unpack_value
from worker.history.said import START_NS, Log, Operation, batches, plain_logs, programs, say


def bits(value: Any) -> Any:
    """Return a value in which equal means equal in every bit and type (any NaN equals any other)."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else struct.pack("<d", value)
    if isinstance(value, dict):
        return {key: bits(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [bits(inner) for inner in value]
    return (type(value).__name__, value)


def fold(operations: Sequence[Operation], cuts: Sequence[int], *, keep_rows: bool = False) -> WriterFold:
    writer = WriterFold(START_NS, keep_rows=keep_rows)
    for blocks, others in batches(say(operations), cuts):
        writer.feed(blocks, others)
    return writer


def state_of(writer: WriterFold) -> Any:
    return bits([writer.rows.to_state()[2:], writer.rows.to_state()[1][1:], writer.summary.as_dict()])


ONE_BY_ONE = range(200)


@given(programs, st.lists(st.integers(0, 40)))
def test_any_chunks_give_what_single_calls_give(operations: list[Operation], cuts: list[int]) -> None:
    chunked, single = fold(operations, cuts), fold(operations, ONE_BY_ONE)
    assert state_of(chunked) == state_of(single)
    assert chunked.is_late == single.is_late


@given(st.lists(plain_logs, min_size=1, max_size=30), st.lists(st.integers(0, 30), max_size=4))
def test_blocks_give_the_bits_of_single_calls(logs: list[Operation], cuts: list[int]) -> None:
    from runfold.protocol.records import MetricRecord

    everything = MetricRecord(name="*", summary=("min", "max", "mean", "best", "last", "first"))
    assert state_of(fold([everything, *logs], cuts)) == state_of(fold([everything, *logs], ONE_BY_ONE))


@given(programs, st.integers(0, 40), st.lists(st.integers(0, 40)))
def test_a_saved_state_goes_on_as_if_never_saved(
    operations: list[Operation], at: int, cuts: list[int]
) -> None:
    unbroken, broken = WriterFold(START_NS), WriterFold(START_NS)
    for index, (blocks, others) in enumerate(batches(say(operations), [*cuts, at])):
        unbroken.feed(blocks, others)
        if index == 1:
            rows = unpack_value(pack_value(broken.rows.to_state()))
            summary = unpack_value(pack_value(broken.summary.to_state()))
            broken.rows, broken.summary = RowFold.from_state(rows), SummaryTree.from_state(summary)
        broken.feed(blocks, others)
    assert state_of(broken) == state_of(unbroken)
    assert bits(broken.summary.to_state()) == bits(unbroken.summary.to_state())


@given(programs)
def test_a_refold_of_rows_in_order_changes_nothing(operations: list[Operation]) -> None:
    writer = fold(operations, (), keep_rows=True)
    assert writer.kept_rows is not None
    if writer.is_late:
        return
    again = summary_in_step_order(writer.kept_rows, writer.kept_events, START_NS)
    assert bits(again.as_dict()) == bits(writer.summary.as_dict())


@given(st.permutations(range(8)), st.lists(st.floats(-1e9, 1e9), min_size=8, max_size=8))
def test_late_rows_end_up_as_if_logged_in_order(order: list[int], values: list[float]) -> None:
    from runfold.protocol.records import MetricRecord

    define = MetricRecord(name="a", summary=("min", "max", "mean", "last", "first"))
    late = fold([define, *(Log(((("a",), values[s]),), s, True) for s in order)], (), keep_rows=True)
    direct = fold([define, *(Log(((("a",), values[s]),), s, True) for s in range(8))], ())
    assert late.kept_rows is not None
    again = summary_in_step_order(late.kept_rows, late.kept_events, START_NS).as_dict()
    assert bits(again["a"]) == bits(direct.summary.as_dict()["a"])
    assert again["_step"] == 7


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(-1e3, 1e3)), min_size=1, max_size=20))
def test_of_overwritten_values_only_the_last_said_counts(calls: list[tuple[int, float]]) -> None:
    from runfold.protocol.records import MetricRecord

    define = MetricRecord(name="a", summary=("min", "max", "mean"))
    writer = fold([define, *(Log(((("a",), v),), s, True) for s, v in calls)], (), keep_rows=True)
    assert writer.kept_rows is not None
    kept = dict(calls)
    shown = summary_in_step_order(writer.kept_rows, writer.kept_events, START_NS).as_dict()["a"]
    total = 0.0
    for step in sorted(kept):
        total += kept[step]
    assert bits(shown) == bits(
        {"min": min(kept.values()) + 0.0, "max": max(kept.values()) + 0.0, "mean": total / len(kept)}
    )
