"""A console writer says whose output it keeps; what is no writer's id is nobody's, on either database."""

from __future__ import annotations

import pytest

from runfold.protocol.records import ConsoleRecord, RecordKind
from runfold_coordinator.readers.console_reader import ConsoleFilter, ConsoleReader
from runfold_coordinator.store.store import Store
from support.frames import Bench, Speaker


@pytest.mark.parametrize("of", ["\0", "x" * 33, "zz" * 16, "AB" * 16, "é" * 16, ""])
def test_a_console_of_nobody_is_stored_as_such(bench: Bench, store: Store, of: str) -> None:
    speaker = Speaker(b"f" * 16)
    bench.feed(speaker.hello(role="console", console_of=of))
    bench.feed(speaker.others((RecordKind.CONSOLE, _said("mine"))))
    run = store.find_run("local", "demo", "run1")
    assert run is not None and store.accounting(run.run_pk).dead_letters == 0
    assert store.consoles(run.run_pk) == set()
    [line] = ConsoleReader(store).last(run.run_pk, 5, ConsoleFilter()).lines
    assert (line.content, line.source.writer_id) == ("mine", speaker.writer_id)


def test_a_console_of_a_process_of_another_run_says_nothing_there(bench: Bench, store: Store) -> None:
    honest, forger = Speaker(b"h" * 16), Speaker(b"f" * 16, run_path="local/demo/other")
    bench.feed(honest.hello(), honest.others((RecordKind.CONSOLE, _said("true"))))
    bench.feed(forger.hello(role="console", console_of=honest.writer_id))
    bench.feed(forger.others((RecordKind.CONSOLE, _said("forged"))))
    assert ConsoleReader(store).last_lines(honest.writer_id, 5) == ["true"]
    run = store.find_run("local", "demo", "run1")
    assert run is not None
    lines = ConsoleReader(store).last(run.run_pk, 5, ConsoleFilter()).lines
    assert [line.content for line in lines] == ["true"]


def _said(text: str) -> bytes:
    return ConsoleRecord(stream="stdout", first_line=1, lines=(text,)).pack()
