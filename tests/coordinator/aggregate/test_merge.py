"""One writer's chunks in any order, with late and repeated steps, against a dictionary."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runfold_coordinator.aggregate.column import Column, column_of, numbers
from runfold_coordinator.aggregate.merge import merge_axis, merge_cells, merge_columns


@dataclass(frozen=True)
class Piece:
    seq: Any
    step: Any
    kind: str
    values: Any


VALUES = st.one_of(
    st.floats(width=64),
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
    st.text(max_size=3),
    st.none(),
    st.lists(st.integers(), max_size=2),
    st.just(2**70),
)


def pieces_of(rows: list[tuple[int, int, Any]], cuts: list[int]) -> list[Piece]:
    bounds = sorted({0, len(rows), *(c % (len(rows) + 1) for c in cuts)})
    pieces = []
    for low, high in pairwise(bounds):
        part = rows[low:high]
        column = column_of(np.array([r[1] for r in part], np.int64), [r[2] for r in part])
        pieces.append(
            Piece(np.array([r[0] for r in part], np.uint64), column.step, column.kind, column.values)
        )
    return pieces


@given(
    st.lists(st.tuples(st.integers(0, 12), VALUES), max_size=40),
    st.lists(st.integers(0, 100), max_size=5),
    st.randoms(use_true_random=False),
)
def test_the_highest_seq_wins_each_step_whatever_the_order_of_pieces(rows, cuts, random):
    said = [(seq + 1, step, value) for seq, (step, value) in enumerate(rows)]
    expected: dict[int, Any] = {}
    for _, step, value in said:
        expected[step] = value
    pieces = pieces_of(said, cuts)
    pieces += random.choices(pieces, k=2) if pieces else []  # delivered twice
    random.shuffle(pieces)
    merged = merge_cells(pieces)
    assert merged.step.tolist() == sorted(expected)
    got = merged.objects()
    assert [repr(v) for v in got] == [repr(expected[s]) for s in sorted(expected)]
    assert [type(v) for v in got] == [type(expected[s]) for s in sorted(expected)]


def test_increasing_steps_are_returned_without_a_copy():
    piece = Piece(np.arange(1, 6, dtype=np.uint64), np.arange(5), "d", np.arange(5.0))
    merged = merge_cells([piece])
    assert merged.values is piece.values
    assert merged.step is piece.step


def test_pieces_that_interleave_in_seq_merge_by_seq():
    odd = Piece(np.array([1, 3], np.uint64), np.array([0, 0]), "d", np.array([1.0, 3.0]))
    even = Piece(np.array([2, 4], np.uint64), np.array([0, 1]), "q", np.array([2, 4]))
    merged = merge_cells([even, odd])
    assert merged.objects() == [3.0, 4]
    assert [type(v) for v in merged.objects()] == [float, int]


def test_no_cells_are_an_empty_column():
    assert len(merge_cells([])) == 0
    assert len(merge_columns([])) == 0


def test_the_later_attempt_of_a_lane_wins_a_step():
    first = Column(np.array([0, 1, 2]), "d", np.array([0.0, 1.0, 2.0]))
    second = Column(np.array([2, 3]), "d", np.array([20.0, 30.0]))
    assert merge_columns([first, second]).objects() == [0.0, 1.0, 20.0, 30.0]
    assert merge_columns([second, first]).objects() == [0.0, 1.0, 2.0, 30.0]


def test_an_axis_that_goes_back_keeps_the_later_point_and_drops_unknown_x():
    x, y = merge_axis(np.array([1.0, 2.0, np.nan, 1.0]), np.array([10.0, 20.0, 30.0, 40.0]))
    assert x.tolist() == [1.0, 2.0]
    assert y.tolist() == [40.0, 20.0]


def test_numbers_leave_out_what_is_none():
    column = column_of(np.arange(6), [1, 2.5, True, "a", None, 2**70])
    step, value = numbers(column)
    assert step.tolist() == [0, 1]
    assert value.tolist() == [1.0, 2.5]
