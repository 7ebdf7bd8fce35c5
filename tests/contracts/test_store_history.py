"""History in every store: pieces, bounds, rollups, merging, cold files; on SQLite and on PostgreSQL."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from runfold.protocol.frames import Frame
from runfold_coordinator.store.compaction import Compactor
from runfold_coordinator.store.model import Accounting
from runfold_coordinator.store.store import Store
from support.frames import Bench, Speaker, float_block, only_run, values_of


def test_frames_of_one_batch_become_one_chunk(bench: Bench, store: Store) -> None:
    speaker = Speaker(b"w" * 16)
    frames = [speaker.hello()] + [speaker.rows({"loss": [float(i)] * 10}) for i in range(20)]
    bench.feed(*frames)
    blocks = list(
        store.read_blocks(only_run(store).run_pk, store.writers(only_run(store).run_pk)[0].writer_pk)
    )
    assert len(blocks) == 1
    assert blocks[0].seq.tolist() == list(range(2, 202))
    assert values_of(store, "loss")[201] == 19.0


def test_reads_keep_to_their_bounds(bench: Bench, store: Store) -> None:
    speaker = Speaker(b"w" * 16)
    bench.feed(speaker.hello(), speaker.rows({"loss": [float(i) for i in range(100)]}))
    bench.feed(speaker.maps(*((100 + i, {"loss": float(100 + i)}) for i in range(50))))
    assert sorted(values_of(store, "loss", step_min=90, step_max=109).values()) == [
        float(i) for i in range(90, 110)
    ]
    assert sorted(values_of(store, "loss", seq_after=101, seq_max=103)) == [102, 103]
    writer_pk = store.writers(only_run(store).run_pk)[0].writer_pk
    blocks = list(store.read_blocks(only_run(store).run_pk, writer_pk, seq_after=150))
    assert [block.seq.tolist() for block in blocks] == [[151]]
    assert blocks[0].columns["loss"][0].values.tolist() == [149.0]  # type: ignore[union-attr]
    assert values_of(store, "loss", writer_pks=[writer_pk + 12345]) == {}


def test_blocks_of_some_keys_have_all_rows_and_these_columns(bench: Bench, store: Store) -> None:
    speaker = Speaker(b"w" * 16)
    wide = {f"k{at}": [float(at)] * 2000 for at in range(5)}
    bench.feed(speaker.hello(), speaker.rows(wide), speaker.rows({"other": [1.0] * 3}))
    run_pk, writer_pk = only_run(store).run_pk, store.writers(only_run(store).run_pk)[0].writer_pk
    whole = list(store.read_blocks(run_pk, writer_pk, step_min=1500))
    for keys in ({"k1", "k3", "nowhere"}, {"other"}, set[str]()):
        some = list(store.read_blocks(run_pk, writer_pk, step_min=1500, keys=keys))
        assert [block.seq.tolist() for block in some] == [block.seq.tolist() for block in whole]
        for block, full in zip(some, whole, strict=True):
            assert block.columns.keys() == full.columns.keys() & keys
            for key, [column] in block.columns.items():
                assert np.array_equal(column.values, full.columns[key][0].values)


def test_interleaved_key_sets_keep_their_seqs(bench: Bench, store: Store) -> None:
    speaker = Speaker(b"w" * 16)
    hello = speaker.hello()
    train = float_block(2, {"train": [1.0, 2.0]}, seqs=[2, 4])
    val = float_block(3, {"val": [10.0, 20.0]}, seqs=[3, 5])
    bench.feed(hello, Frame(speaker.writer, speaker.run_path, 2, 5, blocks=(train, val)))
    assert values_of(store, "train") == {2: 1.0, 4: 2.0}
    assert values_of(store, "val") == {3: 10.0, 5: 20.0}


def test_rollups_keep_every_extreme(bench: Bench, store: Store) -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=5000)
    values[1234], values[17] = math.nan, -1e9
    speaker = Speaker(b"w" * 16)
    bench.feed(speaker.hello(), speaker.rows({"loss": values.tolist()}))
    (rollup,) = store.read_rollups(only_run(store).run_pk, "loss")
    assert rollup.count.sum() == 4999 and rollup.nan_count.sum() == 1
    assert rollup.max.max() == np.nanmax(values) and rollup.min[0] == -1e9
    assert rollup.argmin_step[0] == 17
    assert rollup.sum.sum() == pytest.approx(np.nansum(values))
    assert (rollup.seq_first[0], rollup.seq_last[-1]) == (2, 5001)
    bench.feed(speaker.rows({"loss": [7.0, 8.0]}, steps=[6000, 6001]))
    small = list(store.read_rollups(only_run(store).run_pk, "loss"))[1]
    assert (small.min.tolist(), small.step_max.tolist()) == ([7.0], [6001])


def test_merging_small_chunks_changes_nothing_that_is_read(bench: Bench, store: Store) -> None:
    speaker = Speaker(b"w" * 16)
    bench.feed(speaker.hello())
    for i in range(40):
        bench.feed(
            speaker.rows({"loss": [float(i)], "acc": [1.0 - i]}),
            speaker.maps((i, {f"k{i % 3}": "x", "n": i})),
        )
    run = only_run(store)
    writer_pk = store.writers(run.run_pk)[0].writer_pk
    before = {key: values_of(store, key) for key in ("loss", "acc", "k0", "k2", "n")}
    pieces = len(list(store.read_blocks(run.run_pk, writer_pk)))
    compactor = Compactor(store)
    assert compactor.merge_some()
    assert not compactor.merge_some()
    assert len(list(store.read_blocks(run.run_pk, writer_pk))) == 2 < pieces
    assert {key: values_of(store, key) for key in before} == before


def test_a_quiet_run_is_merged_whole_and_then_left_alone(bench: Bench, store: Store) -> None:
    speakers = [Speaker(bytes([65 + i]) * 16) for i in range(3)]
    bench.feed(*(speaker.hello(rank=i, mode="shared") for i, speaker in enumerate(speakers)))
    for i in range(5):
        bench.feed(*(speaker.rows({"loss": [float(i)]}) for speaker in speakers[:2]))
    bench.feed(speakers[2].rows({"loss": [9.0]}))
    run = only_run(store)
    before = values_of(store, "loss")
    compactor = Compactor(store)
    assert not compactor.settle_some(run.updated_unix_s)
    assert compactor.settle_some(run.updated_unix_s + 1)
    assert not compactor.settle_some(run.updated_unix_s + 1)
    assert len(list(store.read_cells(run.run_pk, "loss"))) == 3
    assert values_of(store, "loss") == before


def test_cold_history_reads_as_the_hot_did(bench: Bench, store: Store, tmp_path: Path) -> None:
    speaker = Speaker(b"w" * 16)
    rng = np.random.default_rng(2)
    loss = rng.normal(size=3000)
    loss[5] = math.nan
    bench.feed(speaker.hello(), speaker.rows({"loss": loss.tolist(), "acc": loss.tolist()}))
    bench.feed(
        speaker.maps(*((3000 + i, {"text": f"t{i}", **({"b": True} if i % 2 else {})}) for i in range(9)))
    )
    run = only_run(store)
    keys = ("loss", "acc", "text", "b")
    before = {key: repr(values_of(store, key)) for key in keys}
    rollups = [(r.min.tobytes(), r.argmax_step.tobytes()) for r in store.read_rollups(run.run_pk, "acc")]
    compactor = Compactor(store)
    while compactor.cool_some(run.updated_unix_s + 1):
        pass
    assert {key: repr(values_of(store, key)) for key in keys} == before
    assert [
        (r.min.tobytes(), r.argmax_step.tobytes()) for r in store.read_rollups(run.run_pk, "acc")
    ] == rollups
    assert len(list((tmp_path / "cold").rglob("*.parquet"))) == 2
    assert values_of(store, "acc", step_min=10, step_max=11) == {12: loss[10], 13: loss[11]}
    bench.feed(speaker.rows({"loss": [42.0]}, steps=[9999]))
    assert values_of(store, "loss", step_min=9999) == {speaker.seq: 42.0}


def test_full_chunks_of_a_run_that_goes_on_move_to_files(bench: Bench, store: Store, tmp_path: Path) -> None:
    speaker = Speaker(b"w" * 16)
    bench.feed(speaker.hello(), speaker.rows({"loss": np.arange(40_000.0).tolist()}))
    compactor = Compactor(store)
    assert not compactor.cool_full()
    before = values_of(store, "loss")
    assert compactor.cool_full(hot_bytes=1000)
    assert not compactor.cool_full(hot_bytes=1000)
    assert len(list((tmp_path / "cold").rglob("*.parquet"))) == 1
    assert values_of(store, "loss") == before
    bench.feed(speaker.rows({"loss": [-5.0, -6.0]}, steps=[7, 40_001]))
    assert not compactor.cool_full(hot_bytes=1000)
    assert values_of(store, "loss", step_max=7, seq_after=8) == {9: 7.0, 40_002: -5.0}
    rollups = list(store.read_rollups(only_run(store).run_pk, "loss"))
    assert min(rollup.min.min() for rollup in rollups) == -6.0
    assert sum(int(rollup.count.sum()) for rollup in rollups) == 40_002


def test_many_keys_and_many_writers(bench: Bench, store: Store) -> None:
    speakers = [Speaker(i.to_bytes(16, "big")) for i in range(1, 200)]
    bench.feed(*(speaker.hello(rank=i, mode="shared") for i, speaker in enumerate(speakers)))
    bench.feed(*(speaker.rows({f"k{i}": [float(i)], "all": [1.0]}) for i, speaker in enumerate(speakers)))
    run = only_run(store)
    assert len(store.keys(run.run_pk)) == 200
    assert len(list(store.read_cells(run.run_pk, "all"))) == 199
    assert store.accounting(run.run_pk) == Accounting(398, 398, 0, 0, 0)


def test_keys_that_look_alike_are_kept_apart(bench: Bench, store: Store) -> None:
    speaker = Speaker(b"w" * 16)
    names = ["a.b", "a\\.b", "a\0b", "a\\0b", "", "é" * 1000]
    bench.feed(speaker.hello(), speaker.maps(*((i, {name: i}) for i, name in enumerate(names))))
    from runfold.protocol.keypath import encode_path

    assert {row.key for row in store.keys(only_run(store).run_pk)} == {encode_path((name,)) for name in names}
    for i, name in enumerate(names):
        assert list(values_of(store, encode_path((name,))).values()) == [i]
