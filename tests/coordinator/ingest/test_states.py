"""States as they come into the rows: when a board judges, and what it takes back."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from runfold.protocol import evidence as e
from runfold.protocol.evidence import Evidence
from runfold.protocol.records import ExitRecord, PreemptingRecord, RecordKind, SignalRecord
from runfold.protocol.streams import Heartbeat, WriterBeat
from runfold_coordinator.evidence_table import EvidenceTable
from runfold_coordinator.failure_lines import FailureLines
from runfold_coordinator.live_facts import LiveFacts
from runfold_coordinator.run_judge import RunJudge
from runfold_coordinator.state_board import FRESH_EVERY_S, SEEN_EVERY_S, StateBoard
from runfold_coordinator.states import Limits
from runfold_coordinator.store.errors import FencedError
from runfold_coordinator.store.store import Store
from runfold_coordinator.store.writes import Transaction
from support.frames import START_NS, Bench, Speaker, only_run


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


def waited(speaker: Speaker, status: int, t_ns: int = START_NS + 10**9) -> Evidence:
    return Evidence(speaker.writer, e.WAIT, t_ns, {"status": status, "by": "pidfd"})


def test_a_process_that_is_gone_has_half_a_second_to_be_known_how(sqlite_store: Store) -> None:
    bench, speaker = Bench(sqlite_store, limits=Limits()), Speaker(b"w" * 16)
    bench.feed(speaker.hello())
    beat(bench, speaker, False, head_seq=1)
    bench.board.tick()
    assert only_state(bench) == ("running", False)
    assert "how it ended is not known yet" in only_run(sqlite_store).reason
    bench.board.tick([waited(speaker, 9)])
    assert only_run(sqlite_store).reason == "killed by SIGKILL, sender unknown"
    other = Speaker(b"o" * 16, "local/demo/other")
    bench.feed(other.hello())
    beat(bench, other, False, head_seq=1)
    bench.board.tick()
    bench.clock.now_s += 0.6
    bench.board.tick()
    found = sqlite_store.find_run("local", "demo", "other")
    assert found is not None and (found.state, found.confidence) == ("crashed", "inferred")


def test_a_lost_writer_that_is_found_gone_does_not_run_in_between(sqlite_store: Store) -> None:
    bench, speaker = Bench(sqlite_store, limits=Limits()), Speaker(b"w" * 16)
    bench.feed(speaker.hello())
    bench.clock.now_s += 301
    bench.board.tick()
    assert only_state(bench) == ("crashed", True)
    beat(bench, speaker, False, head_seq=1)
    bench.board.tick()
    assert only_state(bench)[0] == "crashed"
    bench.clock.now_s += 1
    bench.board.tick()
    assert only_state(bench) == ("crashed", False)
    assert "vanished" in only_run(sqlite_store).reason


def test_nobody_grows_silent_while_nobody_listens(bench: Bench) -> None:
    speaker = Speaker(b"w" * 16)
    bench.feed(speaker.hello())
    bench.liveness.listened(bench.clock.now_s)
    bench.clock.now_s += 10_000  # stopped between reading and judging
    bench.board.tick()
    assert only_state(bench) == ("running", False)
    bench.liveness.listened(bench.clock.now_s)
    bench.board.tick()
    assert only_state(bench) == ("crashed", True)


def test_a_step_of_the_wall_clock_ends_nobody(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    speaker = Speaker(b"w" * 16)
    bench.feed(speaker.hello())
    for step_s in (86_400.0, -86_400.0, 3e9):
        monkeypatch.setattr(bench.clock, "unix_s", lambda step_s=step_s: START_NS / 1e9 + 1000 + step_s)
        beat(bench, speaker, True, head_seq=1)
        bench.board.tick()
        assert only_state(bench) == ("running", False)


@pytest.mark.parametrize("t_ns", [0, 1, 2**63 - 1])
def test_a_wild_clock_ends_nobody_before_its_start_or_in_the_future(bench: Bench, t_ns: int) -> None:
    speaker = Speaker(b"w" * 16)
    bench.feed(speaker.hello())
    bench.board.tick([waited(speaker, 9, t_ns)])
    ended = only_run(bench.store).ended_unix_ns
    assert ended is not None and START_NS <= ended <= bench.clock.unix_s() * 1e9


def test_failures_of_two_nodes_are_put_in_order_by_what_their_clocks_differ(bench: Bench) -> None:
    ranks = [Speaker(b"1" * 16), Speaker(b"2" * 16)]
    bench.feed(*(s.hello(mode="shared", rank=r, host=f"h{r}", boot_id="b") for r, s in enumerate(ranks)))
    now_s = bench.clock.unix_s()
    for rank, behind_s in ((0, 0.0), (1, 3600.0)):
        speaker = ranks[rank]
        bench.liveness.hear(
            Heartbeat("n", f"h{rank}", "b", now_s - behind_s, 5.0, (WriterBeat(speaker.writer, 1, True),))
        )
    # rank 0 faults at +1 s; rank 1 at +2 s, which its own clock takes for an hour before
    later_ns = int((now_s + 2 - 3600) * 1e9)
    bench.clock.now_s += 5
    bench.board.tick([waited(ranks[0], 11, int((now_s + 1) * 1e9)), waited(ranks[1], 11, later_ns)])
    failure = only_run(bench.store).first_failure
    assert failure is not None and failure["rank"] == 0


def test_what_is_heard_lately_can_be_asked_from_other_threads(bench: Bench) -> None:
    facts, speaker = LiveFacts(bench.clock), Speaker(b"w" * 16)
    facts.add(bench.liveness)
    assert facts.of(speaker.writer_id) is None
    stopped = WriterBeat(speaker.writer, 1, True, is_stopped=True, phase="data", phase_s=2.0)
    bench.liveness.hear(Heartbeat("n", "h", "b", 0.0, 5.0, (stopped,)))
    bench.clock.now_s += 3
    live = facts.of(speaker.writer_id)
    assert live is not None
    assert (live.is_stopped, live.phase, live.phase_s, live.silent_s) == (True, "data", 5.0, 3.0)
    assert live.logged_s is None
    bench.feed(speaker.hello())
    bench.clock.now_s += 1
    live = facts.of(speaker.writer_id)
    assert live is not None and (live.logged_s, live.silent_s) == (1.0, 1.0)


def test_the_last_lines_of_who_is_blamed_are_looked_for_again(sqlite_store: Store) -> None:
    bench, speaker = Bench(sqlite_store), Speaker(b"w" * 16)
    lines: list[str] = []

    def last_lines(writer_id: str) -> list[str]:
        assert writer_id == speaker.writer_id
        return list(lines)

    kept = FailureLines(sqlite_store, bench.clock, last_lines)
    bench.board = StateBoard(sqlite_store, bench.liveness, bench.clock, Limits(), failure_lines=kept)

    def console() -> list[str]:
        assert not kept.turn()
        failure = only_run(sqlite_store).first_failure
        assert failure is not None
        found: list[str] = failure["console"]
        return found

    bench.feed(speaker.hello())
    bench.board.tick([waited(speaker, 11)])
    assert console() == []
    lines.append("Segmentation fault")  # arrives a moment later
    assert console() == []
    bench.clock.now_s += 2.1
    assert console() == ["Segmentation fault"]
    lines.clear()
    bench.clock.now_s += 1000
    version = only_run(sqlite_store).version
    again = FailureLines(sqlite_store, bench.clock, last_lines)
    with sqlite_store.snapshot() as connection:
        run_pk = only_run(sqlite_store).run_pk
        assert again.of(connection, run_pk, speaker.writer_id) == ["Segmentation fault"]
        assert again.of(connection, run_pk, "other") == []
    assert only_run(sqlite_store).version == version


def test_a_run_that_cannot_be_judged_keeps_no_other_from_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    odd, plain = Speaker(b"o" * 16, "local/demo/odd"), Speaker(b"p" * 16, "local/demo/plain")
    bench.feed(odd.hello(), plain.hello())
    judge = RunJudge._judge_writer

    def fail(self: RunJudge, writer: object, testimony: object) -> object:
        if getattr(writer, "writer_id", "") == odd.writer_id:
            raise ArithmeticError("odd")
        return judge(self, writer, testimony)  # type: ignore[arg-type]

    monkeypatch.setattr(RunJudge, "_judge_writer", fail)
    bench.board.tick([waited(odd, 9), waited(plain, 9)])
    states = {run.run_id: run.state for run in bench.store.list_runs()}
    assert states == {"odd": "running", "plain": "killed"}
    assert "could not be judged" in caplog.text


def test_an_idle_tick_writes_nothing(bench: Bench, tmp_path: Path) -> None:
    speaker = Speaker(b"w" * 16)
    bench.feed(speaker.hello())
    beat(bench, speaker, True, head_seq=1)
    bench.board.tick()
    log = tmp_path / "runfold.db-wal"
    before, asked = log.stat().st_size, []
    bench.board.check_owner = asked.append
    for _ in range(8):
        bench.clock.now_s += FRESH_EVERY_S
        bench.board.tick()
    assert log.stat().st_size == before
    # With check_owner a row would be locked, which PostgreSQL writes down.
    assert asked == []
    bench.clock.now_s += SEEN_EVERY_S
    beat(bench, speaker, True, head_seq=1)
    bench.board.tick()
    assert asked and log.stat().st_size > before


def test_evidence_that_others_stored_is_found_by_an_idle_tick(bench: Bench) -> None:
    speaker = Speaker(b"w" * 16)
    bench.feed(speaker.hello())
    bench.board.tick()
    died = Evidence(speaker.writer, e.WAIT, START_NS, {"status": 9, "by": "pidfd"})
    with bench.store.writing.transaction() as tx:
        EvidenceTable().add(tx, [died], bench.clock.unix_s())
    bench.board.tick()
    assert only_state(bench)[0] == "running"
    bench.clock.now_s += FRESH_EVERY_S
    bench.board.tick()
    assert only_state(bench)[0] == "killed"


def test_a_costly_run_is_judged_twice_a_second_while_its_ranks_die(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    speakers = [Speaker(bytes([n]) * 16) for n in range(1, 9)]
    bench.feed(*(one.hello(mode="shared", rank=rank) for rank, one in enumerate(speakers)))
    bench.board.tick()
    judge, judged = RunJudge.judge, []

    def slowly(self: RunJudge, tx: Transaction, run_pk: int) -> None:
        judge(self, tx, run_pk)
        judged.append(bench.clock.now_s)
        bench.clock.now_s += 0.04

    monkeypatch.setattr(RunJudge, "judge", slowly)
    (run,) = bench.store.list_runs()
    for n, one in enumerate(speakers):
        bench.board.tick([Evidence(one.writer, e.WAIT, START_NS + n, {"status": 9, "by": "pidfd"})])
        bench.clock.now_s += 0.05
    states = [writer.state for writer in bench.store.writers(run.run_pk)]
    assert states.count("killed") == 1 and len(judged) == 1
    bench.clock.now_s += 0.1
    bench.board.tick()
    assert {writer.state for writer in bench.store.writers(run.run_pk)} == {"killed"}
    assert only_run(bench.store).state == "killed"
    bench.clock.now_s += 1
    bench.board.tick()
    assert len(judged) == 2
