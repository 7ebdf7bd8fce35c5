"""The same records give the same store, however they are cut into batches, however often they come."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runfold.protocol.frames import Frame
from runfold.protocol.records import ConfigRecord, ExitRecord, MetricRecord, RecordKind
from runfold_coordinator.store.store import Store
from support.frames import Bench, Speaker


def conversation(seed: int) -> list[Frame]:
    """Frames of three writers of one run, in an order that keeps each writer's own."""
    rng = random.Random(seed)
    speakers = [Speaker(bytes([65 + i]) * 16) for i in range(3)]
    lines: list[list[Frame]] = []
    for rank, speaker in enumerate(speakers):
        line = [speaker.hello(rank=rank, mode="shared", config={"rank": rank, "lr": 0.1})]
        line.append(
            speaker.others(
                (RecordKind.METRIC, MetricRecord("loss", step_metric="epoch", step_sync=True).pack()),
            )
        )
        for i in range(rng.randint(5, 12)):
            what = rng.random()
            count = rng.randint(1, 6)
            if what < 0.5:
                line.append(
                    speaker.rows({"loss": [rng.random() for _ in range(count)], "acc": [1.0] * count})
                )
            elif what < 0.7:
                line.append(
                    speaker.maps((i, {"epoch": i, "text": f"t{i}"}), (i, {"loss": 0.5, "flag": True}))
                )
            elif what < 0.8:
                line.append(speaker.gap(count))
            elif what < 0.9:
                line.append(speaker.others((RecordKind.CONFIG, ConfigRecord({"k": i}).pack())))
            else:
                line.append(speaker.others((RecordKind.CONFIG, b"\xc1"), (777, b"raw")))
        line.append(speaker.others((RecordKind.EXIT, ExitRecord(0, "finish").pack())))
        lines.append(line)
    mixed: list[Frame] = []
    while any(lines):
        mixed.append(rng.choice([line for line in lines if line]).pop(0))
    return mixed


def digest(store: Store) -> str:
    """A digest of everything that readers see, without what depends on the moment of arrival."""
    found = hashlib.sha256()
    for run in store.list_runs():
        facts: list[Any] = [
            run.config,
            run.config_conflicts,
            run.definitions,
            run.state,
            run.row_count,
            run.last_step,
        ]
        facts += [[key.key, key.kinds] for key in store.keys(run.run_pk)]
        writers = {writer.writer_pk: writer for writer in store.writers(run.run_pk)}
        for writer in writers.values():
            facts.append([writer.writer_id, writer.last_seq, writer.row_count, writer.gap_count])
            facts.append([writer.dead_letter_count, writer.state, writer.step_max, writer.exit])
        for record in store.records(run.run_pk):
            facts.append([writers[record.writer_pk].writer_id, record.seq, record.kind, record.payload])
        for letter in store.dead_letters(run.run_pk):
            facts.append([letter.lo, letter.hi, letter.reason])
        cells = sorted(
            (writers[c.writer_pk].writer_id, seq, key.key, step, t_ns, flags, repr(value))
            for key in store.keys(run.run_pk)
            for c in store.read_cells(run.run_pk, key.key)
            for seq, step, t_ns, flags, value in zip(
                c.seq.tolist(),
                c.step.tolist(),
                c.t_ns.tolist(),
                c.flags.tolist(),
                np.array(c.values, object),
                strict=True,
            )
        )
        found.update(repr([*sorted(map(repr, facts)), cells]).encode())
    return found.hexdigest()


@pytest.mark.parametrize("seed", range(6))
def test_any_batches_with_duplicates_and_restarts_give_the_same_store(seed: int, tmp_path: Path) -> None:
    frames = conversation(seed)
    plain = Store.open(f"sqlite:///{tmp_path / 'plain.db'}")
    Bench(plain).feed(*frames)
    rng = random.Random(seed + 100)
    path = f"sqlite:///{tmp_path / 'rough.db'}"
    rough = Store.open(path)
    bench = Bench(rough)
    at = 0
    while at < len(frames):
        batch = frames[max(0, at - rng.randint(0, 3)) : at + rng.randint(1, 5)]
        at = frames.index(batch[-1]) + 1
        bench.feed(*batch, *rng.sample(frames[:at], min(2, at)))
        if rng.random() < 0.3:
            rough.close()
            rough = Store.open(path)
            bench = Bench(rough)
    bench.feed(*frames)
    assert digest(rough) == digest(plain)
    rough.close()
    plain.close()


def test_a_crash_in_the_middle_of_a_transaction_leaves_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runfold_coordinator.store.errors import StoreUnavailableError

    speaker = Speaker(b"w" * 16)
    bench.feed(speaker.hello())
    rows = speaker.rows({"loss": [1.0, 2.0]})
    before = digest(bench.store)
    with monkeypatch.context() as patch:
        patch.setattr(
            bench.ingest._catalogs, "save", lambda tx: (_ for _ in ()).throw(StoreUnavailableError("gone"))
        )
        with pytest.raises(StoreUnavailableError):
            bench.feed(rows)
    assert digest(bench.store) == before
    assert bench.ingest.committed_cursor() == "1-0"
    bench.feed(rows)
    assert digest(bench.store) != before
