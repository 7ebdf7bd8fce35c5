"""The thread that folds in the background, for a small share of the time."""

from __future__ import annotations

import gc
import threading

import pytest

from runfold import keep_up


class Counted:
    """Has something new `until` times, then tells that it was asked once more."""

    def __init__(self, until: int) -> None:
        self.count = 0
        self.until = until
        self.is_drained = threading.Event()

    def fold_slice(self, max_bytes: int) -> bool:
        self.count += 1
        if self.count > self.until:
            self.is_drained.set()
        return self.count <= self.until


class Broken:
    def fold_slice(self, max_bytes: int) -> bool:
        raise OSError("gone")


def test_it_folds_all_there_is_and_ends_with_its_run() -> None:
    counted, stop = Counted(until=3), threading.Event()
    thread = keep_up.start(counted, stop, idle_s=0.001)
    assert counted.is_drained.wait(10)
    assert thread.daemon
    stop.set()
    thread.join(timeout=10)
    assert not thread.is_alive()


def test_it_ends_when_nobody_holds_the_run_and_with_any_error() -> None:
    run = Counted(until=10**9)
    thread = keep_up.start(run, threading.Event(), idle_s=0.001)
    broken = Broken()
    other = keep_up.start(broken, threading.Event(), idle_s=0.001)
    del run
    gc.collect()
    for one in (thread, other):
        one.join(timeout=10)
        assert not one.is_alive()


@pytest.mark.parametrize(
    ("max_bytes", "took_s", "then"),
    [
        (16_384, keep_up.SLICE_S, 16_384),
        (16_384, 2 * keep_up.SLICE_S, 8192),
        (16_384, 0.0, 32_768),
        (16_384, 10.0, 1024),
        (1024 * 1024, 0.0, 1024 * 1024),
    ],
)
def test_slices_are_made_as_large_as_their_time_allows(max_bytes: int, took_s: float, then: int) -> None:
    assert keep_up.next_slice_bytes(max_bytes, took_s) == then
