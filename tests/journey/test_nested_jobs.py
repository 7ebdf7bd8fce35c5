"""Jobs inside of jobs: each is a run of its own, and what a rank starts is not that rank once more."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from support.spooled import read_spools

pytestmark = pytest.mark.journey

#: Starts two ranks as torchrun does when no job id is given: `launch.py PORT COMMAND...`.
LAUNCH = """
import os, subprocess, sys
port, *command = sys.argv[1:]
ranks = []
for rank in range(2):
    env = {**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
           "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port.replace("RANK", os.environ.get("RANK", "")),
           "TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_ERROR_FILE": f"/tmp/{os.getpid()}/{rank}"}
    ranks.append(subprocess.Popen(command, env=env))
sys.exit(max(rank.wait() for rank in ranks))
"""
TRAIN = """
import subprocess, sys
import runfold
run = runfold.init(project="p")
run.log({"job": 1})
if len(sys.argv) > 1:
    subprocess.run(sys.argv[1:], check=True)
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "launch.py").write_text(LAUNCH)
    (tmp_path / "train.py").write_text(TRAIN)
    return tmp_path


def ran(home: Path, *command: str) -> list[tuple[str, int | None]]:
    """Run a command; return (run, rank) of every writer."""
    env = {"RUNFOLD_DIR": str(home / "home"), "RUNFOLD_AGENT": "none", "PATH": "/usr/bin:/bin"}
    env["RUNFOLD_CONSOLE"] = "off"  # spools of processes are counted here
    subprocess.run([sys.executable, *command], env=env, cwd=home, check=True, timeout=60)
    return [(found.identity.run_id, found.identity.rank) for found in read_spools(home / "home")]


def test_a_job_that_each_rank_of_a_job_starts_is_a_run_of_its_own(home: Path) -> None:
    inner = (sys.executable, "launch.py", "290RANK", sys.executable, "train.py")
    writers = ran(home, "launch.py", "29500", sys.executable, "train.py", *inner)
    assert sorted(Counter(run for run, _ in writers).values()) == [2, 2, 2]
    for run in {run for run, _ in writers}:
        assert sorted(rank for found, rank in writers if found == run and rank is not None) == [0, 1]


def test_a_program_that_a_rank_starts_is_not_that_rank_again(home: Path) -> None:
    writers = ran(home, "launch.py", "29500", sys.executable, "train.py", sys.executable, "train.py")
    ranked = [(run, rank) for run, rank in writers if rank is not None]
    others = [run for run, rank in writers if rank is None]
    assert len({run for run, _ in ranked}) == 1
    assert sorted(rank for _, rank in ranked) == [0, 1]
    assert len({*others, ranked[0][0]}) == 3


def test_a_shell_between_launcher_and_rank_changes_nothing(home: Path) -> None:
    shell = ("/bin/sh", "-c", f"{sys.executable} train.py; true")
    writers = ran(home, "launch.py", "29500", *shell)
    assert len({run for run, _ in writers}) == 1
    assert sorted(rank for _, rank in writers if rank is not None) == [0, 1]
