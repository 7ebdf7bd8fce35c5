"""Plain multiprocessing, spawned and forked, in shared and in grouped mode."""

from __future__ import annotations

import argparse
import multiprocessing
import sys

import numpy as np
import pytest

import runfold
from runfold_coordinator.testing import LocalServer
from support.checks import check_accounting, check_reduced
from support.known import value
from support.processes import finish, start
from support.ranks import log_known

STEPS = 120


def work(rank: int, shared: bool, name: str) -> None:
    if shared:
        settings = runfold.Settings(mode="shared", x_label=f"rank-{rank}", x_primary=rank == 0)
        log_known(rank, STEPS, explicit=rank % 2 == 0, id=name, settings=settings)
    else:
        log_known(rank, STEPS, explicit=rank % 2 == 0, group=name, id=f"{name}-{rank}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("method")
    parser.add_argument("mode")
    parser.add_argument("count", type=int)
    parser.add_argument("name")
    args = parser.parse_args()
    context = multiprocessing.get_context(args.method)
    workers = [
        context.Process(target=work, args=(rank, args.mode == "shared", args.name))
        for rank in range(args.count)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    sys.exit(max(worker.exitcode for worker in workers))


@pytest.mark.parametrize(("method", "count"), [("spawn", 2), ("fork", 8)])
def test_processes_share_one_run(server: LocalServer, name: str, method: str, count: int) -> None:
    finish([start("journey.test_multiprocessing", method, "shared", count, name, env=server.env)], 90)
    run = runfold.Api(url=server.url).run(f"journey/{name}")
    check_reduced(
        run, "loss", np.array([[value(rank, step) for step in range(STEPS)] for rank in range(count)])
    )
    check_accounting(run)
    assert sorted(writer["label"] for writer in run.writers()) == sorted(
        f"rank-{rank}" for rank in range(count)
    )


@pytest.mark.parametrize(("method", "count"), [("spawn", 3), ("fork", 5)])
def test_processes_have_a_run_each_in_one_group(
    server: LocalServer, name: str, method: str, count: int
) -> None:
    finish([start("journey.test_multiprocessing", method, "grouped", count, name, env=server.env)], 90)
    api = runfold.Api(url=server.url)
    group = api.group(f"journey/{name}")
    expected = np.array([[value(rank, step) for step in range(STEPS)] for rank in range(count)])
    rows = group.history(keys=["loss"], samples=1000, pandas=False, stats=True)
    np.testing.assert_allclose([row["loss:mean"] for row in rows], expected.mean(axis=0), rtol=1e-12)
    np.testing.assert_array_equal([row["loss:max"] for row in rows], expected.max(axis=0))
    for rank in range(count):
        run = api.run(f"journey/{name}-{rank}")
        check_accounting(run)
        assert [row["loss"] for row in run.scan_history(keys=["loss"])] == expected[rank].tolist()
        assert run.summary["loss"] == expected[rank][-1]


def test_a_forked_child_of_a_live_run_gets_a_writer_of_its_own(server: LocalServer, name: str) -> None:
    program = (
        "import os, sys, runfold\n"
        f"run = runfold.init(project='journey', id={name!r}, settings=runfold.Settings(mode='shared', x_label='parent'))\n"
        "run.log({'a': 1.0}, step=0)\n"
        "pid = os.fork()\n"
        "run.log({'a': 2.0, 'child': int(pid == 0)}, step=1)\n"
        "if pid == 0:\n"
        "    run.finish(); os._exit(0)\n"
        "os.waitpid(pid, 0)\n"
        "run.log({'a': 3.0}, step=2)\n"
        "run.finish()\n"
    )
    finish([start("support.program", program, env=server.env)], 60)
    run = runfold.Api(url=server.url).run(f"journey/{name}")
    rows = list(run.scan_history(per_writer=True))
    assert len({row["_writer"] for row in rows}) == 2
    assert sorted((row["_step"], row["a"]) for row in rows) == [(0, 1.0), (1, 2.0), (1, 2.0), (2, 3.0)]
    check_accounting(run)


if __name__ == "__main__":
    main()
