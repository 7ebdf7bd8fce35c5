"""Cells of one row from several calls: the later value replaces what lies at, above or below its key."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runfold.protocol.history.rows import merge_cells

PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(tuple)


@given(st.lists(st.lists(PATHS, max_size=8), max_size=4))
def test_conflicting_keys_give_way(calls: list[list[tuple[str, ...]]]) -> None:
    row: dict[tuple[str, ...], int] = {}
    plain: dict[tuple[str, ...], int] = {}
    for number, paths in enumerate(calls):
        merge_cells(row, [(path, number) for path in paths])
        for path in paths:
            for other in list(plain):
                if other != path and (other[: len(path)] == path or path[: len(other)] == other):
                    del plain[other]
            plain[path] = number
    assert list(row.items()) == list(plain.items())


def test_a_wide_row_takes_no_square_of_its_width() -> None:
    row: dict[tuple[str, ...], int] = {}
    for number in range(2):  # compared in pairs these would take minutes
        merge_cells(row, [((f"key {i}", "x") if i % 2 else (f"key {i}",), number) for i in range(60_000)])
    assert len(row) == 60_000 and set(row.values()) == {1}
