"""Ranks under torchrun: joined without configuration, reduced as numpy reduces."""

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
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed"),
    pytest.mark.timeout(180),
]


def torchrun(server: LocalServer, ranks: int, job: str, *arguments: str) -> None:
    options = [
        "--nnodes",
        "1",
        "--nproc-per-node",
        ranks,
        "--rdzv-backend",
        "c10d",
        "--rdzv-endpoint",
        "localhost:0",
        "--rdzv-id",
        job,
    ]
    finish([start("torch.distributed.run", *options, "-m", "support.ranks", *arguments, env=server.env)], 120)


@pytest.mark.parametrize(("ranks", "automatic"), [(2, False), (4, True)])
def test_ranks_join_one_shared_run_by_themselves(
    server: LocalServer, name: str, ranks: int, automatic: bool
) -> None:
    before = {run.id for run in runfold.Api(url=server.url).runs("journey")}
    torchrun(server, ranks, name, "--steps", "150", *(["--automatic"] if automatic else []))
    [run] = [run for run in runfold.Api(url=server.url).runs("journey") if run.id not in before]
    writers = run.writers()
    assert sorted(writer["rank"] for writer in writers) == list(range(ranks))
    assert {writer["state"] for writer in writers} == {"finished"}
    assert run.state == "finished"
    expected = np.array([[value(rank, step) for step in range(150)] for rank in range(ranks)])
    check_reduced(run, "loss", expected)
    tokens = [row["tokens"] for row in run.scan_history(keys=["tokens"])]
    assert tokens == [sum(rank + step for rank in range(ranks)) for step in range(150)]
    # identity, metric definition and exit of each writer are records beside its rows
    assert check_accounting(run)["stored"] >= ranks * 152


def test_a_group_keeps_a_run_for_each_rank(server: LocalServer, name: str) -> None:
    torchrun(server, 3, name, "--steps", "50", "--group", name)
    group = runfold.Api(url=server.url).group(f"journey/{name}")
    expected = np.array([[value(rank, step) for step in range(50)] for rank in range(3)])
    rows = group.history(keys=["loss"], samples=1000, pandas=False, stats=True)
    np.testing.assert_allclose([row["loss:mean"] for row in rows], expected.mean(axis=0), rtol=1e-12)
    np.testing.assert_array_equal([row["loss:min"] for row in rows], expected.min(axis=0))
