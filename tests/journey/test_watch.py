"""Watching models that are wrapped, by ranks under torchrun: the gradients are the reduced ones."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from support.processes import finish, start

pytestmark = [
    pytest.mark.journey,
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed"),
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("watch"),
]
WAYS = ("ddp", "fsdp2", "compile")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two ranks said of a model a way: one job, as each would import torch three times."""
    made = tmp_path_factory.mktemp("watched")
    options = ["--standalone", "--nproc-per-node", "2", "-m", "support.watched_ranks", str(made), *WAYS]
    finish([start("torch.distributed.run", *options, env={"RUNFOLD_DIR": str(made / "runfold")})], 150)
    return made


@pytest.mark.parametrize("way", WAYS)
def test_a_wrapped_model_tells_its_reduced_gradients(way: str, folder: Path) -> None:
    said = [json.loads((folder / f"{way}-{rank}.json").read_text()) for rank in range(2)]
    for one in said:
        logged = one["logged"][f"gradients/{one['name']}"]
        _, edges = np.histogram(np.array(one["gradient"]), 64)
        assert sum(logged["values"]) == len(one["gradient"])
        np.testing.assert_allclose(logged["bins"], edges, rtol=1e-5, atol=1e-6)
        assert f"parameters/{one['name']}" in one["logged"]
    same = (
        said[0]["logged"][f"gradients/{said[0]['name']}"] == said[1]["logged"][f"gradients/{said[1]['name']}"]
    )
    # DDP: all ranks have the mean of their gradients. FSDP: each has a part of it. Else: each its own.
    assert same == (way == "ddp")
    sizes = [len(one["gradient"]) for one in said]
    assert sum(sizes) == (32 if way == "fsdp2" else 64)
