"""Bytes to numbered lines, with a clock of our own."""

from __future__ import annotations

import random

from runfold.console.budget import Budget
from runfold.console.lines import LAST_LINES, Batch, StreamLines


def generous() -> Budget:
    return Budget(burst_lines=1e9, burst_bytes=1e12)


def texts(batches: list[Batch]) -> list[str]:
    return [
        raw if isinstance(raw, str) else raw.decode()
        for batch in batches
        if not batch.is_open
        for raw, _ in batch.lines
    ]


def opened(batches: list[Batch]) -> list[str]:
    return [
        raw if isinstance(raw, str) else raw.decode()
        for batch in batches
        if batch.is_open
        for raw, _ in batch.lines
    ]


def test_lines_are_complete_with_their_line_feed() -> None:
    lines = StreamLines(generous())
    lines.feed(b"one\ntw", 10, 0.0)
    lines.feed(b"o\r\n\nfo", 20, 0.1)
    [batch] = lines.take(0.2)
    assert [raw for raw, _ in batch.lines] == [b"one", b"two", b""]
    assert batch.times_ns == [10, 20, 20]
    assert batch.first_line == 0
    [last] = lines.take(0.3, is_last=True)
    assert (last.first_line, last.lines) == (3, [(b"fo", 0)])
    assert lines.take(0.4, is_last=True) == []


def test_cutting_the_bytes_elsewhere_gives_the_same_lines() -> None:
    data = "größe 1\r\n10%\r20%\r\x1b[32mdone\x1b[0m\nx\n\x1b[A\ry\n\nlast é\n".encode() * 5
    whole = StreamLines(generous())
    whole.feed(data, 0, 0.0)
    expected = texts(whole.take(100.0, is_last=True))
    for seed in range(20):
        chance, pieces, at = random.Random(seed), StreamLines(generous()), 0
        while at < len(data):
            end = at + chance.randint(1, 9)
            pieces.feed(data[at:end], 0, 0.0)
            at = end
        assert texts(pieces.take(100.0, is_last=True)) == expected
    assert "größe 1" in expected
    assert "\x1b[32mdone\x1b[0m" in expected


def test_a_progress_bar_is_said_once_a_second_and_its_last_state_always() -> None:
    lines = StreamLines(generous())
    said: list[str] = []
    for tick in range(50):  # 5 s, ten updates a second
        lines.feed(f"\r{tick}%".encode(), tick, tick / 10)
        batches = lines.take(tick / 10)
        assert texts(batches) == []
        assert all(batch.first_line == 0 for batch in batches)
        said += opened(batches)
    assert 4 <= len(said) <= 5
    lines.feed(b"\r100%\n", 99, 5.0)
    assert texts(lines.take(5.2)) == ["100%"]
    assert lines.is_idle


def test_a_prompt_is_said_after_a_quiet_second_and_again_when_it_is_complete() -> None:
    lines = StreamLines(generous())
    lines.feed(b"Continue? ", 0, 0.0)
    assert lines.take(0.2) == []
    is_idle = [lines.is_idle]
    assert opened(lines.take(1.3)) == ["Continue? "]
    is_idle.append(lines.is_idle)
    assert is_idle == [False, True], "nothing more is to be said of it"
    lines.feed(b"y\nnext\n", 0, 9.0)
    [batch] = lines.take(9.2)
    assert (batch.first_line, texts([batch])) == (0, ["Continue? y", "next"])


def test_lines_beyond_the_budget_are_counted_and_the_last_ones_kept() -> None:
    lines = StreamLines(Budget(lines_per_s=10, burst_lines=100, burst_bytes=1e9))
    for n in range(1000):
        lines.feed(b"%d\n" % n, n, 0.0)
    batches = lines.take(0.1)
    assert texts(batches) == [str(n) for n in range(100)]
    batches += lines.take(1.0)  # the program has stopped
    assert [batch.dropped for batch in batches] == [0, 900 - LAST_LINES]
    assert batches[-1].first_line == 1000 - LAST_LINES
    assert texts(batches[-1:]) == [str(n) for n in range(1000 - LAST_LINES, 1000)]
    lines.feed(b"after\n", 0, 100.0)
    assert lines.take(100.2)[0].first_line == 1000


def test_every_line_is_kept_or_counted_whatever_comes() -> None:
    chance = random.Random(3)
    lines = StreamLines(Budget(lines_per_s=50, burst_lines=200, bytes_per_s=5e4, burst_bytes=1e5))
    now_s, said, batches = 0.0, 0, []
    for _ in range(300):
        count = chance.choice((0, 1, 5, 400))
        lines.feed(b"".join(b"x" * chance.randint(0, 200) + b"\n" for _ in range(count)), 0, now_s)
        said += count
        now_s += chance.choice((0.0, 0.1, 3.0))
        batches += lines.take(now_s)
    batches += lines.take(now_s, is_last=True)
    number = 0
    for batch in batches:
        assert batch.first_line == number + batch.dropped
        number = batch.first_line + len(batch.lines)
    assert number == said


def test_memory_is_bounded_when_nothing_is_taken() -> None:
    lines = StreamLines(Budget())
    block = (b"y" * 99 + b"\n") * 10_000
    for _ in range(50):
        lines.feed(block, 0, 0.0)
    lines.feed(b"z" * 50_000_000, 0, 0.0)
    batches = lines.take(0.1)
    assert sum(len(raw) for raw, _ in batches[0].lines) <= 2_000_100
    [last] = [batch for batch in lines.take(0.2, is_last=True) if batch.lines][-1:]
    assert len(last.lines[-1][0]) < 80_000
    assert last.lines[-1][1] > 49_000_000


def test_a_flood_of_rewriting_costs_little() -> None:
    lines = StreamLines(generous())
    block = b"".join(b"\r%d%%" % n for n in range(20_000)) + b"\n"
    for _ in range(100):
        lines.feed(block, 0, 0.0)
    batches = lines.take(0.2) + lines.take(1.0, is_last=True)
    kept = [batch for batch in batches if not batch.is_open]
    assert sum(batch.dropped + len(batch.lines) for batch in kept) == 100
    assert texts(kept)[-1] == "19999%"


def test_lost_lines_have_numbers_too() -> None:
    lines = StreamLines(generous())
    lines.feed(b"a\n", 0, 0.0)
    lines.lose(5, 0, 0.0)
    lines.feed(b"b\n", 0, 0.0)
    first, second = lines.take(0.2)
    assert (first.first_line, second.first_line, second.dropped) == (0, 6, 5)
