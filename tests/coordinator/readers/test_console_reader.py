"""Lines of many processes, merged by time, from the beginning and from the end."""

from __future__ import annotations

import base64
import json
import random
import zlib
from dataclasses import replace

import pytest

from coordinator.readers.stored_console import Console
from coordinator.readers.stored_run import StoredRun
from runfold_coordinator.readers import console_reader
from runfold_coordinator.readers.console_reader import (
    ConsoleFilter,
    ConsoleLine,
    ConsoleReader,
    TooManyWritersError,
)
from runfold_coordinator.store.store import Store

ALL = ConsoleFilter()


@pytest.fixture
def run_pk(store: Store) -> int:
    pk: int = StoredRun(store).run_pk
    return pk


@pytest.fixture
def reader(store: Store) -> ConsoleReader:
    return ConsoleReader(store)


def every_page(
    reader: ConsoleReader, run_pk: int, limit: int, wanted: ConsoleFilter = ALL
) -> list[ConsoleLine]:
    lines, cursor, is_last = [], None, False
    while not is_last:
        page = reader.page(run_pk, wanted, limit=limit, cursor=cursor, with_open=True)
        assert len(page.lines) <= limit or page.is_last
        lines += page.lines
        cursor, is_last = page.next_cursor, page.is_last
    return lines


def texts(lines: list[ConsoleLine]) -> list[str]:
    return [line.content for line in lines]


def test_lines_are_merged_by_time(store: Store, reader: ConsoleReader, run_pk: int) -> None:
    first, second = Console(store, run_pk, 0), Console(store, run_pk, 1)
    first.say("a0", "a10", "a20", at_ms=0, each_ms=10)
    second.say("b5", "b15", at_ms=5, each_ms=10, stream="stderr")
    first.say("a30", at_ms=30, first_line=3)
    for limit in (1, 2, 100):
        assert texts(every_page(reader, run_pk, limit)) == ["a0", "b5", "a10", "b15", "a20", "a30"]
    documents = [line.to_document() for line in every_page(reader, run_pk, 100)]
    assert documents[1] == {
        "number": 0,
        "timestamp": 1_700_000_000.005,
        "level": "error",
        "label": "rank1",
        "rank": 1,
        "writer": second.process,
        "stream": "stderr",
        "content": "b5",
    }


