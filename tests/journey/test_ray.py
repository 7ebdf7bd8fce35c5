"""Ray workers: tasks of one job join one shared run when told its id, ranks from the train context or the caller."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

import runfold
from runfold_coordinator.testing import LocalServer
from support.checks import check_accounting, check_reduced
from support.known import value
from support.processes import finish, start

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed"),
    pytest.mark.timeout(240),
    pytest.mark.xdist_group("ray"),
]

PROGRAM = """
import os, sys, ray
name = sys.argv[2]
ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)

@ray.remote(num_cpus=1)
class Worker:
    def train(self, rank):
        import runfold
        from support.known import value
        settings = runfold.Settings(mode="shared", x_label=f"rank-{rank}", x_primary=rank == 0)
        run = runfold.init(project="journey", id=name, settings=settings)
        for step in range(100):
            run.log({"loss": value(rank, step)}, step=step)
        run.finish()
        return os.getpid()

workers = [Worker.remote() for _ in range(2)]
pids = ray.get([worker.train.remote(rank) for rank, worker in enumerate(workers)], timeout=120)
assert len(set(pids)) == 2
ray.shutdown()
"""


def test_two_ray_actors_share_one_run(server: LocalServer, name: str) -> None:
    finish([start("support.program", PROGRAM, name, env=server.env)], 200)
    run = runfold.Api(url=server.url).run(f"journey/{name}")
    check_reduced(run, "loss", np.array([[value(rank, step) for step in range(100)] for rank in range(2)]))
    check_accounting(run)
    assert run.state == "finished"
