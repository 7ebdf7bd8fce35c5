"""Several writers' pieces in one order."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from runfold.protocol.blocks import RowBlock
from runfold.protocol.history.seq_order import BlockSlice, in_seq_order
from runfold.protocol.history.time_order import Piece, TimeOrder
from runfold.protocol.records import Record


def rows(*times_ns: int, seq: int = 1) -> list[Piece]:
    n = len(times_ns)
    packed = struct.pack(f"<{n}q", *times_ns)
    return list(in_seq_order([RowBlock((("t",),), "q", n, seq, packed, packed, 0, (packed,))], []))


def said(t_ns: int) -> Record:
    return Record(1, t_ns, 3, 0, b"")


def shown(pieces: list[Piece]) -> list[tuple[int, int]]:
    """Return (seq, time) of everything."""
    out = []
    for piece in pieces:
        if isinstance(piece, BlockSlice):
            block = piece.block
            out += [(block.seqs[at], block.cells(at)[0][1]) for at in range(piece.start, piece.stop)]
        else:
            out.append((piece.seq, piece.t_ns))
    return out


def test_rows_are_cut_where_another_writer_spoke() -> None:
    order = TimeOrder()
    order.add(0, rows(10, 20, 30, 40))
    order.add(1, [said(25), *rows(35)])
    assert shown(order.take()) == [(1, 10), (2, 20), (3, 25), (4, 30), (5, 35)]
    assert not order.is_waiting(1)
    assert order.is_waiting(0)
    assert shown(order.take()) == [(6, 40)]
    assert order.take() == []


def test_what_a_writer_says_next_may_come_before_the_others() -> None:
    order = TimeOrder()
    order.add(0, rows(10, 50))
    order.add(1, rows(20))
    assert shown(order.take()) == [(1, 10), (2, 20)]
    order.add(1, rows(30, 60))
    assert shown(order.take()) == [(3, 30), (4, 50)]


def test_a_clock_that_is_set_back_changes_no_writers_own_order() -> None:
    order = TimeOrder()
    order.add(0, rows(10, 5, 30))
    order.add(1, rows(7))
    assert [t for _, t in shown([*order.take(), *order.take()]) if t != 7] == [10, 5, 30]


@given(st.lists(st.lists(st.lists(st.integers(0, 99), max_size=4), max_size=4), min_size=1, max_size=4))
def test_any_cuts_give_one_order(steps: list[list[list[int]]]) -> None:
    # Of each writer the times of its pieces, made to ascend.
    writers = []
    for writer, pieces in enumerate(steps):
        now, made = 0, []
        for piece in pieces:
            times = []
            for step in piece:
                now += 8 * step + 8
                times.append(now + writer)
            made.append(times)
        writers.append(made)
    order, got = TimeOrder(), []
    left = [list(pieces) for pieces in writers]
    while True:
        for writer, pieces in enumerate(left):
            while pieces and not order.is_waiting(writer):
                times = pieces.pop(0)
                order.add(writer, rows(*times) if times else [])
        taken = order.take()
        if not taken:
            break
        got += shown(taken)
    everything = sorted(t for pieces in writers for times in pieces for t in times)
    assert got == list(enumerate(everything, 1))
