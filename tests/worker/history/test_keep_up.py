"""The thread that folds now and then."""

from __future__ import annotations

import gc
import threading

from runfold import keep_up


class Counted:
    def __init__(self, until: int) -> None:
        self.count = 0
        self.until = until

    def catch_up(self) -> bool:
        self.count += 1
        return self.count < self.until


class Broken:
    def catch_up(self) -> bool:
        raise OSError("gone")


def test_it_goes_on_until_it_is_told_to_stop() -> None:
    counted = Counted(until=3)
    thread = keep_up.start(counted.catch_up, interval_s=0.001)
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert counted.count == 3
    assert thread.daemon


def test_it_ends_with_its_run_and_with_any_error() -> None:
    run = Counted(until=10**9)
    thread = keep_up.start(run.catch_up, interval_s=0.001)
    broken = Broken()
    other = keep_up.start(broken.catch_up, interval_s=0.001)
    del run
    gc.collect()
    for one in (thread, other):
        one.join(timeout=10)
        assert not one.is_alive()
    assert threading.current_thread().is_alive()
