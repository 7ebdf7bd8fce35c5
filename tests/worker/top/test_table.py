"""Which columns fit, which rows pass, in which order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from runfold.top.columns import RANK_COLUMNS, RUN_COLUMNS, shown_state
from runfold.top.table import (
    Order,
    column_at,
    filtered,
    fit,
    header_cells,
    next_order,
    order_by,
    ordered,
    row_cells,
    telling,
)
from worker.top.documents import gpu, run, writer

BY_NAME = {column.name: column for column in RANK_COLUMNS}
FULL = [
    writer(rank, gpus=[gpu()], phase="data", phase_s=1.0, cpu_percent=99.0, rss_bytes=1) for rank in range(3)
]


def names(width: int, always: str | None = None) -> list[str]:
    return [each.column.name for each in fit(RANK_COLUMNS, width, always=always)]


def ranks(rows: list[Any]) -> list[Any]:
    return [row.get("rank") for row in rows]


def test_80_columns_have_what_one_looks_for_first():
    assert names(80)[:10] == [
        "rank", "state", "last_step", "step_lag", "step_s", "util_percent", "memory", "temperature_celsius",
        "log_age_s", "phase",
    ]  # fmt: skip


def test_a_narrow_terminal_keeps_rank_state_and_step():
    assert names(30) == ["rank", "state", "last_step"]
    assert names(1) == ["rank"]


def test_the_column_sorted_by_stays():
    assert "pid" in names(40, always="pid") and "pid" not in names(80)


def test_more_room_shows_more_and_takes_nothing_away():
    before: set[str] = set()
    for width in range(1, 300):
        now = set(names(width))
        assert len(now) >= len(before)
        before = now
    assert before == set(BY_NAME)


@pytest.mark.parametrize("width", [1, 5, 30, 80, 133, 250])
@pytest.mark.parametrize("columns", [RANK_COLUMNS, RUN_COLUMNS])
def test_lines_never_exceed_the_width(width, columns):
    placed = fit(columns, width)
    hostile = {
        "rank": 10**30,
        "label": "学習" * 50,
        "state": "x" * 500,
        "host": "\x1b[2J" * 9,
        "reason": "r" * 999,
    }
    for row in ({}, hostile, FULL[0], run()):
        line = " ".join(text for text, _ in row_cells(row, placed))
        assert cell_len(line) <= width and line.isprintable()
    assert cell_len(" ".join(header_cells(placed, Order("rank")))) <= width


def test_columns_that_tell_nothing_give_their_room_to_others():
    kept = [column.name for column in telling(RANK_COLUMNS, [writer(0)])]
    assert "util_percent" not in kept and "phase" not in kept and "host" in kept
    assert [column.name for column in telling(RANK_COLUMNS, FULL)][5:8] == [
        "util_percent", "memory", "temperature_celsius",
    ]  # fmt: skip
    assert [column.name for column in telling(RANK_COLUMNS, [])] == ["rank", "state", "last_step", "step_lag"]


def test_order_by_a_column_with_the_unknown_last_whichever_way():
    rows = [writer(0, step_s=0.3), writer(1, step_s=None), writer(2, step_s="NaN"), writer(3, step_s=0.1)]
    assert ranks(ordered(rows, RANK_COLUMNS, Order("step_s"))) == [3, 0, 1, 2]
    assert ranks(ordered(rows, RANK_COLUMNS, Order("step_s", descending=True))) == [0, 3, 1, 2]
    assert ranks(ordered(rows, RANK_COLUMNS, None)) == [0, 1, 2, 3]
    assert ranks(ordered(rows, RANK_COLUMNS, Order("no such"))) == [0, 1, 2, 3]


def test_by_state_the_worst_come_first():
    rows = [
        writer(0),
        writer(1, state="finished"),
        writer(2, stalled=True),
        writer(3, state="crashed"),
        writer(4, state="?"),
    ]
    assert ranks(ordered(rows, RANK_COLUMNS, order_by(BY_NAME["state"]))) == [3, 2, 0, 1, 4]


def test_a_flag_is_shown_while_it_goes_on_and_not_after():
    assert shown_state(writer(0, stalled=True)) == "stalled"
    assert shown_state(writer(0, stalled=True, unreachable=True)) == "unreachable"
    assert shown_state(writer(0, stopped=True)) == "stopped"
    assert shown_state(writer(0, state="crashed", unreachable=True)) == "crashed"
    assert shown_state({}) == "-"


def test_what_sort_and_titles_do():
    placed = fit(RANK_COLUMNS, 80)
    first = next_order(placed, None)
    assert first == Order("rank")
    assert next_order(placed, first) == Order("state")
    assert next_order(placed, Order("phase")) is None
    assert next_order([], None) is None
    lag = order_by(BY_NAME["step_lag"])
    assert lag == Order("step_lag", descending=True)
    assert order_by(BY_NAME["step_lag"], lag) == Order("step_lag")
    assert "LAG↓" in " ".join(header_cells(placed, lag))


def test_a_click_finds_its_column():
    placed = fit(RANK_COLUMNS, 80)
    line = " ".join(header_cells(placed, None))
    for title, name in (("STATE", "state"), ("LAG", "step_lag"), ("LOG AGE", "log_age_s"), ("RANK", "rank")):
        found = column_at(placed, line.index(title))
        assert found is not None and found.name == name
    assert column_at(placed, 500) is None


def test_filter_takes_words_anywhere_and_values_of_columns():
    rows = [
        writer(1, host="node-a"),
        writer(11, host="node-b"),
        writer(2, host="node-b", state="failed", reason="exit code 3"),
    ]
    assert ranks(filtered(rows, RANK_COLUMNS, "")) == [1, 11, 2]
    assert ranks(filtered(rows, RANK_COLUMNS, "NODE-B failed")) == [2]
    assert ranks(filtered(rows, RANK_COLUMNS, "rank:1")) == [1]
    assert ranks(filtered(rows, RANK_COLUMNS, "code")) == [2]
    assert ranks(filtered(rows, RANK_COLUMNS, "nothing has this")) == []
    assert ranks(filtered(rows, RANK_COLUMNS, "no:column")) == []


_VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.lists(st.integers(), max_size=2)
)


@given(
    st.dictionaries(st.sampled_from([*writer(0), "gpus", "phase"]), _VALUES), st.sampled_from(sorted(BY_NAME))
)
def test_no_value_that_an_answer_may_hold_breaks_a_row(row, name):
    rows = [row, writer(0), {}]
    order = order_by(BY_NAME[name])
    for each in ordered(filtered(rows, RANK_COLUMNS, "e"), RANK_COLUMNS, order) + ordered(
        rows, RANK_COLUMNS, order
    ):
        assert row_cells(each, fit(RANK_COLUMNS, 300))


def test_gpus_of_a_rank_are_added_up():
    row = writer(
        0, gpus=[gpu(util_percent=50, temperature_celsius=90), gpu(util_percent=100), gpu(util_percent=None)]
    )
    cells = {
        each.column.name: text.strip()
        for each, (text, _) in zip(
            fit(RANK_COLUMNS, 300), row_cells(row, fit(RANK_COLUMNS, 300)), strict=True
        )
    }
    assert (cells["util_percent"], cells["temperature_celsius"], cells["memory"]) == ("75", "90", "213/255")
    assert cells["power_watts"] == "1020"
