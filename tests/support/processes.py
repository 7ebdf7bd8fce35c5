"""Starting programs of `tests/support`, and waiting for facts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

TESTS = Path(__file__).parents[1]
T = TypeVar("T")


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return our environment without other servers' settings, with `extra` and the path to `support`."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("RUNFOLD_", "WANDB_"))}
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
    return {
        **kept,
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": "1",
        "RUNFOLD_SILENT": "1",
        "RUNFOLD_CONSOLE": "off",
        **extra,
    }


def start(
    module: str, *arguments: object, env: Mapping[str, str], **options: object
) -> subprocess.Popen[str]:
    """Start `python -m module` with its output in a pipe."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        env=environment(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,  # type: ignore[call-overload]
    )


def finish(processes: Iterable[subprocess.Popen[str]], timeout_s: float = 60.0) -> list[str]:
    """Wait for all and return their output; fails with the output of the first that did not end with 0."""
    outputs = []
    deadline = time.monotonic() + timeout_s
    running = list(processes)
    try:
        for process in running:
            output, _ = process.communicate(timeout=max(0.1, deadline - time.monotonic()))
            assert process.returncode == 0, f"status {process.returncode}:\n{output}"
            outputs.append(output)
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.communicate()
    return outputs


def until(fact: Callable[[], T], limit_s: float = 45.0, every_s: float = 0.05) -> T:
    """Poll `fact` until it is true; return what it gave."""
    deadline = time.monotonic() + limit_s
    last: Exception | None = None
    while True:
        try:
            if found := fact():
                return found
            last = None
        except AssertionError as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"it did not come about in {limit_s} s: {last or fact}") from last
        time.sleep(every_s)
