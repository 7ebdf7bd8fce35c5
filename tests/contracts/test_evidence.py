"""Evidence in the table, on an SQLite file and on a real PostgreSQL: kept once, bounded, judged once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import sqlalchemy as sa

from runfold.protocol import evidence as e
from runfold.protocol.evidence import Evidence
from runfold.protocol.records import EvidenceRecord, ExitRecord, PreemptingRecord, RecordKind, SignalRecord
from runfold_coordinator.evidence_sweep import REMOVE_AFTER_S, REST_AFTER_S, EvidenceSweep
from runfold_coordinator.evidence_table import MAX_PER_SOURCE, EvidenceTable, fresh_runs
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.catalogue_reads import unpack_stored
from runfold_coordinator.store.migrate import SCRIPTS
from runfold_coordinator.store.store import Store
from support.frames import START_NS, Bench, Speaker, only_run

WRITER = b"w" * 16


def rows(store: Store, source: str | None = None) -> Sequence[Any]:
    c = t.evidence.c
    where = sa.true() if source is None else c.source == source
    return store.fetch(sa.select(t.evidence).where(where).order_by(c.writer_id, c.source, c.ident))


def add(store: Store, *evidence: Evidence, now_s: float = 1000.0) -> EvidenceTable:
    table = EvidenceTable()
    with store.writing.transaction() as tx:
        table.add(tx, evidence, now_s)
    return table


def test_the_same_evidence_is_kept_once_with_its_earliest_time(store: Store) -> None:
    def killed(t_ns: int) -> Evidence:
        return Evidence(WRITER, e.WAIT, t_ns, {"status": 9, "by": "pidfd"})

    add(store, killed(50), killed(40), killed(60))
    add(store, killed(45))
    (row,) = rows(store)
    assert (row.t_ns, unpack_stored(row.facts)) == (40, {"status": 9, "by": "pidfd"})
    add(store, Evidence(WRITER, e.WAIT, 40, {"status": 11, "by": "pidfd"}))
    assert len(rows(store)) == 2


def test_what_a_process_says_and_what_is_seen_of_it_make_one_set(bench: Bench, store: Store) -> None:
    speaker, agent = Speaker(WRITER), Speaker(b"a" * 16, "_nodes/agents/" + "61" * 16)
    seen = EvidenceRecord(speaker.writer_id, e.WAIT, {"status": 1 << 8, "by": "pidfd"})
    bench.feed(
        speaker.hello(),
        speaker.others(
            (RecordKind.SIGNAL, SignalRecord(10, "SIGUSR1").pack()),
            (RecordKind.PREEMPTING, PreemptingRecord(grace_s=1.0).pack()),
            (RecordKind.EXIT, ExitRecord(1, "exception", "ValueError", "x\nValueError: no").pack()),
        ),
        agent.hello(role="node"),
        agent.others((RecordKind.EVIDENCE, seen.pack())),
    )
    bench.board.tick()
    assert [(row.source, row.ident) for row in rows(store)][:3] == [
        ("exit", "seq:4"),
        ("preempting", "seq:3"),
        ("signal", "seq:2"),
    ]
    assert [row.is_fresh for row in rows(store)] == [False] * 4
    run = only_run(store)
    assert (run.state, run.reason, run.confidence) == (
        "preempted",
        "preempted (it was told before): ValueError: no",
        "certain",
    )
    (writer,) = store.writers(run.run_pk)
    assert (writer.state, writer.confidence) == ("preempted", "certain")
    assert writer.exit is not None and writer.exit["code"] == 1
    assert writer.ending["exit_code"] == 1


def test_only_a_process_itself_says_how_it_exits(bench: Bench, store: Store) -> None:
    speaker, other = Speaker(WRITER), Speaker(b"o" * 16)
    forged = EvidenceRecord(speaker.writer_id, e.EXIT, {"code": 0, "how": "finish"})
    nobody = EvidenceRecord("nobody", e.GONE, {})
    bench.feed(
        speaker.hello(mode="shared", rank=0),
        other.hello(mode="shared", rank=1),
        other.others((RecordKind.EVIDENCE, forged.pack()), (RecordKind.EVIDENCE, nobody.pack())),
    )
    bench.board.tick([Evidence(WRITER, e.EXIT, 5, {"code": 0, "how": "finish"})])
    assert rows(store) == [] and only_run(store).state == "running"
    assert len(store.records(only_run(store).run_pk, [RecordKind.EVIDENCE])) == 2


def test_evidence_about_a_writer_that_is_not_known_yet_waits_for_it(bench: Bench, store: Store) -> None:
    speaker = Speaker(WRITER)
    bench.board.tick([Evidence(WRITER, e.WAIT, START_NS, {"status": 9, "by": "pidfd"})])
    assert [row.is_fresh for row in rows(store)] == [True]
    EvidenceSweep(store).rest(bench.clock.unix_s() + REST_AFTER_S + 1)
    assert [row.is_fresh for row in rows(store)] == [False]
    bench.feed(speaker.hello())
    bench.board.tick()
    assert (only_run(store).state, only_run(store).confidence) == ("killed", "certain")


def test_evidence_about_writers_that_never_come_goes_after_a_week(bench: Bench, store: Store) -> None:
    speaker = Speaker(WRITER)
    bench.feed(speaker.hello())
    now_s = bench.clock.unix_s()
    add(store, *(Evidence(bytes([i]) * 16, e.GONE, 5) for i in range(9)), now_s=now_s)
    add(store, Evidence(WRITER, e.STACK, 5, {"text": "x"}), now_s=now_s)
    sweep = EvidenceSweep(store)
    assert not sweep.remove(now_s + REMOVE_AFTER_S - 1)
    assert (len(rows(store)), sweep.removed_count) == (10, 0)
    assert not sweep.remove(now_s + REMOVE_AFTER_S + 1)
    assert ([row.writer_id for row in rows(store)], sweep.removed_count) == ([speaker.writer_id], 9)


def test_a_storm_of_signals_is_bounded_and_its_newest_stay(bench: Bench, store: Store) -> None:
    speaker = Speaker(WRITER)
    bench.feed(speaker.hello())
    for _ in range(3):
        bench.feed(speaker.others(*[(RecordKind.SIGNAL, SignalRecord(10).pack())] * 500))
    bench.feed(speaker.others((RecordKind.SIGNAL, SignalRecord(15).pack())))
    kept = rows(store, e.SIGNAL)
    assert len(kept) == MAX_PER_SOURCE
    assert max(kept, key=lambda row: row.t_ns).ident == f"seq:{speaker.seq}"
    bench.board.tick([Evidence(WRITER, e.GONE, START_NS + 10**9)])
    assert only_run(store).reason == "killed by SIGTERM"


def test_an_agent_that_sends_garbage_fills_nothing(bench: Bench, store: Store) -> None:
    speaker = Speaker(WRITER)
    bench.feed(speaker.hello())
    odd = [Evidence(WRITER, f"source {i}", i, {"n": i}) for i in range(500)]
    odd += [Evidence(WRITER, e.STACK, i, {"text": f"{i}" * 100_000}) for i in range(3)]
    odd += [Evidence(WRITER, e.DEVICES, 1, {"k" * 5000: "v", "list": [{"x": "y" * 50_000}] * 9})]
    odd += [Evidence(WRITER, "nul\0" + "x" * 500, 2**63 - 1, {"a": "\0"})]
    bench.board.tick(odd)
    kept = rows(store)
    assert len(kept) == MAX_PER_SOURCE + 4
    assert max(len(row.facts) for row in kept) < 200_000
    assert only_run(store).state == "running"
    table = add(
        store, Evidence(WRITER, e.GONE, 1, {1: 2, "a": 3}), Evidence(WRITER, e.GONE, 1, {"x": object()})
    )  # type: ignore[dict-item]
    assert table.refused_count == 2 and rows(store, e.GONE) == []


def test_requests_that_came_through_the_gate_outlive_any_that_are_sent(bench: Bench, store: Store) -> None:
    bench.feed(Speaker(WRITER).hello())
    add(store, Evidence(WRITER, e.STOP, 1, {"by": "ann"}, "asked:1"))
    add(store, *(Evidence(WRITER, e.STOP, 10 + i, {"by": "x", "n": i}) for i in range(100)))
    idents = [row.ident for row in rows(store, e.STOP)]
    assert len(idents) == MAX_PER_SOURCE and "asked:1" in idents


def test_fresh_evidence_is_judged_by_the_partition_of_its_writer(bench: Bench, store: Store) -> None:
    speaker = Speaker(WRITER)
    bench.feed(speaker.hello())
    run_pk = only_run(store).run_pk
    # another partition's thread stores what the agent's spool says
    add(store, Evidence(WRITER, e.WAIT, START_NS + 10**10, {"status": 11, "by": "pidfd"}))
    with store.snapshot() as connection:
        assert (fresh_runs(connection, 0), fresh_runs(connection, 1)) == ({run_pk}, set())
    bench.board.tick()
    assert only_run(store).state == "crashed"
    with store.snapshot() as connection:
        assert fresh_runs(connection, 0) == set()
    version = only_run(store).version
    bench.board.tick()
    add(store, Evidence(WRITER, e.WAIT, START_NS + 10**10, {"status": 11, "by": "pidfd"}))
    bench.board.tick()
    assert only_run(store).version == version


def test_stronger_evidence_replaces_what_was_inferred_days_later(bench: Bench, store: Store) -> None:
    speaker = Speaker(WRITER)
    bench.feed(speaker.hello())
    bench.board.tick([Evidence(WRITER, e.GONE, START_NS + 10**9)])
    assert (only_run(store).state, only_run(store).confidence) == ("crashed", "inferred")
    bench.clock.now_s += 9 * 86400
    again = Bench(store)
    again.board.tick([Evidence(WRITER, e.WAIT, START_NS + 10**9, {"status": 0, "by": "parent"})])
    assert (only_run(store).state, only_run(store).confidence) == ("finished", "certain")


def test_the_traceback_of_torchelastics_file_stands_where_the_process_left_none(
    bench: Bench, store: Store
) -> None:
    speaker = Speaker(WRITER)
    bench.feed(speaker.hello(rank=3, host="h"))
    facts = {"message": "ValueError: no", "exception": "ValueError", "traceback": "deep\nValueError: no"}
    bench.board.tick(
        [
            Evidence(WRITER, e.ELASTIC, START_NS + 10**9, facts),
            Evidence(WRITER, e.WAIT, START_NS + 10**9, {"status": 256, "by": "pidfd"}),
        ]
    )
    failure = only_run(store).first_failure
    assert failure is not None
    assert (failure["rank"], failure["host"], failure["reason"]) == (3, "h", "ValueError: no")
    assert failure["traceback"] == "deep\nValueError: no"
    assert (failure["exit_code"], failure["signal"], failure["console"], failure["induced"]) == (
        1,
        None,
        [],
        [],
    )


def test_a_database_of_the_first_version_keeps_what_processes_said(empty_url: str, tmp_path: Path) -> None:
    engine = sa.create_engine(empty_url.replace("postgresql://", "postgresql+psycopg://"))
    config = alembic.config.Config()
    config.set_main_option("script_location", SCRIPTS)
    config.set_main_option("path_separator", "os")
    said = [
        (5, RecordKind.SIGNAL, SignalRecord(15).pack()),
        (6, RecordKind.EXIT, ExitRecord(143, "sys.exit").pack()),
    ]
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "0001")
        connection.execute(
            sa.text(
                "INSERT INTO writers (writer_pk, writer_id, run_pk, partition, started_unix_ns, last_seq, head_seq, "
                "row_count, gap_count, dead_letter_count, last_record_unix_ns, preempting, last_seen_unix_s, state, "
                "reason, unreachable) VALUES (7, :writer, 3, 0, 1, 6, 6, 0, 0, 0, 1, false, 1.0, 'killed', 'x', false)"
            ),
            {"writer": WRITER.hex()},
        )
        connection.execute(
            sa.text("INSERT INTO records VALUES (7, :seq, 3, 1500000000, :kind, 0, :payload)"),
            [{"seq": seq, "kind": int(kind), "payload": payload} for seq, kind, payload in said],
        )
    engine.dispose()
    store = Store.open(empty_url, cold_url=str(tmp_path / "cold"))
    try:
        found = [(row.source, row.ident, row.t_ns, row.received_unix_s, row.is_fresh) for row in rows(store)]
        assert found == [
            ("exit", "seq:6", 1_500_000_000, 1.5, False),
            ("signal", "seq:5", 1_500_000_000, 1.5, False),
        ]
        table = EvidenceTable()
        with store.snapshot() as connection:
            testimony = table.testimonies(connection, [WRITER.hex()])[WRITER.hex()]
        assert testimony.exit is not None and testimony.exit.code == 143
        assert [signal.signum for signal in testimony.signals] == [15]
    finally:
        store.close()
