"""What every store does, on an SQLite file and on a real PostgreSQL."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runfold.protocol.frames import Frame
from runfold.protocol.records import (
    ConfigRecord,
    ExitRecord,
    MetricRecord,
    RecordKind,
    RunRecord,
    SignalRecord,
)
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.errors import FencedError
from runfold_coordinator.store.model import Accounting
from runfold_coordinator.store.store import Store
from support.frames import START_NS, Bench, Speaker, float_block, only_run, values_of


def test_an_empty_store_answers(store: Store) -> None:
    assert store.list_runs() == []
    assert store.find_run("a", "b", "c") is None
    assert store.accounting(7) == Accounting(0, 0, 0, 0, 0)
    assert list(store.read_cells(1, "loss")) == []


def test_rows_come_back_bit_for_bit(bench: Bench, store: Store) -> None:
    speaker = Speaker(b"w" * 16)
    odd = [1.5, math.nan, math.inf, -math.inf, -0.0, 5e-324]
    bench.feed(speaker.hello(), speaker.rows({"loss": odd, "acc": [0.0] * 6}))
    (cells,) = store.read_cells(only_run(store).run_pk, "loss")
    assert np.array(cells.values).tobytes() == np.array(odd).tobytes()
    assert cells.seq.tolist() == [2, 3, 4, 5, 6, 7]
    assert cells.step.tolist() == [0, 1, 2, 3, 4, 5]
    assert cells.t_ns.tolist() == [START_NS + 1000 * seq for seq in range(2, 8)]


def test_every_kind_of_value_comes_back(bench: Bench, store: Store) -> None:
    speaker = Speaker(b"w" * 16)
    values: list[Any] = [
        1,
        2.0,
        True,
        "text",
        None,
        [1, {"a": 2}],
        2**63 - 1,
        2**70,
        -(2**63),
        "nul\0",
        math.inf,
    ]
    bench.feed(speaker.hello(), speaker.maps(*((i, {"x": value}) for i, value in enumerate(values))))
    found = values_of(store, "x")
    back = [found[seq] for seq in sorted(found)]
    plain = [value.item() if hasattr(value, "item") else value for value in back]
    assert plain == values
    assert [type(value) for value in plain] == [type(value) for value in values]
    (key,) = store.keys(only_run(store).run_pk)
    assert key.key == "x"
    assert key.kinds == "dq?o"


def test_a_frame_that_comes_twice_is_stored_once(bench: Bench, store: Store) -> None:
    speaker = Speaker(b"w" * 16)
    frames = [speaker.hello(), speaker.rows({"loss": [1.0, 2.0, 3.0]})]
    first = bench.feed(*frames)
    again = bench.feed(*frames)
    assert first.acks == again.acks == {speaker.writer: 4}
    assert values_of(store, "loss") == {2: 1.0, 3: 2.0, 4: 3.0}
    assert store.accounting(only_run(store).run_pk) == Accounting(4, 4, 0, 0, 0)


def test_a_frame_that_overlaps_is_sliced(bench: Bench, store: Store) -> None:
    speaker = Speaker(b"w" * 16)
    bench.feed(speaker.hello(), speaker.rows({"loss": [1.0, 2.0]}))
    wide = Frame(
        speaker.writer, speaker.run_path, 2, 5, blocks=(float_block(2, {"loss": [9.0, 9.0, 3.0, 4.0]}),)
    )
    assert bench.feed(wide).acks == {speaker.writer: 5}
    assert values_of(store, "loss") == {2: 1.0, 3: 2.0, 4: 3.0, 5: 4.0}
    assert bench.ingest.counts.sliced_frames == 1


def test_a_frame_beyond_a_hole_is_refused_with_the_ack(bench: Bench, store: Store) -> None:
    speaker = Speaker(b"w" * 16)
    bench.feed(speaker.hello())
    speaker.rows({"loss": [1.0, 2.0]})
    late = speaker.rows({"loss": [3.0]})
    assert bench.feed(late).acks == {speaker.writer: 1}
    assert bench.ingest.counts.nacked_frames == 1
    assert values_of(store, "loss") == {}
    assert store.acks([speaker.writer_id, "ff" * 16]) == {speaker.writer_id: 1, "ff" * 16: 0}


def test_gaps_are_declared_and_counted(bench: Bench, store: Store) -> None:
    speaker = Speaker(b"w" * 16)
    bench.feed(speaker.hello(), speaker.gap(10), speaker.rows({"loss": [1.0]}))
    run = only_run(store)
    assert store.accounting(run.run_pk) == Accounting(12, 2, 10, 0, 0)
    assert [(gap.lo, gap.hi, gap.why) for gap in store.gaps(run.run_pk)] == [(2, 11, "disk full")]


def test_a_bad_record_becomes_a_dead_letter_and_the_rest_is_stored(bench: Bench, store: Store) -> None:
    speaker = Speaker(b"w" * 16)
    bench.feed(
        speaker.hello(), speaker.others((RecordKind.CONFIG, b"\xc1nonsense")), speaker.rows({"loss": [1.0]})
    )
    run = only_run(store)
    (letter,) = store.dead_letters(run.run_pk)
    assert (letter.lo, letter.hi, letter.raw) == (2, 2, b"\xc1nonsense")
    assert "kind 12" in letter.reason
    assert store.accounting(run.run_pk) == Accounting(3, 2, 0, 1, 0)
    assert values_of(store, "loss") == {3: 1.0}


def test_an_unknown_kind_is_kept_raw_and_counts_as_stored(bench: Bench, store: Store) -> None:
    speaker = Speaker(b"w" * 16)
    bench.feed(speaker.hello(), speaker.others((999, b"of tomorrow")))
    run = only_run(store)
    assert [(row.kind, row.payload) for row in store.records(run.run_pk, [999])] == [(999, b"of tomorrow")]
    assert store.accounting(run.run_pk).stored == 2


def test_a_frame_that_does_not_decode_is_kept_whole(bench: Bench, store: Store) -> None:
    import msgpack

    speaker = Speaker(b"w" * 16)
    broken = msgpack.packb({"v": 1, "w": speaker.writer, "r": speaker.run_path, "lo": 2, "hi": 6, "b": [7]})
    bench.feed(speaker.hello(), broken, b"\xc1 of nobody")
    run = only_run(store)
    (letter,) = store.dead_letters(run.run_pk)
    assert (letter.lo, letter.hi, letter.raw) == (2, 6, broken)
    assert store.accounting(run.run_pk) == Accounting(6, 1, 0, 5, 0)
    (nobody,) = store.dead_letters(None)
    assert nobody.raw == b"\xc1 of nobody"


def test_the_catalogue_follows_the_primary(bench: Bench, store: Store) -> None:
    zero, one = Speaker(b"0" * 16), Speaker(b"1" * 16)
    bench.feed(
        one.hello(rank=1, mode="shared", config={"lr": 0.2, "only_one": 1}, name="one"),
        one.others((RecordKind.METRIC, MetricRecord("loss", summary=("min",)).pack())),
    )
    assert only_run(store).config == {"lr": 0.2, "only_one": 1}
    bench.feed(
        zero.hello(rank=0, mode="shared", config={"lr": 0.1}, name="zero", group="g", tags=("a",)),
        zero.others((RecordKind.CONFIG, ConfigRecord({"more": [1, math.inf]}).pack())),
        zero.others((RecordKind.RUN, RunRecord(notes="n\0te").pack())),
        zero.others((RecordKind.METRIC, MetricRecord("acc", summary=("max",)).pack())),
    )
    run = only_run(store)
    assert run.config == {"lr": 0.1, "more": [1, math.inf], "only_one": 1}
    assert run.config_conflicts == {"lr": [0.1, 0.2]}
    assert (run.name, run.notes, run.tags, run.group, run.mode) == ("zero", "n\0te", ("a",), "g", "shared")
    assert [found["name"] for found in run.definitions] == ["acc", "loss"]
    assert [found.rank for found in store.writers(run.run_pk)] == [0, 1]
    assert store.list_group("local", "demo", "g") == [run]
    assert store.list_projects() == [("local", "demo", 1)]


def test_states_follow_exit_and_signal(bench: Bench, store: Store) -> None:
    good, bad = Speaker(b"g" * 16, "local/demo/good"), Speaker(b"b" * 16, "local/demo/bad")
    bench.feed(good.hello(), bad.hello())
    assert {run.state for run in store.list_runs()} == {"running"}
    bench.feed(good.others((RecordKind.EXIT, ExitRecord(0, "finish").pack())))
    bench.feed(
        bad.others(
            (RecordKind.SIGNAL, SignalRecord(15, "SIGTERM").pack()),
            (RecordKind.EXIT, ExitRecord(143, "sys.exit").pack()),
        )
    )
    found = store.find_run("local", "demo", "good")
    assert found is not None and (found.state, found.reason) == ("finished", "exit code 0")
    found = store.find_run("local", "demo", "bad")
    assert found is not None and (found.state, found.reason) == ("killed", "killed by SIGTERM")
    assert found.first_failure is not None and found.ended_unix_ns is not None


def test_runs_are_listed_newest_first_and_filtered(bench: Bench, store: Store) -> None:
    for i in range(5):
        speaker = Speaker(bytes([65 + i]) * 16, f"local/demo/r{i}")
        bench.feed(speaker.hello(started_unix_ns=START_NS + i, config={"i": i}))
    assert [run.run_id for run in store.list_runs("local", "demo", limit=2)] == ["r4", "r3"]
    assert [run.run_id for run in store.list_runs("local", "demo", limit=2, offset=4)] == ["r0"]
    assert store.count_runs("local", "demo", where=t.runs.c.run_id.in_(["r1", "r2"])) == 2
    listed = store.list_runs(order_by=[t.runs.c.run_id])
    assert [run.config["i"] for run in listed] == [0, 1, 2, 3, 4]
    found = store.list_runs(where=t.runs.c.config_json["i"].as_integer() >= 3, order_by=[t.runs.c.run_id])
    assert [run.run_id for run in found] == ["r3", "r4"]


def test_folds_are_kept_until_dropped(bench: Bench, store: Store) -> None:
    bench.feed(Speaker(b"w" * 16).hello())
    run = only_run(store)
    assert store.load_fold(run.run_pk) is None
    store.save_fold(run.run_pk, b"state", summary={"loss": math.nan, "n": 2**70})
    assert store.load_fold(run.run_pk) == b"state"
    after = only_run(store)
    assert math.isnan(after.summary["loss"]) and after.summary["n"] == 2**70
    assert after.version > run.version
    store.drop_fold(run.run_pk)
    assert store.load_fold(run.run_pk) is None


def test_the_first_owner_cannot_commit_after_the_second_took_over(bench: Bench, store: Store) -> None:
    speaker = Speaker(b"w" * 16)
    bench.feed(speaker.hello())
    second = Bench(store, owner="second")
    assert second.cursor == "1-0"
    with pytest.raises(FencedError):
        bench.feed(speaker.rows({"loss": [1.0]}))
    assert values_of(store, "loss") == {}
    speaker.seq = 1
    second.feed(speaker.rows({"loss": [2.0]}))
    assert values_of(store, "loss") == {2: 2.0}


def test_a_store_that_is_opened_again_knows_everything(url: str, tmp_path: Path) -> None:
    store = Store.open(url)
    speaker = Speaker(b"w" * 16)
    Bench(store).feed(speaker.hello(), speaker.rows({"loss": [1.0]}))
    server_id = store.server_id
    store.close()
    store = Store.open(url)
    try:
        assert store.server_id == server_id
        bench = Bench(store)
        assert bench.cursor == "2-0"
        bench.feed(speaker.rows({"loss": [2.0]}))
        assert values_of(store, "loss") == {2: 1.0, 3: 2.0}
        assert store.accounting(only_run(store).run_pk) == Accounting(3, 3, 0, 0, 0)
    finally:
        store.close()
