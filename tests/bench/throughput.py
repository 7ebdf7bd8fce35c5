"""From `log()` to durably stored, and ingest alone with all frames waiting in Redis."""

from __future__ import annotations

import time
import uuid

from bench.figures import Figure, Report
from bench.frames import add_frames, frames_of_writer
from bench.waiting import wait_stored
from runfold_coordinator.testing import LocalServer
from support.processes import finish, start

PROGRAM = """
import sys, time, runfold
run_id, scalars, rows = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
run = runfold.init(project="bench", id=run_id)
row = {f"metric/{number}": 0.5 + number for number in range(scalars)}
print(time.monotonic(), flush=True)
for step in range(rows):
    row["metric/0"] = step * 0.1
    run.log(row)
print(time.monotonic(), flush=True)
run.finish()
print(time.monotonic(), flush=True)
"""
GOAL_POINTS_S = 3e6
INGEST_GOAL_POINTS_S = 10e6
#: finish() after 1 M rows.
FINISH_GOAL_S = 5.0


def measure(report: Report) -> None:
    """Points a second for 8 and 100 scalars a row, from one process and from two; `finish()` on the way."""
    for scalars, rows, processes in ((8, 1_000_000, 1), (8, 1_000_000, 2), (100, 200_000, 1)):
        with LocalServer() as server:
            env = {**server.env, "RUNFOLD_FINISH_TIMEOUT": "120"}
            run_ids = [uuid.uuid4().hex for _ in range(processes)]
            running = [
                start("support.program", PROGRAM, run_id, scalars, rows, env=env) for run_id in run_ids
            ]
            stored = wait_stored(server, run_ids, processes * (rows + 2))
            times = [[float(text) for text in output.split()[:3]] for output in finish(running, 200)]
            began, logged, finished = (
                pick(column) for pick, column in zip((min, max, max), zip(*times), strict=True)
            )
            name = f"{scalars} scalars a row, {processes} process{'es' if processes > 1 else ''}"
            goal = GOAL_POINTS_S if (scalars, processes) == (8, 2) else None
            points = processes * scalars * rows
            report.add(Figure(f"log -> durable, {name}", points / (stored - began), "points/s", goal, True))
            report.add(Figure(f"  of it log() alone, {name}", points / (logged - began), "points/s"))
            if (rows, processes) == (1_000_000, 1):
                report.add(
                    Figure("finish() after 1 M rows of 8 scalars", finished - logged, "s", FINISH_GOAL_S)
                )


def measure_ingest(report: Report) -> None:
    """The coordinator alone: frames wait in Redis, then it starts."""
    for scalars, rows, goal in ((8, 2_000_000, None), (100, 300_000, INGEST_GOAL_POINTS_S)):
        with LocalServer(redis_max_memory_bytes=0) as server:
            run_id = uuid.uuid4().hex
            server.stop("coordinator")
            add_frames(
                server.redis_url, frames_of_writer(run_id, rows=rows, keys=scalars), limit_bytes=10**12
            )
            began = time.monotonic()
            server.cont("coordinator")
            stored = wait_stored(server, [run_id], rows + 2)
            report.add(
                Figure(
                    f"ingest alone, {scalars} scalars a row",
                    scalars * rows / (stored - began),
                    "points/s",
                    goal,
                    True,
                )
            )
