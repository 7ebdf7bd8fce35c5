"""What sampling the node costs training: pairs of busy loops with and without it, on every core, taken in turns.

Beside the wall clock, which other load on the machine spoils, by processor time: of the loop for its work, and of
the agent.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from dataclasses import dataclass

import psutil

import runfold
from bench.figures import Figure, Report
from runfold_coordinator.testing import LocalServer
from support.processes import environment

#: Works for so long without pause, on one core, and logs now and then; prints how often it came round, in how
#: much processor time.
LOOP = """
import sys, time
import runfold
run = runfold.init(project="bench", id=sys.argv[1])
rows = [[float(i * j % 7) for j in range(40)] for i in range(40)]
def work():
    return sum(a * b for row in rows for a, b in zip(row, rows[0]))
warm_until = time.perf_counter() + 1.0
while time.perf_counter() < warm_until:
    work()
count, until, began = 0, time.perf_counter() + float(sys.argv[2]), time.process_time()
while time.perf_counter() < until:
    work()
    count += 1
    if count % 200 == 0:
        run.log({"loss": count})
print(count, time.process_time() - began, flush=True)
run.finish()
"""
SECONDS = 12.0
ROUNDS = 5
#: What a run asks for, by the name of the figure.
MODES = {
    "off": {"RUNFOLD_STATS": "0"},
    "every 10 s": {"RUNFOLD_STATS_INTERVAL_S": "10"},
    "every 1 s": {"RUNFOLD_STATS_INTERVAL_S": "1"},
}


def measure(report: Report, rounds: int = ROUNDS, seconds: float = SECONDS) -> None:
    """Median loss of speed over pairs, and the processor time of a sample."""
    rounds_of: dict[str, list[_Round]] = {mode: [] for mode in MODES}
    with LocalServer() as server:
        for number in range(rounds):
            order = list(MODES) if number % 2 == 0 else list(MODES)[::-1]
            for mode in order:
                run_id = f"{mode}-{number}".replace(" ", "")
                rounds_of[mode].append(_round(run_id, seconds, {**server.env, **MODES[mode]}, server))
        api = runfold.Api(url=server.url)
        samples = [
            row["system.agent.sample_cpu_ms"]
            for run in api.runs("bench")
            for row in run.history(stream="system", pandas=False)
        ]
    for mode in list(MODES)[1:]:
        pairs = list(zip(rounds_of[mode], rounds_of["off"], strict=True))
        for name in ("wall", "processor"):
            losses = [100 * (1 - getattr(on, name) / getattr(off, name)) for on, off in pairs]
            title = f"sampling {mode}: loss of speed by {name} time"
            report.add(Figure(f"{title}, median of pairs", statistics.median(losses), "%"))
            report.add(Figure(f"{title}, spread", statistics.pstdev(losses), "% points"))
        more_s = statistics.median(on.agent_s - off.agent_s for on, off in pairs)
        report.add(Figure(f"sampling {mode}: the agent's work", 100 * more_s / seconds, "% of a core"))
    report.add(Figure("processor time of a sample, median", statistics.median(samples), "ms"))
    report.add(
        Figure("processor time of sampling every 10 s", statistics.median(samples) / 100, "% of a core")
    )


@dataclass(frozen=True, slots=True)
class _Round:
    """Rounds of the loop a second of each clock; processor time that the agent took meanwhile."""

    wall: float
    processor: float
    agent_s: float


def _round(run_id: str, seconds: float, env: dict[str, str], server: LocalServer) -> _Round:
    before_s = _agent_s(server)
    started = [
        subprocess.Popen(
            [sys.executable, "-c", LOOP, f"{run_id}-{core}", str(seconds)],
            env=environment(env), stdout=subprocess.PIPE, text=True,
        )
        for core in range(os.cpu_count() or 1)
    ]  # fmt: skip
    said = [process.communicate(timeout=seconds + 60)[0].split() for process in started]
    count = sum(int(each[0]) for each in said)
    return _Round(count / seconds, count / sum(float(each[1]) for each in said), _agent_s(server) - before_s)


def _agent_s(server: LocalServer) -> float:
    """Return the processor time of the server's agent so far; 0 while there is none."""
    for process in psutil.process_iter(["cmdline"]):
        if "runfold.node" in (process.info["cmdline"] or []) and str(server.runfold_dir) in " ".join(
            process.info["cmdline"]
        ):
            times = process.cpu_times()
            return float(times.user + times.system)
    return 0.0
