"""What can't be processed is narrowed down to one entry, which becomes a dead letter; the rest is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runfold.protocol.frames import encode_frame
from runfold_coordinator.ingest import writer_batch
from runfold_coordinator.ingest.loop import Attempt
from runfold_coordinator.ingest.transaction import Entry
from runfold_coordinator.store.model import Accounting
from support.frames import Bench, Speaker


def test_the_frame_that_raises_is_isolated(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    speakers = [Speaker(bytes([65 + i]) * 16, f"local/demo/r{i}") for i in range(7)]
    bench.feed(*(speaker.hello() for speaker in speakers))
    real = writer_batch.WriterBatch.make_chunks

    def make_chunks(self: Any, *arguments: Any) -> None:
        if self.mark.writer_id == speakers[3].writer_id and self._blocks:
            raise ZeroDivisionError("a bug of ours")
        real(self, *arguments)

    monkeypatch.setattr(writer_batch.WriterBatch, "make_chunks", make_chunks)
    frames = [speaker.rows({"loss": [1.0, 2.0]}) for speaker in speakers]
    monkeypatch.setattr("runfold_coordinator.ingest.transaction.logger.exception", lambda *_, **__: None)
    applied = bench.feed(*frames)
    assert set(applied.acks.values()) == {3}
    for i in range(7):
        run = bench.store.find_run("local", "demo", f"r{i}")
        assert run is not None
        expected = Accounting(3, 1, 0, 2, 0) if i == 3 else Accounting(3, 3, 0, 0, 0)
        assert bench.store.accounting(run.run_pk) == expected
        if i == 3:
            (letter,) = bench.store.dead_letters(run.run_pk)
            assert letter.raw == encode_frame(frames[3])
            assert "ZeroDivisionError: a bug of ours" in letter.reason


def test_a_run_that_can_not_even_be_buried_holds_nobody_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = Speaker(b"b" * 16, "local/demo/bad"), Speaker(b"g" * 16, "local/demo/good")
    bench.feed(bad.hello(), good.hello())

    def make_chunks(self: Any, *arguments: Any) -> None:
        if self.mark.writer_id == bad.writer_id:
            raise ZeroDivisionError("a bug of ours")

    monkeypatch.setattr(writer_batch.WriterBatch, "make_chunks", make_chunks)
    monkeypatch.setattr("runfold_coordinator.ingest.transaction.logger.exception", lambda *_, **__: None)
    applied = bench.feed(bad.rows({"loss": [1.0]}), good.rows({"loss": [1.0]}))
    assert applied.acks == {good.writer: 2}
    (letter,) = bench.store.dead_letters(None)
    assert "ZeroDivisionError" in letter.reason


def test_an_entry_that_kills_the_process_is_buried_with_its_range(bench: Bench) -> None:
    speaker = Speaker(b"w" * 16)
    bench.feed(speaker.hello())
    data = encode_frame(speaker.rows({"loss": [1.0, 2.0]}))
    applied = bench.ingest.bury(Entry("9-0", data, b""), "9-0", "it died 5 times")
    assert applied.acks == {speaker.writer: 3}
    (run,) = bench.store.list_runs()
    assert bench.store.accounting(run.run_pk) == Accounting(3, 1, 0, 2, 0)


def test_a_wrong_crc_is_ignored_and_counted(bench: Bench) -> None:
    speaker = Speaker(b"w" * 16)
    data = encode_frame(speaker.hello())
    applied = bench.ingest.apply([Entry("1-0", data, b"\0\0\0\0")], "1-0")
    assert applied.acks == {}
    assert bench.ingest.counts.bad_crc == 1
    assert bench.store.list_runs() == []


def test_the_attempt_outlives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "attempt"
    assert Attempt.load(path).entry_count == 0
    attempt = Attempt(path)
    attempt.save("5-0", 64)
    attempt.save("17-3", 7)
    found = Attempt.load(path)
    assert (found.cursor, found.entry_count, found.deaths) == ("17-3", 7, 0)
