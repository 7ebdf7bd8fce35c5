"""Memory of agent and coordinator while a backlog drains, and 1,000 writers in one shared run."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path

import runfold
from bench.figures import Figure, Report
from bench.throughput import PROGRAM
from bench.waiting import PeakMemory, wait_stored
from runfold_coordinator.testing import LocalServer
from support.processes import finish, start

SCALARS, ROWS = 100, 1_000_000
AGENT_GOAL_MB, COORDINATOR_GOAL_MB = 100.0, 500.0
WRITERS, ROWS_A_WRITER = 1000, 200

MANY = """
import os, sys, time
from pathlib import Path
from runfold.node.settings import NodeSettings
from runfold.protocol.rows import RowSchema
from runfold.spool import SpoolLimits, SpoolWriter
run_id, writers, rows = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
settings = NodeSettings.from_env(os.environ)
schema = RowSchema([(f"metric/{number}",) for number in range(4)], "dddd")
made = []
for rank in range(writers):
    identity = {"v": 1, "entity": "local", "project": "bench", "run_id": run_id, "mode": "shared", "label": f"w{rank}",
                "rank": rank, "world_size": writers, "host": "bench", "pid": os.getpid(), "started_unix_ns": time.time_ns()}
    made.append(SpoolWriter.create(settings.spool_root, settings.target, identity, limits=SpoolLimits()))
for step in range(rows):
    for rank, writer in enumerate(made):
        writer.append_row(schema, 1, step, (rank + step, rank * 0.5, step * 0.5, 1.0))
for writer in made:
    writer.close()
"""


def measure(report: Report) -> None:
    """100 M points wait in the spool; then Redis and the coordinator are there."""
    with LocalServer() as server:
        run_id = uuid.uuid4().hex
        server.kill("coordinator")
        with (
            PeakMemory(lambda: server.pids("agent")) as agent,
            PeakMemory(lambda: server.pids("coordinator")) as coordinator,
        ):
            env = {**server.env, "RUNFOLD_FINISH_TIMEOUT": "0.1", "RUNFOLD_REDIS_URL": server.redis_url}
            finish([start("support.program", PROGRAM, run_id, SCALARS, ROWS, env=env)], 300)
            time.sleep(1)
            began = time.monotonic()
            server.restart("coordinator")
            stored = wait_stored(server, [run_id], ROWS + 2, limit_s=600)
        points = SCALARS * ROWS
        report.add(
            Figure(
                "agent, peak memory with a backlog of 100 M points",
                agent.peak_bytes / 2**20,
                "MB",
                AGENT_GOAL_MB,
            )
        )
        report.add(
            Figure(
                "coordinator, peak memory with that backlog",
                coordinator.peak_bytes / 2**20,
                "MB",
                COORDINATOR_GOAL_MB,
            )
        )
        report.add(
            Figure("  draining it, coordinator's start included", points / (stored - began), "points/s")
        )


def measure_many(report: Report) -> None:
    """1,000 writers in one shared run: none lost, none doubled."""
    with LocalServer() as server:
        run_id = uuid.uuid4().hex
        finish([start("support.program", MANY, run_id, WRITERS, ROWS_A_WRITER, env=server.env)], 200)
        began = time.monotonic()
        server.restart("agent")
        # identity and rows; a spool that is closed without an exit record adds none
        stored = wait_stored(server, [run_id], WRITERS * (ROWS_A_WRITER + 1), limit_s=200)
        report.add(Figure("1,000 writers x 200 rows into one shared run", stored - began, "s"))
        run = runfold.Api(url=server.url, timeout=60).run(f"bench/{run_id}")
        counts = run.accounting()
        lost = WRITERS * (ROWS_A_WRITER + 1) - counts["stored"]
        rows = list(run.scan_history(keys=["_step", "metric/0"], page_size=1000))
        wrong = sum(row["metric/0"] != (WRITERS - 1) / 2 + row["_step"] for row in rows)
        report.add(Figure("  records lost or doubled", abs(lost), "records", 0))
        report.add(
            Figure(
                "  reduced steps that differ from numpy's", wrong + abs(len(rows) - ROWS_A_WRITER), "steps", 0
            )
        )


def folder_bytes(folder: Path) -> int:
    """Bytes of all files under a folder."""
    return sum(os.lstat(Path(base) / name).st_size for base, _, names in os.walk(folder) for name in names)