def test_the_newest_lines_come_from_the_end(store: Store, reader: ConsoleReader, run_pk: int) -> None:
    writers = [Console(store, run_pk, rank) for rank in range(3)]
    for n in range(100):
        writers[n % 3].say(f"{n}", at_ms=n, first_line=n // 3)
    assert texts(reader.last(run_pk, 5, ALL).lines) == ["95", "96", "97", "98", "99"]
    assert texts(reader.last(run_pk, 2, replace(ALL, ranks=frozenset({0}))).lines) == ["96", "99"]
    assert texts(reader.last(run_pk, 1000, ALL).lines) == [str(n) for n in range(100)]
    Console(store, run_pk, 1, role="process")
    assert reader.last_lines(writers[1].process, 2) == ["94", "97"]
    assert reader.last_lines("f" * 32, 2) == []


def test_lines_are_chosen_by_who_said_them_and_where(
    store: Store, reader: ConsoleReader, run_pk: int
) -> None:
    first, second = Console(store, run_pk, 0, label="head"), Console(store, run_pk, 1)
    first.say("out", at_ms=0)
    first.say("err", at_ms=1, stream="stderr")
    Console(store, run_pk, 1, role="process").say("logged", at_ms=2, stream="logger")
    second.say("other", at_ms=3)
    chosen = {
        "rank": ConsoleFilter(ranks=frozenset({1})),
        "label": ConsoleFilter(label="head"),
        "writer": ConsoleFilter(writer=second.process),
        "stream": ConsoleFilter(stream="stderr"),
    }
    found = {name: texts(every_page(reader, run_pk, 10, wanted)) for name, wanted in chosen.items()}
    assert found == {
        "rank": ["logged", "other"],
        "label": ["out", "err"],
        "writer": ["logged", "other"],
        "stream": ["err"],
    }


def test_an_open_line_is_shown_once_as_it_is_now(store: Store, reader: ConsoleReader, run_pk: int) -> None:
    writer = Console(store, run_pk, 0)
    writer.say("begin", at_ms=0)
    for percent in range(10):
        writer.say(f"{percent}0%", at_ms=1 + percent, first_line=1, open_count=1)
    assert texts(every_page(reader, run_pk, 1)) == ["begin", "90%"]
    assert texts(reader.last(run_pk, 10, ALL).lines) == ["begin", "90%"]
    page = reader.page(run_pk, ALL, limit=10, cursor=None, with_open=False)
    assert texts(page.lines) == ["begin"]
    writer.say("100%", "end", at_ms=20, first_line=1)
    assert texts(every_page(reader, run_pk, 10)) == ["begin", "100%", "end"]
    assert texts(reader.last(run_pk, 10, ALL).lines) == ["begin", "100%", "end"]
    rest = reader.page(run_pk, ALL, limit=10, cursor=page.next_cursor, with_open=False)
    assert texts(rest.lines) == ["100%", "end"]


def test_dropped_lines_are_said(store: Store, reader: ConsoleReader, run_pk: int) -> None:
    writer = Console(store, run_pk, 0)
    writer.say("first", at_ms=0)
    writer.say("last", at_ms=1, first_line=123_457, dropped=123_456)
    lines = every_page(reader, run_pk, 1)
    assert texts(lines) == ["first", "[... 123,456 lines not kept ...]", "last"]
    assert [line.number for line in lines] == [0, 1, 123_457]
    assert lines[1].to_document()["dropped"] == 123_456
    assert lines == reader.last(run_pk, 3, ALL).lines
    assert texts(reader.last(run_pk, 2, ALL).lines) == ["[... 123,456 lines not kept ...]", "last"]


def test_a_cursor_brings_what_comes_late(store: Store, reader: ConsoleReader, run_pk: int) -> None:
    early, late = Console(store, run_pk, 0), Console(store, run_pk, 1)
    early.say("now", at_ms=1000)
    page = reader.last(run_pk, 10, ALL)
    late.say("long ago", at_ms=0)
    early.say("next", at_ms=2000, first_line=1)
    Console(store, run_pk, 2).say("a new process", at_ms=3000)
    follow = reader.page(run_pk, ALL, limit=10, cursor=page.next_cursor, with_open=False)
    assert texts(follow.lines) == ["long ago", "next", "a new process"]
    assert follow.is_last
    again = reader.page(run_pk, ALL, limit=10, cursor=follow.next_cursor, with_open=False)
    assert (again.lines, again.is_last) == ([], True)


@pytest.mark.parametrize("seed", range(5))
def test_pages_give_every_line_once(store: Store, reader: ConsoleReader, run_pk: int, seed: int) -> None:
    chance = random.Random(seed)
    writers = [Console(store, run_pk, rank) for rank in range(4)]
    said, numbers, at_ms = set(), [0] * 4, 0
    for _ in range(120):
        rank, count = chance.randrange(4), chance.randint(1, 5)
        lines = [f"{rank}/{numbers[rank] + n}" for n in range(count)]
        said.update(lines)
        dropped = chance.choice((0, 0, 3))
        writers[rank].say(
            *lines, at_ms=at_ms, each_ms=chance.choice((0, 7)), first_line=numbers[rank], dropped=dropped
        )
        numbers[rank] += count
        at_ms += chance.randint(-3, 20)  # clocks are set back now and then
    found = [text for text in texts(every_page(reader, run_pk, chance.randint(1, 30))) if "/" in text]
    assert len(found) == len(said)
    assert set(found) == said


def test_what_is_no_cursor_is_refused(reader: ConsoleReader, run_pk: int) -> None:
    bomb = base64.urlsafe_b64encode(zlib.compress(b"[" * 10_000_000)).decode()
    wrong = base64.urlsafe_b64encode(zlib.compress(json.dumps([[1, -2, 3]]).encode())).decode()
    for cursor in ("", "x", "é", bomb, wrong, base64.urlsafe_b64encode(zlib.compress(b"5")).decode()):
        with pytest.raises(ValueError):
            reader.page(run_pk, ALL, limit=1, cursor=cursor, with_open=True)


def test_wild_records_do_no_harm(store: Store, reader: ConsoleReader, run_pk: int) -> None:
    writer = Console(store, run_pk, 0)
    writer.say("a", "b", at_ms=0, open_count=99)
    writer.say(at_ms=1, dropped=2, first_line=2)
    writer.keep(2, b"no record")
    writer.say("c", at_ms=-(10**9), first_line=-(2**62), dropped=-5, open_count=-1)
    assert "c" in texts(every_page(reader, run_pk, 2))
    assert "c" in texts(reader.last(run_pk, 10, ALL).lines)


def test_pages_are_bounded(
    store: Store, reader: ConsoleReader, run_pk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Console(store, run_pk, 0)
    for n in range(10):
        writer.say("x" * 1000, at_ms=n, first_line=n)
    monkeypatch.setattr(console_reader, "PAGE_CHARS", 2500)
    page = reader.page(run_pk, ALL, limit=100, cursor=None, with_open=True)
    assert (len(page.lines), page.is_last) == (3, False)
    assert len(every_page(reader, run_pk, 100)) == 10
    monkeypatch.setattr(console_reader, "MAX_SOURCES", 0)
    with pytest.raises(TooManyWritersError):
        reader.last(run_pk, 1, ALL)
