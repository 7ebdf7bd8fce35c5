"""How soon a logged value can be read, and how soon a killed process is seen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid

import runfold
from bench.figures import Figure, Report
from runfold_coordinator.testing import LocalServer
from support.processes import environment

PROGRAM = """
import sys, time, runfold
run = runfold.init(project="bench", id=sys.argv[2])
step = 0
while True:
    run.log({"t": time.monotonic()}, step=step)
    step += 1
    time.sleep(0.1)
"""
ROWS = 150
VISIBLE_GOAL_S = 1.0
KILL_GOAL_S = 1.0


def measure(report: Report) -> None:
    """p99 of logged-to-visible over 150 rows at 10 a second; then kill -9 to its state on the API."""
    with LocalServer() as server:
        run_id = uuid.uuid4().hex
        process = subprocess.Popen(
            [sys.executable, "-m", "support.program", PROGRAM, run_id],
            env=environment(server.env),
            stdout=subprocess.DEVNULL,
        )
        try:
            run = _appears(server, run_id)
            delays: list[float] = []
            seen = -1
            while len(delays) < ROWS:
                for row in run.scan_history(keys=["_step", "t"], min_step=seen + 1):
                    now = time.monotonic()
                    if row["_step"] > seen:
                        seen = int(row["_step"])
                        delays.append(now - row["t"])
                time.sleep(0.01)
            delays.sort()
            report.add(Figure("logged to visible through the API, p50", delays[len(delays) // 2], "s"))
            report.add(
                Figure(
                    "logged to visible through the API, p99",
                    delays[int(len(delays) * 0.99)],
                    "s",
                    VISIBLE_GOAL_S,
                )
            )
            os.kill(process.pid, signal.SIGKILL)
            killed = time.monotonic()
        finally:
            process.kill()
            process.wait()
        api = runfold.Api(url=server.url)
        while (state := api.run(f"bench/{run_id}").state) == "running" and time.monotonic() < killed + 30:
            time.sleep(0.02)
        if state == "running":
            report.problem("30 s after kill -9 the run still reads running")
        else:
            report.add(
                Figure(
                    "kill -9 of a rank to its state on the API", time.monotonic() - killed, "s", KILL_GOAL_S
                )
            )


def _appears(server: LocalServer, run_id: str) -> runfold.api.Run:
    deadline = time.monotonic() + 30
    while True:
        try:
            return runfold.Api(url=server.url).run(f"bench/{run_id}")
        except Exception:  # not known yet
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
