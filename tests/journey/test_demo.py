"""The demo is the main job on real input: it must end, and its figures must make sense."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest

from support.processes import environment

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("launcher", ["torchrun", "multiprocessing"])
def test_the_demo_prints_what_it_read_back(launcher: str) -> None:
    if launcher == "torchrun" and importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    command = [sys.executable, "-m", "runfold", "demo", "--exit", "--json"]
    if launcher == "multiprocessing":
        command = [
            sys.executable,
            "-c",
            "import sys; from runfold_coordinator.demo import run_demo; sys.exit(run_demo(exit_when_done=True, as_json=True, launcher='multiprocessing'))",
        ]
    done = subprocess.run(
        command,
        env=environment({}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    ddp, folds = figures["ddp"], figures["cv"]
    assert (ddp["launcher"], ddp["ranks"], ddp["state"]) == (launcher, 4, "finished")
    assert ddp["steps"] == ddp["last_step"] + 1 == 88
    assert ddp["loss"]["min"] < ddp["loss"]["mean"] < ddp["loss"]["max"] < 1.0
    assert ddp["loss"]["count"] == 4
    assert ddp["test_accuracy"] > 0.9
    counts = ddp["accounting"]
    assert counts["acknowledged"] == counts["stored"] > 4 * 88
    assert len(folds["folds"]) == folds["accuracy"]["n"] == 5
    assert min(folds["folds"].values()) <= folds["accuracy"]["mean"] <= max(folds["folds"].values())
    assert folds["accuracy"]["std"] > 0
