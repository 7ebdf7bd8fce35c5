"""A thread that folds now and then what a run has logged, so that run.summary is whole after days too.

The agent releases segments an hour after they were delivered; who reads run.summary late needs them.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

#: Well below the time for which delivered segments are kept. A fold of a minute's rows takes milliseconds.
INTERVAL_S = 60.0


def start(
    catch_up: Callable[[], bool], *, interval_s: float = INTERVAL_S, stop: threading.Event | None = None
) -> threading.Thread:
    """Call the bound method `catch_up` every `interval_s` until it returns False or its object is gone.

    Args:
        stop: Set it to end the thread at once: finished runs should leave none behind.
    """
    thread = threading.Thread(
        target=_keep_up,
        args=(weakref.WeakMethod(catch_up), interval_s, stop or threading.Event()),
        name="runfold-keep-up",
        daemon=True,
    )
    try:
        thread.start()
    except RuntimeError:  # no more threads, or the interpreter is shutting down: the next read folds it all
        pass
    return thread


def _keep_up(
    reference: weakref.WeakMethod[Callable[[], bool]], interval_s: float, stop: threading.Event
) -> None:
    while not stop.wait(interval_s):
        catch_up = reference()
        try:
            if catch_up is None or not catch_up():
                return
        except Exception:  # noqa: BLE001  # training never stops because of us; the next read tells
            return
        del catch_up
