"""What one `log()` costs the training process, beside the peers that are installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench.figures import Figure, Report
from runfold_coordinator.testing import LocalServer
from support.processes import environment

HERE = Path(__file__).parent
#: Where `make bench` installs the peers, apart from us.
PEERS_PYTHON = HERE.parents[1] / "build" / "peers" / "bin" / "python"
#: Scalars a row: (calls of ours, calls of a peer).
CALLS = {1: (100_000, 2000), 8: (100_000, 2000), 100: (20_000, 300)}
GOALS_US = {8: (2.0, 10.0)}


def measure(report: Report) -> None:
    """p50 and p99 in microseconds, with a live agent and server on the same cores; then peers."""
    with LocalServer() as server:
        for scalars, (calls, _) in CALLS.items():
            command = [sys.executable, HERE / "log_runfold.py", str(scalars), str(calls)]
            _add(report, "runfold", scalars, command, environment(server.env), GOALS_US.get(scalars))
    for library in ("trackio", "wandb", "mlflow"):
        if (
            not PEERS_PYTHON.exists()
            or subprocess.run(
                [PEERS_PYTHON, "-c", f"import {library}"], capture_output=True, check=False
            ).returncode
        ):
            report.problem(f"{library} is not installed in build/peers: not measured")
            continue
        for scalars, (_, calls) in CALLS.items():
            command = [PEERS_PYTHON, HERE / "log_peer.py", library, str(scalars), str(calls)]
            try:
                _add(report, library, scalars, command, environment({}), None)
            except (subprocess.SubprocessError, ValueError) as error:
                report.problem(f"{library}, {scalars} scalars: {str(error)[-200:]}")
                break


def _add(
    report: Report,
    library: str,
    scalars: int,
    command: list[str | Path],
    env: dict[str, str],
    goals: tuple[float, float] | None,
) -> None:
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=True)
    taken = sorted(json.loads(done.stdout.strip().splitlines()[-1])["taken"])
    p50, p99 = (taken[int(len(taken) * share)] / 1000 for share in (0.5, 0.99))
    report.add(Figure(f"{library} log(), {scalars} scalars, p50", p50, "us", goals[0] if goals else None))
    report.add(Figure(f"{library} log(), {scalars} scalars, p99", p99, "us", goals[1] if goals else None))
