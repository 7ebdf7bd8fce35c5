"""States as they come into the rows: when a board judges, and what it takes back."""

from __future__ import annotations

import itertools

import pytest

from runfold.protocol.records import ExitRecord, PreemptingRecord, RecordKind, SignalRecord
from runfold.protocol.streams import Heartbeat, WriterBeat
from runfold_coordinator.store.errors import FencedError
from support.frames import Bench, Speaker


def beat(bench: Bench, speaker: Speaker, alive: bool | None, head_seq: int = 0) -> None:
    writers = (WriterBeat(speaker.writer, head_seq, alive),)
    bench.liveness.hear(Heartbeat("n", "h", "b", 0.0, 5.0, writers))


def only_state(bench: Bench) -> tuple[str, bool]:
    (run,) = bench.store.list_runs()
    (writer,) = bench.store.writers(run.run_pk)
    assert (writer.state, writer.unreachable) == (run.state, run.unreachable)
    return run.state, run.unreachable


def test_silence_is_flagged_then_reads_crashed_and_is_reversed_by_data(bench: Bench) -> None:
    speaker = Speaker(b"w" * 16)
    bench.feed(speaker.hello())
    bench.clock.now_s += 14
    bench.board.tick()
    assert only_state(bench) == ("running", False)
    bench.clock.now_s += 2
    bench.board.tick()
    assert only_state(bench) == ("running", True)
    beat(bench, speaker, True)
    bench.board.tick()
    assert only_state(bench) == ("running", False)
    bench.clock.now_s += 301
    bench.board.tick()
    assert only_state(bench) == ("crashed", True)
    bench.feed(speaker.rows({"loss": [1.0]}))
    assert only_state(bench) == ("running", False)


def test_a_heartbeat_alone_brings_a_lost_writer_back(bench: Bench) -> None:
    speaker = Speaker(b"w" * 16)
    bench.feed(speaker.hello())
    bench.clock.now_s += 301
    bench.board.tick()
    assert only_state(bench)[0] == "crashed"
    beat(bench, speaker, True)
    bench.board.tick()
    assert only_state(bench) == ("running", False)


def test_a_heartbeat_that_says_nothing_new_brings_a_lost_writer_back(bench: Bench) -> None:
    speaker = Speaker(b"w" * 16)
    bench.feed(speaker.hello())
    beat(bench, speaker, True, head_seq=1)
    bench.board.tick()
    bench.clock.now_s += 301
    bench.board.tick()
    assert only_state(bench) == ("crashed", True)
    beat(bench, speaker, True, head_seq=1)
    bench.board.tick()
    assert only_state(bench) == ("running", False)


def test_a_fresh_lease_calls_nobody_back(bench: Bench) -> None:
    lost, peer = Speaker(b"w" * 16), Speaker(b"x" * 16)
    bench.feed(lost.hello(mode="shared", rank=1), peer.hello(mode="shared", rank=0))
    (run,) = bench.store.list_runs()

    def of(speaker: Speaker) -> tuple[str, bool]:
        (found,) = [w for w in bench.store.writers(run.run_pk) if w.writer_id == speaker.writer_id]
        return found.state, found.unreachable

    bench.clock.now_s += 20
    bench.feed(peer.rows({"loss": [1.0]}))
    bench.board.tick()
    assert of(lost) == ("running", True)
    bench.liveness.renew()
    bench.board.tick()
    bench.feed(peer.rows({"loss": [1.0]}))
    assert of(lost) == ("running", True)
    bench.clock.now_s += 301
    bench.feed(peer.rows({"loss": [1.0]}))
    bench.board.tick()
    assert of(lost) == ("crashed", True)
    assert of(peer) == ("running", False)
    # Redis is away for a moment, then the coordinator is started anew
    bench.liveness.renew()
    bench.board.tick()
    told = bench
    for _ in range(2):
        told.feed(peer.others((RecordKind.PREEMPTING, PreemptingRecord().pack())))
        told.board.tick()
        assert of(lost) == ("crashed", True)
        told = again = Bench(bench.store)
        told.board.tick()
    beat(again, lost, True)
    again.board.tick()
    assert of(lost) == ("running", False)


def test_a_process_that_is_gone_is_told_at_once(bench: Bench) -> None:
    speaker = Speaker(b"w" * 16)
    bench.feed(speaker.hello(), speaker.rows({"loss": [1.0]}))
    beat(bench, speaker, False, head_seq=2)
    assert bench.liveness.is_urgent
    bench.board.tick()
    assert only_state(bench) == ("crashed", False)
    assert not bench.liveness.is_urgent


def test_a_process_that_is_gone_waits_for_its_last_records(bench: Bench) -> None:
    speaker = Speaker(b"w" * 16)
    bench.feed(speaker.hello())
    beat(bench, speaker, False, head_seq=2)
    bench.board.tick()
    assert only_state(bench)[0] == "running"
    (run,) = bench.store.list_runs()
    assert bench.store.accounting(run.run_pk).pending == 1
    bench.feed(speaker.others((RecordKind.EXIT, ExitRecord(0, "finish").pack())))
    assert only_state(bench)[0] == "finished"


