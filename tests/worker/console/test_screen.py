"""Lines that programs rewrite: what is left of them."""

from __future__ import annotations

import random

import pytest

from runfold.console.screen import MAX_ROWS, REWRITE_S, Screen


def shown(*texts: str, now_s: float = 0.0) -> list[str]:
    screen = Screen()
    for text in texts:
        screen.write(text, now_s)
    return screen.close()


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("plain\n", ["plain"]),
        ("10%\r50%\r100%\n", ["100%"]),
        ("a longer one\rshort\n", ["shortger one"]),
        ("a longer one\r\x1b[Kshort\n", ["short"]),
        ("a longer one\x1b[2K\rshort\n", ["short"]),
        ("abc\b\bX\n", ["aXc"]),
        ("one\ntwo\x1b[A\rONE\n\rTWO\n", ["ONE", "TWO"]),
        ("\x1b[31mred\x1b[0m plain\n", ["\x1b[31mred\x1b[0m plain"]),
        ("\x1b[1m\x1b[31mbold red\n", ["\x1b[1m\x1b[31mbold red\x1b[0m"]),
        ("\x1b[31mred\rB\n", ["\x1b[31mBed\x1b[0m"]),
        ("\x1b]0;a title\x07text\n", ["text"]),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\n", ["link"]),
        ("\x1b[?25lhidden cursor\x1b[?25h\n", ["hidden cursor"]),
        ("\x1b[5Gfifth\n", ["    fifth"]),
        ("before\n\x1b[2J\x1b[Hafter\n", ["before", "after"]),
        ("ab\x1b[1Dc\x1b[3Cd\n", ["ac   d"]),
    ],
)
def test_rows_look_as_on_a_terminal(text: str, rows: list[str]) -> None:
    assert shown(text) == rows


@pytest.mark.parametrize("seed", range(20))
def test_where_a_write_ends_changes_nothing(seed: int) -> None:
    chance = random.Random(seed)
    text = "x\r\x1b[31my\x1b[0m\n\x1b[A\x1b[2Kz\x1b]0;t\x07\n\x1b[1Bend\x1b[?25l\n"
    parts, at = [], 0
    while at < len(text):
        end = at + chance.randint(1, 4)
        parts.append(text[at:end])
        at = end
    assert shown(*parts) == shown(text)


def test_bars_below_each_other_keep_their_last_states() -> None:
    screen = Screen()
    for step in range(0, 101, 10):
        screen.write(f"\router {step}%", 0.0)
        screen.write(f"\n\rinner {step}%\x1b[A", 0.0)
        assert screen.take_finished(0.0) == []
    assert screen.open_rows() == ["outer 100%", "inner 100%"]


def test_a_live_display_is_drawn_over_itself() -> None:
    screen = Screen()
    screen.write("a 0\nb 0\nc 0", 0.0)
    for step in range(1, 5):
        screen.write(f"\r\x1b[2K\x1b[1A\x1b[2K\x1b[1A\x1b[2Ka {step}\nb {step}\nc {step}", float(step))
        assert screen.take_finished(float(step)) == [], "rows that the program went back to may change again"
    screen.write("\ndone\n", 5.0)
    assert screen.take_finished(4.0 + REWRITE_S) == ["a 4", "b 4", "c 4", "done"]
    assert screen.is_blank


def test_rows_are_bounded() -> None:
    screen = Screen()
    screen.write("\n".join(map(str, range(1000))), 0.0)
    assert screen.take_scrolled() == [str(n) for n in range(1000 - MAX_ROWS)]
    screen.write("\x1b[999999999B\x1b[999999999C" + "x" * 100_000, 0.0)
    assert all(len(row) <= 4096 for row in screen.close())


def test_any_bytes_are_taken() -> None:
    chance = random.Random(1)
    for _ in range(300):
        text = "".join(chance.choice("\x1b[]0;12mABCDGHJK?\r\n\b ab\x07") for _ in range(200))
        for row in shown(text[:77], text[77:]):
            assert "\n" not in row
            assert "\r" not in row
