"""Rollups that were decoded once are kept, within a bound."""

from __future__ import annotations

import numpy as np

from runfold_coordinator.store.rollup_cache import RollupCache
from runfold_coordinator.store.store import Store
from support.frames import Bench, Speaker, only_run


def test_the_least_recently_used_go_first() -> None:
    cache = RollupCache(max_bytes=100_000)
    for chunk_pk in range(20):
        cache.put(chunk_pk, 1, [("d", {"min": np.zeros(1000)})])
        assert cache.get(0, 1) is not None
        assert cache.byte_count <= 100_000
    assert cache.get(1, 1) is None and cache.get(19, 1) is not None
    assert cache.get(19, 2) is None
    cache.put(99, 1, [("d", {"min": np.zeros(100_000)})])
    assert cache.get(99, 1) is None


def test_rollups_read_again_are_the_same_and_new_chunks_are_seen(sqlite_store: Store) -> None:
    bench = Bench(sqlite_store)
    speaker = Speaker(b"w" * 16)
    bench.feed(speaker.hello(), speaker.rows({"loss": np.arange(5000.0).tolist(), "acc": [1.0] * 5000}))

    def read() -> list[tuple[float, float]]:
        found = bench.store.read_rollups(only_run(bench.store).run_pk, "loss")
        return [(low, high) for rollup in found for low, high in zip(rollup.min, rollup.max, strict=True)]

    first = read()
    assert len(first) == 20 and read() == first
    bench.feed(speaker.rows({"loss": [-1.0]}))
    assert sorted(read()) == sorted([*first, (-1.0, -1.0)])
