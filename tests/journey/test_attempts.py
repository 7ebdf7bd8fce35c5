"""Restarts of a job are attempts of one run, whoever restarts it: torchelastic, Slurm, Ray."""

from __future__ import annotations

import importlib.util
import subprocess
from typing import Any

import pytest

import runfold
import runfold.api
from runfold_coordinator.testing import LocalServer
from support.processes import finish, start, until
from support.restarted import DIES_AFTER, RESUMES_AT, STEPS

PARTS = ("productive_s", "lost_s", "startup_s", "stalled_s", "restart_s", "other_s")


def new_run(server: LocalServer, before: set[str]) -> runfold.api.Run:
    [run] = [run for run in runfold.Api(url=server.url).runs("journey") if run.id not in before]
    return run


def known_runs(server: LocalServer) -> set[str]:
    return {run.id for run in runfold.Api(url=server.url).runs("journey")}


def check_two_attempts(run: runfold.api.Run, blamed: tuple[int | None, ...] = (1,)) -> list[dict[str, Any]]:
    """The restart is a second attempt that took back what the first one had logged from its checkpoint on."""
    run.wait_until_finished(timeout_s=60, poll_interval_s=0.05)
    assert run.state == "finished", run.reason
    # How the first attempt's processes ended may be known a moment later.
    return until(lambda: two_attempts(run, blamed))


def two_attempts(run: runfold.api.Run, blamed: tuple[int | None, ...]) -> list[dict[str, Any]]:
    one, two = run.attempts()
    assert (one["last_step"], one["cut_step"]) == (RESUMES_AT - 1, RESUMES_AT)
    assert one["lost_steps"] == DIES_AFTER - RESUMES_AT + 1
    assert (two["first_step"], two["last_step"], two["state"]) == (RESUMES_AT, STEPS - 1, "finished")
    assert two["first_failure"] is None and two["restart_s"] is not None
    assert one["first_failure"] is not None and one["first_failure"]["rank"] in blamed, one
    assert one["state"] in ("failed", "killed", "crashed") and one["reason"]
    assert one["failures"] >= 1
    states = {writer["attempt"]: set() for writer in run.writers()}
    for writer in run.writers():
        states[writer["attempt"]].add(writer["state"])
    assert states[2] == {"finished"} and "running" not in states[1]
    assert [row["_step"] for row in run.scan_history()] == list(range(STEPS))
    report = run.goodput()
    assert sum(report[name] for name in PARTS) == pytest.approx(report["wall_s"])
    assert report["lost_steps"] == one["lost_steps"] and report["lost_s"] > 0
    assert report["failures"] == 1 and 0 < report["ratio"] < 1
    return [one, two]


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
@pytest.mark.timeout(180)
def test_a_torchelastic_restart_is_a_second_attempt(server: LocalServer, name: str) -> None:
    before = known_runs(server)
    options = ["--nnodes", "1", "--nproc-per-node", "2", "--max-restarts", "1", "--monitor-interval", "0.1"]
    options += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "--rdzv-id", name]
    finish([start("torch.distributed.run", *options, "-m", "support.restarted", env=server.env)], 150)
    one, _ = check_two_attempts(new_run(server, before))
    assert one["state"] == "failed"
    assert "loss is not a number" in one["reason"]
    assert "ValueError" in one["first_failure"]["traceback"]


def slurm(job: str, rank: int, restarts: int) -> dict[str, str]:
    """What srun sets for a task of a step of two tasks on one node."""
    return {
        "SLURM_JOB_ID": job,
        "SLURM_STEP_ID": "0",
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
        "SLURM_NODEID": "0",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NUM_NODES": "1",
        **({"SLURM_RESTART_COUNT": str(restarts)} if restarts else {}),
    }


def test_a_requeued_slurm_job_is_a_second_attempt(server: LocalServer, name: str) -> None:
    before = known_runs(server)
    job = str(int(name, 16))
    first = [
        start("support.restarted", "--attempt", 0, "--death", "kill", env=server.env | slurm(job, rank, 0))
        for rank in range(2)
    ]
    assert first[1].wait(60) == -9
    first[0].terminate()  # as Slurm does with what is left of the step
    assert first[0].wait(60) != 0
    for process in first:
        process.communicate()
    later = [
        start("support.restarted", "--attempt", 1, env=server.env | slurm(job, rank, 1)) for rank in range(2)
    ]
    finish(later, 60)
    one, _ = check_two_attempts(new_run(server, before))
    assert one["states"].keys() <= {"killed", "crashed"}


RAY_ACTOR = """
import os, sys, ray
name = sys.argv[2]
ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)

@ray.remote(num_cpus=1, max_restarts=1, max_task_retries=1)
class Worker:
    def train(self, rank, folder):
        from support.restarted import train
        mark = os.path.join(folder, str(rank))
        attempt = os.path.exists(mark)
        open(mark, "w").close()
        train(rank, int(attempt), "kill", id=name, mode="shared", label=f"rank{rank}")

worker = Worker.remote()
ray.get(worker.train.remote(1, sys.argv[3]), timeout=120)
ray.shutdown()
"""

RAY_TRAIN = """
import sys, os
name, folder = sys.argv[2:4]
import ray, ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)

def loop(config):
    import pathlib
    import ray.train
    from support.restarted import train
    rank = ray.train.get_context().get_world_rank()
    mark = os.path.join(config["folder"], str(rank))
    attempt = os.path.exists(mark)
    open(mark, "w").close()
    train(rank, int(attempt), after=pathlib.Path(config["folder"]) / "0")

trainer = DataParallelTrainer(
    loop, train_loop_config={"folder": folder}, scaling_config=ScalingConfig(num_workers=2),
    run_config=RunConfig(name=name, storage_path=folder, failure_config=FailureConfig(max_failures=1)),
)
trainer.fit()
"""

ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")


@ray
@pytest.mark.timeout(240)
@pytest.mark.xdist_group("ray")
def test_a_restarted_ray_actor_is_a_second_attempt(server: LocalServer, name: str, tmp_path: Any) -> None:
    finish([start("support.program", RAY_ACTOR, name, tmp_path, env=server.env)], 200)
    check_two_attempts(until(lambda: runfold.Api(url=server.url).run(f"journey/{name}")), blamed=(None,))


@ray
@pytest.mark.timeout(240)
@pytest.mark.xdist_group("ray")
def test_ray_train_restarting_its_workers_is_a_second_attempt(
    server: LocalServer, name: str, tmp_path: Any
) -> None:
    before = known_runs(server)
    done = start("support.program", RAY_TRAIN, name, tmp_path, env=server.env)
    try:
        output, _ = done.communicate(timeout=200)
    except subprocess.TimeoutExpired:
        done.kill()
        raise
    assert done.returncode == 0, output[-3000:]
    # Ray kills the rank that is left at once: which of two that vanished was the first is not always known.
    check_two_attempts(new_run(server, before), blamed=(0, 1))
