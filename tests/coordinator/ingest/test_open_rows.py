"""A writer that dies without an exit record: its open row is completed, and opened again when it lives."""

from __future__ import annotations

import itertools

import pytest

from runfold.protocol.frames import Frame
from runfold.protocol.records import ExitRecord, MetricRecord, RecordKind
from runfold.protocol.streams import Heartbeat, WriterBeat
from runfold_coordinator.readers.summary_reader import SummaryReader
from runfold_coordinator.store.compaction import Compactor
from runfold_coordinator.store.model import INSERTED
from support.frames import Bench, Speaker, only_run

GIVEN = 1  # step=, without commit: the row stays open


def inserted(bench: Bench) -> dict[int, tuple[int, float]]:
    return {
        seq: (step, value)
        for cells in bench.store.read_cells(only_run(bench.store).run_pk, "epoch")
        for seq, step, flags, value in zip(
            cells.seq.tolist(), cells.step.tolist(), cells.flags.tolist(), list(cells.values), strict=True
        )
        if flags & INSERTED
    }


def summary(bench: Bench) -> dict[str, object]:
    return SummaryReader(bench.store).summary(only_run(bench.store))


def said(speaker: Speaker, **facts: object) -> list[Frame]:
    return [
        speaker.hello(**facts),
        speaker.others((RecordKind.METRIC, MetricRecord("loss", step_metric="epoch", step_sync=True).pack())),
        speaker.rows({"epoch": [2.0]}, steps=[0]),
        speaker.rows({"loss": [1.0]}, steps=[3], flags=GIVEN),
    ]


def die(bench: Bench, speaker: Speaker) -> None:
    bench.liveness.hear(Heartbeat("n", "h", "b", 0.0, 5.0, (WriterBeat(speaker.writer, speaker.seq, False),)))
    bench.board.tick()


@pytest.mark.parametrize("order", list(itertools.permutations(["death", "rows", "tick"])))
def test_death_completes_the_open_row_in_any_order_of_evidence(bench: Bench, order: tuple[str, ...]) -> None:
    speaker = Speaker(b"w" * 16)
    frames = said(speaker)
    bench.feed(*frames[:3])
    for what in order:
        if what == "death":
            die(bench, speaker)
        elif what == "rows":
            bench.feed(frames[3])
        else:
            bench.board.tick()
    assert only_run(bench.store).state == "crashed"
    assert inserted(bench) == {4: (3, 2.0)}
    assert summary(bench)["epoch"] == 2.0


def test_a_writer_that_was_only_silent_has_its_row_open_again(bench: Bench) -> None:
    speaker = Speaker(b"w" * 16)
    bench.feed(*said(speaker))
    bench.clock.now_s += 301
    bench.board.tick()
    assert inserted(bench) == {4: (3, 2.0)}
    assert not Compactor(bench.store).settle_some(float("inf")) or inserted(bench) == {4: (3, 2.0)}
    bench.feed(speaker.rows({"epoch": [7.0]}, steps=[3], flags=GIVEN))
    assert only_run(bench.store).state == "running"
    assert inserted(bench) == {}
    bench.feed(speaker.rows({"loss": [2.0]}, steps=[4], flags=GIVEN))
    bench.feed(speaker.others((RecordKind.EXIT, ExitRecord(0, "finish").pack())))
    assert inserted(bench) == {6: (4, 7.0)}


def test_a_heartbeat_opens_the_row_again_and_an_exit_completes_it_once(bench: Bench) -> None:
    speaker = Speaker(b"w" * 16)
    bench.feed(*said(speaker))
    bench.clock.now_s += 301
    bench.board.tick()
    writers = (WriterBeat(speaker.writer, speaker.seq, True),)
    bench.liveness.hear(Heartbeat("n", "h", "b", 0.0, 5.0, writers))
    bench.board.tick()
    assert (only_run(bench.store).state, inserted(bench)) == ("running", {})
    die(bench, speaker)
    assert inserted(bench) == {4: (3, 2.0)}
    again = Bench(bench.store)
    again.feed(speaker.others((RecordKind.EXIT, ExitRecord(1, "atexit").pack())))
    assert inserted(bench) == {4: (3, 2.0)}


@pytest.mark.parametrize("ends", ["death", "silence", "exit", "next row"])
def test_a_completed_row_counts_in_the_summary_of_many_writers(bench: Bench, ends: str) -> None:
    writer, peer = Speaker(b"w" * 16), Speaker(b"x" * 16)
    hello, metric, *_ = said(writer, mode="shared", rank=0)
    bench.feed(hello, metric)
    writer.seq -= 2
    bench.feed(writer.rows({"loss": [1.0]}, steps=[3], flags=GIVEN))
    bench.feed(peer.hello(mode="shared", rank=1), peer.rows({"epoch": [5.0, 6.0]}, steps=[0, 9]))
    minimum = MetricRecord("epoch", summary=("min", "mean")).pack()
    bench.feed(peer.others((RecordKind.METRIC, minimum), (RecordKind.EXIT, ExitRecord(0, "finish").pack())))
    kept = SummaryReader(bench.store)

    def both_ways() -> dict[str, object]:
        run = only_run(bench.store)
        incremental, _ = kept._fold(run, save_after=0)
        bench.store.drop_fold(run.run_pk)
        fresh, _ = kept._fold(run, save_after=0)
        assert incremental == fresh
        epoch = fresh["epoch"]
        assert isinstance(epoch, dict)
        return epoch

    assert both_ways()["min"] == 5.0
    if ends == "death":
        die(bench, writer)
    elif ends == "silence":
        bench.clock.now_s += 301
        bench.board.tick()
        assert both_ways()["min"] == 0
        bench.feed(writer.rows({"epoch": [7.0]}, steps=[3], flags=GIVEN))
        assert both_ways()["min"] == 5.0
        bench.feed(writer.rows({"loss": [1.0]}, steps=[4]))
        assert both_ways()["mean"] == (5.0 + 7.0) / 2  # what lies above is not settled
        return
    elif ends == "exit":
        bench.feed(writer.others((RecordKind.EXIT, ExitRecord(0, "finish").pack())))
    else:
        bench.feed(writer.rows({"other": [1.0]}, steps=[20]))
    assert both_ways()["min"] == 0
