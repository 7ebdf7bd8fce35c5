"""Jobs with a known culprit, under torchrun with gloo: who is slow, who hangs and where, whose values drift."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import runfold
import runfold.api
from runfold_coordinator.testing import LocalServer
from support.processes import start, until

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed"),
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("verdicts"),
]


@pytest.fixture(scope="module")
def impatient() -> Iterator[LocalServer]:
    """A server that takes little silence for a hang."""
    with LocalServer(env={"RUNFOLD_STALL_MIN_S": "4", "RUNFOLD_STALL_FACTOR": "10"}) as started:
        yield started


@pytest.fixture
def job(impatient: LocalServer, name: str) -> Iterator[Callable[..., tuple[Any, subprocess.Popen[str]]]]:
    launched: list[subprocess.Popen[str]] = []

    def launch(case: str, ranks: int, steps: int) -> tuple[Any, subprocess.Popen[str]]:
        options = ["--nnodes", 1, "--nproc-per-node", ranks, "--rdzv-backend", "c10d",
                   "--rdzv-endpoint", "localhost:0", "--rdzv-id", name]  # fmt: skip
        env = {**impatient.env, "RUNFOLD_HEARTBEAT_S": "1", "RUNFOLD_JOB_TYPE": name}
        launched.append(
            start(
                "torch.distributed.run",
                *options,
                "-m",
                "support.verdict_ranks",
                case,
                steps,
                env=env,
            )
        )
        api = runfold.Api(url=impatient.url)

        def found() -> Any:
            return next(iter(api.runs("journey", filters={"jobType": name})), None)

        return until(found, 60), launched[-1]

    yield launch
    for process in launched:
        if process.poll() is None:  # a test failed: torchrun ends its workers
            process.terminate()
            process.communicate()


def loaded(run: runfold.api.Run) -> runfold.api.Run:
    run.load(force=True)
    return run


def stall_of(run: runfold.api.Run, kind: str) -> dict[str, Any] | None:
    """The stall, once it is told whom it waits for, and known from what it should be."""
    found = loaded(run).stall
    return found if found and kind in [waited["kind"] for waited in found["waiting_for"]] else None


def end(run: runfold.api.Run, process: subprocess.Popen[str]) -> None:
    """End the job: torchrun's workers are in sessions of their own."""
    process.kill()
    for writer in run.writers():
        with contextlib.suppress(ProcessLookupError):
            os.kill(writer["pid"], signal.SIGKILL)
    process.communicate()


def test_a_slow_and_drifting_rank_is_named(job: Callable[..., Any]) -> None:
    run, process = job("slow", 3, 40)
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 0, output
    run.wait_until_finished(timeout_s=60)
    (slow,) = until(lambda: loaded(run).stragglers)
    assert (slow["rank"], slow["label"]) == (1, "rank1")
    assert 0.05 < slow["excess_s"] < 1.0
    frame = run.history(keys=["timing/step"], samples=1000, stats=True)
    settled = frame["timing/step:max"][10:] - frame["timing/step:min"][10:]
    assert settled.median() < 0.05, "an all-reduce makes all steps as long"
    (found,) = until(lambda: loaded(run).desync)
    assert found == {
        "metric": "norm",
        "step": 7,
        "ranks": [1],
        "labels": ["rank1"],
        "values": [1.5],
        "expected": 1.0,
    }


def test_a_rank_that_hangs_in_data_is_named_with_its_stack(job: Callable[..., Any]) -> None:
    run, process = job("hang", 3, 20)
    stall = until(lambda: stall_of(run, "stack"), 60)
    (waited,) = stall["waiting_for"]
    assert (waited["rank"], waited["kind"], stall["others"], stall["step"]) == (2, "stack", 2, 18)
    assert "load_batch" in waited["why"]
    assert stall["stacks"][0]["rank"] == 2 and "in load_batch" in stall["stacks"][0]["text"]
    until(lambda: loaded(run).stalled and all(writer["stalled"] for writer in run.writers()))
    assert run.state == "running"
    end(run, process)


def test_a_stopped_rank_is_named_and_the_stall_ends_with_it(job: Callable[..., Any]) -> None:
    run, process = job("stop", 3, 700)
    until(lambda: loaded(run).lastHistoryStep > 30, 60)
    (pid,) = [writer["pid"] for writer in run.writers() if writer["rank"] == 2]
    os.kill(pid, signal.SIGSTOP)
    stall = until(lambda: stall_of(run, "stopped"), 60)
    assert [(found["rank"], found["kind"]) for found in stall["waiting_for"]] == [(2, "stopped")]
    os.kill(pid, signal.SIGCONT)
    until(lambda: loaded(run).stall is None and not run.stalled, 60)
    assert run.verdicts["stall_count"] == 1 and run.verdicts["stalled_s"] > 3
    end(run, process)
