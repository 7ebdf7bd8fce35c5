"""What a dump of a process's Python stacks says of it: whether it waits for other ranks. Pure.

Reads what faulthandler ("File "x.py", line 5 in f") and py-spy ("f (x.py:5)") write, most recent call first.
"""

from __future__ import annotations

import re

from runfold_coordinator.verdicts.stall import ELSEWHERE, UNSURE, WAITS

#: Frames looked at from the innermost on.
FRAMES = 12
_FAULTHANDLER = re.compile(r'^\s*File "(?P<file>[^"]*)", line (?P<line>\d+) in (?P<name>.*?)\s*$')
_PY_SPY = re.compile(r"^\s+(?P<name>\S+) \((?P<file>.+?)(?::(?P<line>\d+))?\)\s*$")
_THREAD = re.compile(r"^(Current thread|Thread) ")
#: Code in which ranks wait for each other.
_COLLECTIVE = re.compile(
    r"torch/distributed/(distributed_c10d|c10d_logger|_functional_collectives|nn/functional)\.py"
    r"|horovod/|mpi4py/|ray/util/collective/|deepspeed/comm/|runfold/torch_timing\.py"
)
_COLLECTIVE_NAMES = frozenset(
    {"all_reduce", "allreduce", "all_gather", "reduce_scatter", "all_to_all", "barrier", "wait_tensor"}
)
#: Calls that wait for a device or for whatever runs inside of them: a collective, or not.
_UNSURE = re.compile(r"torch/autograd/|torch/cuda/|torch/_tensor\.py")


def classify(text: str) -> tuple[str, str]:
    """Return what the main thread's stack says (WAITS, ELSEWHERE, UNSURE) and its place for people."""
    frames = main_frames(text)
    if not frames:
        return UNSURE, ""
    file, line, name = frames[0]
    place = f"{name} ({'/'.join(file.split('/')[-2:])}:{line})"
    for file, _, name in frames[:FRAMES]:
        if _COLLECTIVE.search(file) or name in _COLLECTIVE_NAMES:
            return WAITS, place
    for file, _, _ in frames[:FRAMES]:
        if _UNSURE.search(file):
            return UNSURE, place
    return ELSEWHERE, place


def main_frames(text: str) -> list[tuple[str, int, str]]:
    """Return (file, line, function) of the thread that got the signal, else of the main thread."""
    threads: list[tuple[str, list[tuple[str, int, str]]]] = []
    for row in text.splitlines():
        if _THREAD.match(row):
            threads.append((row, []))
            continue
        found = _FAULTHANDLER.match(row) or _PY_SPY.match(row)
        if found is not None and threads:
            threads[-1][1].append((found["file"], int(found["line"] or 0), found["name"]))
    for mark in ("Current thread", "MainThread"):
        for head, frames in threads:
            if mark in head and frames:
                return frames
    return threads[-1][1] if threads else []