def test_a_process_that_is_gone_is_told_when_its_records_come_after_a_restart(bench: Bench) -> None:
    speaker = Speaker(b"w" * 16)
    bench.feed(speaker.hello())
    beat(bench, speaker, False, head_seq=2)
    bench.board.tick()
    assert only_state(bench)[0] == "running"
    again = Bench(bench.store)
    again.board.tick()
    again.feed(speaker.rows({"loss": [1.0]}))
    assert only_state(bench)[0] == "crashed"


def test_records_that_never_come_are_not_waited_for_after_a_restart(bench: Bench) -> None:
    speaker = Speaker(b"w" * 16)
    bench.feed(speaker.hello())
    beat(bench, speaker, False, head_seq=9)
    bench.board.tick()
    again = Bench(bench.store)
    again.board.tick()
    again.clock.now_s += 61
    beat(again, speaker, None, head_seq=9)
    again.board.tick()
    assert only_state(bench)[0] == "crashed"


def test_records_that_never_come_end_the_wait(bench: Bench) -> None:
    speaker = Speaker(b"w" * 16)
    bench.feed(speaker.hello())
    beat(bench, speaker, False, head_seq=9)
    bench.board.tick()
    bench.clock.now_s += 61
    bench.board.tick()
    assert only_state(bench)[0] == "crashed"


def test_late_records_do_not_wake_the_dead(bench: Bench) -> None:
    speaker = Speaker(b"w" * 16)
    bench.feed(speaker.hello())
    beat(bench, speaker, False, head_seq=4)
    bench.board.tick()
    bench.clock.now_s += 61
    bench.board.tick()
    assert only_state(bench)[0] == "crashed"
    bench.feed(speaker.rows({"loss": [1.0, 2.0]}))
    assert only_state(bench)[0] == "crashed"
    bench.feed(speaker.others((RecordKind.EXIT, ExitRecord(0, "finish").pack())))
    assert only_state(bench)[0] == "finished"


def test_a_fresh_lease_after_a_stall_expires_nobody(bench: Bench) -> None:
    speaker = Speaker(b"w" * 16)
    bench.feed(speaker.hello())
    bench.clock.now_s += 10_000
    bench.liveness.renew()
    bench.board.tick()
    assert only_state(bench) == ("running", False)


def test_a_new_writer_of_a_later_attempt_reopens_the_run(bench: Bench) -> None:
    first, second = Speaker(b"1" * 16), Speaker(b"2" * 16)
    bench.feed(first.hello(rank=0), first.others((RecordKind.EXIT, ExitRecord(1, "atexit").pack())))
    (run,) = bench.store.list_runs()
    assert run.state == "failed"
    bench.feed(second.hello(rank=0, started_unix_ns=2 * 10**18))
    (run,) = bench.store.list_runs()
    assert run.state == "running"
    bench.feed(second.others((RecordKind.EXIT, ExitRecord(0, "finish").pack())))
    (run,) = bench.store.list_runs()
    assert (run.state, run.reason) == ("finished", "exit code 0")


def test_the_last_of_many_writers_ends_the_run_at_once_the_others_by_the_tick(bench: Bench) -> None:
    many = [Speaker(bytes([i]) * 16) for i in range(60)]
    bench.feed(*(speaker.hello(mode="shared", rank=i) for i, speaker in enumerate(many)))
    bench.board.tick()

    def ended() -> int:
        (run,) = bench.store.list_runs()
        return sum(writer.state == "finished" for writer in bench.store.writers(run.run_pk))

    def end(speakers: list[Speaker]) -> None:
        bench.feed(*(s.others((RecordKind.EXIT, ExitRecord(0, "finish").pack())) for s in speakers))

    end(many[:10])
    assert ended() == 0
    bench.board.tick()
    assert ended() == 10
    end(many[10:20])
    assert ended() == 10
    end(many[20:40])
    assert ended() == 40
    end(many[40:])
    assert ended() == 60
    assert bench.store.list_runs()[0].state == "finished"


def test_a_board_whose_partition_was_taken_judges_nobody(bench: Bench) -> None:
    speaker = Speaker(b"w" * 16)
    bench.feed(speaker.hello())
    Bench(bench.store)
    bench.clock.now_s += 301
    with pytest.raises(FencedError):
        bench.board.tick()
    assert only_state(bench) == ("running", False)
    with pytest.raises(FencedError):
        bench.ingest.ask_owner()


def test_evidence_in_any_order_gives_the_same_state(bench: Bench) -> None:
    for i, order in enumerate(itertools.permutations(range(2))):
        speaker = Speaker(bytes([65 + i]) * 16, f"local/demo/r{i}")
        bench.feed(speaker.hello())
        said = speaker.others(
            (RecordKind.SIGNAL, SignalRecord(15, "SIGTERM").pack()),
            (RecordKind.EXIT, ExitRecord(143, "sys.exit").pack()),
        )
        for at in order:
            if at:
                bench.feed(said)
            else:
                beat(bench, speaker, False, head_seq=3)
            bench.board.tick()
        run = bench.store.find_run("local", "demo", f"r{i}")
        assert run is not None and run.state == "killed"
