"""How long the API takes to answer for long and for wide history."""

from __future__ import annotations

import statistics
import time
import uuid
from collections.abc import Callable
from typing import Any

import runfold
from bench.figures import Figure, Report
from bench.frames import add_frames, frames_of_writer
from bench.waiting import wait_stored
from runfold_coordinator.testing import LocalServer

POINTS = 10_000_000
SERIES_GOAL_MS = 20.0
GROUP_GOAL_MS = 100.0


def measure(report: Report) -> None:
    """A 500-point series of a 10 M-point metric; mean and std over 64 ranks of 10,000 steps, both modes."""
    with LocalServer(redis_max_memory_bytes=0) as server:
        api = runfold.Api(url=server.url, timeout=120)
        long = uuid.uuid4().hex
        add_frames(server.redis_url, frames_of_writer(long, rows=POINTS, keys=1), limit_bytes=10**12)
        shared, group = uuid.uuid4().hex, uuid.uuid4().hex
        for rank in range(64):
            add_frames(
                server.redis_url,
                frames_of_writer(shared, rows=10_000, keys=1, rank=rank, world_size=64),
                limit_bytes=10**12,
            )
            add_frames(
                server.redis_url,
                frames_of_writer(f"{group}-{rank}", rows=10_000, keys=1, rank=rank, group=group),
                limit_bytes=10**12,
            )
        wait_stored(server, [long], POINTS + 2)
        wait_stored(server, [shared], 64 * 10_002)
        wait_stored(server, [f"{group}-{rank}" for rank in range(64)], 64 * 10_002)
        time.sleep(3)  # what follows a commit (compaction, folding) is not part of a read

        run = api.run(f"bench/{long}")
        _time(
            report,
            "500-point series of a 10 M-point metric",
            SERIES_GOAL_MS,
            lambda: run.history(samples=500, keys=["metric/0"], pandas=False),
            500,
        )
        ranks = api.run(f"bench/{shared}")
        _time(
            report,
            "mean +- std over 64 ranks x 10,000 steps, shared run",
            GROUP_GOAL_MS,
            lambda: ranks.history(samples=500, keys=["metric/0"], pandas=False, stats=True),
            500,
        )
        members = api.group(f"bench/{group}")
        _time(
            report,
            "mean +- std over 64 runs x 10,000 steps, group",
            GROUP_GOAL_MS,
            lambda: members.history(samples=500, keys=["metric/0"], pandas=False, stats=True),
            500,
        )


def _time(report: Report, name: str, goal_ms: float, read: Callable[[], list[Any]], at_most: int) -> None:
    rows = read()
    assert 100 <= len(rows) <= 4 * at_most, f"{name}: {len(rows)} rows"
    taken = []
    for _ in range(11):
        began = time.perf_counter()
        read()
        taken.append((time.perf_counter() - began) * 1000)
    report.add(Figure(name + ", p50", statistics.median(taken), "ms", goal_ms))
