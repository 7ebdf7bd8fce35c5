"""A thread that folds what a run logs, in small slices, so that run.summary stays whole for days.

The agent releases what was delivered when spools take too much room. Started with the first read of a run's
summary or history: most runs never ask.
"""

from __future__ import annotations

import threading
import time
import weakref
from typing import Protocol

#: Longest time for which a slice holds the interpreter's lock, about: training waits for that.
SLICE_S = 0.000_5
#: Share of one core that folding may take from training.
DUTY_RATIO = 0.02
#: Between looks while nothing is new.
IDLE_S = 5.0
_LEAST_BYTES, _MOST_BYTES = 1024, 1024 * 1024


class Foldable(Protocol):
    """A LiveFold."""

    def fold_slice(self, max_bytes: int) -> bool:
        """Fold the next `max_bytes`, about; return whether there were any."""
        ...


def start(fold: Foldable, stop: threading.Event, *, idle_s: float = IDLE_S) -> threading.Thread:
    """Fold in the background until `stop` is set or nobody else holds `fold` any more."""
    thread = threading.Thread(
        target=_keep_up, args=(weakref.ref(fold), stop, idle_s), name="runfold-keep-up", daemon=True
    )
    try:
        thread.start()
    except RuntimeError:  # no more threads, or the interpreter is shutting down: the next read folds it all
        pass
    return thread


def _keep_up(reference: weakref.ref[Foldable], stop: threading.Event, idle_s: float) -> None:
    pause_s, max_bytes = idle_s, 16 * 1024
    while not stop.wait(pause_s):
        fold = reference()
        if fold is None:
            return
        began_s = time.thread_time()
        try:
            is_new = fold.fold_slice(max_bytes)
        except Exception:  # noqa: BLE001  # training never stops because of us; the next read tells
            return
        took_s = time.thread_time() - began_s
        del fold
        max_bytes = next_slice_bytes(max_bytes, took_s)
        pause_s = took_s / DUTY_RATIO if is_new else idle_s


def next_slice_bytes(max_bytes: int, took_s: float) -> int:
    """Return how much to fold next, after `max_bytes` took so long."""
    fitting = int(max_bytes * min(SLICE_S / max(took_s, 1e-9), 2.0))
    return min(max(fitting, _LEAST_BYTES), _MOST_BYTES)
