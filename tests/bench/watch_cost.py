"""What watching a model costs its training: by processor time, by turns with and without, beside W&B."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from bench.figures import Figure, Report
from bench.log_cost import PEERS_PYTHON
from support.processes import environment

ROUNDS = 8
LOG_FREQS = (10, 100)


def measure(report: Report) -> None:
    """Median loss of speed over rounds, of a small transformer with log="all"."""
    libraries = {"runfold": Path(sys.executable)}
    if _has(PEERS_PYTHON, "wandb") and _has(PEERS_PYTHON, "torch"):
        libraries["wandb"] = PEERS_PYTHON
    else:
        report.problem("wandb and torch are not installed in build/peers: watch() has no peer")
    for log_freq in LOG_FREQS:
        for library, python in libraries.items():
            command = [python, "-m", "bench.watch_loop", library, str(log_freq), str(ROUNDS)]
            env = environment({"WANDB_SILENT": "true"})
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600, check=True)
            rounds = json.loads(done.stdout.strip().splitlines()[-1])
            losses = [100 * (watched / plain - 1) for plain, watched in rounds]
            title = f"{library} watch(log='all', log_freq={log_freq}): more processor time a step"
            report.add(Figure(f"{title}, median", statistics.median(losses), "%"))
            report.add(Figure(f"{title}, spread", statistics.pstdev(losses), "% points"))


def _has(python: Path, module: str) -> bool:
    command = [str(python), "-c", f"import {module}"]
    return (
        os.access(python, os.X_OK)
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )
