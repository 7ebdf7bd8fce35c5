"""One rank fails under torchrun: it is named, and the ranks that torchrun ends for it are not."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Any

import pytest

import runfold
from runfold_coordinator.testing import LocalServer
from support.processes import environment, until

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed"),
    pytest.mark.timeout(180),
]
TERMINAL = {"finished", "failed", "killed", "crashed", "preempted"}


def torchrun(server: LocalServer, job: str, how: str, **env: str) -> None:
    options = (
        "--nnodes 1 --nproc-per-node 3 --rdzv-backend c10d --rdzv-endpoint localhost:0 --rdzv-id".split()
    )
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        *options,
        job,
        "-m",
        "support.failing_rank",
        job,
        how,
    ]
    done = subprocess.run(
        command, env=environment({**server.env, **env}), capture_output=True, check=False, timeout=120
    )
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("how", "state", "reason", "after"),
    [
        ("raise", "failed", "ValueError: no more", "after rank 2 failed"),
        ("kill", "killed", "killed by SIGKILL, sender unknown", "after rank 2 was killed"),
    ],
)
def test_the_failing_rank_is_named_in_a_shared_run(
    server: LocalServer, name: str, how: str, state: str, reason: str, after: str
) -> None:
    torchrun(server, name, how)

    def ended() -> Any:
        runs = list(runfold.Api(url=server.url).runs(name))
        # A peer may be known to have ended before it is known why.
        is_over = runs and all(run.state in TERMINAL and len(followers(run)) == 2 for run in runs)
        return runs if is_over else None

    [run] = until(ended)
    assert (run.state, run.reason) == (state, f"rank 2: {reason}")
    failure = run.first_failure
    assert failure is not None
    assert (failure["rank"], failure["reason"]) == (2, reason)
    assert sorted(part["rank"] for part in failure["induced"]) == [0, 1]
    assert ("no more" in (failure["traceback"] or "")) == (how == "raise")
    writers = {writer["rank"]: writer for writer in run.writers()}
    for rank in (0, 1):
        assert writers[rank]["state"] == "killed"
        assert writers[rank]["reason"].startswith("killed by SIGTERM") and writers[rank]["reason"].endswith(
            after
        )


def followers(run: Any) -> list[Any]:
    """The ranks that the first failure took along, as far as is known."""
    return list((run.first_failure or {}).get("induced") or ())


def test_the_failing_rank_is_named_for_a_group_of_runs(server: LocalServer, name: str) -> None:
    torchrun(server, name, "raise", FAIL_GROUP=name)
    api = runfold.Api(url=server.url)

    def ended() -> Any:
        found = api.group(f"{name}/{name}")
        is_over = sum(found.states.get(state, 0) for state in TERMINAL) == 3 and len(followers(found)) == 2
        return found if is_over else None

    group = until(ended)
    failure = group.first_failure
    assert failure is not None
    assert (failure["rank"], failure["reason"]) == (2, "ValueError: no more")
    assert sorted(part["rank"] for part in failure["induced"]) == [0, 1]
    assert api.run(f"{name}/{failure['run']}").state == "failed"
