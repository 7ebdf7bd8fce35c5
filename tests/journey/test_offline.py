"""Offline is the same path with nobody at the other end; `sync` gives the same result any number of times."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

import runfold
from runfold_coordinator.testing import LocalServer
from support.checks import check_accounting, check_reduced
from support.known import value
from support.processes import environment, finish, start

PROGRAM = """
import sys, runfold
from support.known import value
rank, name = int(sys.argv[2]), sys.argv[3]
run = runfold.init(project="journey", id=name, mode="offline",
                   settings=runfold.Settings(mode="shared", x_label=f"rank-{rank}", x_primary=rank == 0))
for step in range(300):
    run.log({"loss": value(rank, step)}, step=step)
run.finish()
"""


def sync(server: LocalServer, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = environment({**server.env, "RUNFOLD_DIR": str(folder)})
    return subprocess.run(
        [sys.executable, "-m", "runfold", "sync", *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_shared_ranks_train_offline_and_are_synced_twice(
    server: LocalServer, name: str, tmp_path: Path
) -> None:
    env = {"RUNFOLD_DIR": str(tmp_path), "RUNFOLD_URL": "http://127.0.0.1:9"}
    finish([start("support.program", PROGRAM, rank, name, env=env) for rank in range(2)])
    for _ in range(2):
        done = sync(server, tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    run = runfold.Api(url=server.url).run(f"journey/{name}")
    check_reduced(run, "loss", np.array([[value(rank, step) for step in range(300)] for rank in range(2)]))
    check_accounting(run)
    assert run.state == "finished"
    assert len(run.writers()) == 2


def test_a_run_started_before_the_server_is_delivered_when_it_comes(name: str, tmp_path: Path) -> None:
    program = (
        "import runfold\n"
        f"run = runfold.init(project='journey', id={name!r})\n"
        "for step in range(100): run.log({'a': step})\n"
        "run.finish()\n"
    )
    env = {"RUNFOLD_DIR": str(tmp_path / "runfold"), "RUNFOLD_FINISH_TIMEOUT": "0.5"}
    finish([start("support.program", program, env=env)])
    with LocalServer(tmp_path / "data", runfold_dir=tmp_path / "runfold") as server:
        local = {"RUNFOLD_DIR": str(tmp_path / "runfold")}
        again = "import runfold\nrun = runfold.init(project='journey', id='later'); run.finish()\n"
        finish([start("support.program", again, env=local)])
        done = sync(server, tmp_path / "runfold")
        assert done.returncode == 0, done.stdout + done.stderr
        run = runfold.Api(url=server.url).run(f"journey/{name}")
        assert [row["a"] for row in run.scan_history()] == list(range(100))
        check_accounting(run)
        listed = subprocess.run(
            [sys.executable, "-m", "runfold", "runs", "--json"],
            env=environment(local),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert name in json.dumps(json.loads(listed.stdout))
