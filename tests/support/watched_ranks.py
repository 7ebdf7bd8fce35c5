"""A rank whose models are wrapped and watched; writes what its runs say: `torchrun ... -m support.watched_ranks FOLDER WAY...`."""

from __future__ import annotations

import json
import os
import sys

import torch
import torch.distributed as dist

import runfold


def wrapped(model: torch.nn.Module, way: str) -> torch.nn.Module:
    if way == "ddp":
        return torch.nn.parallel.DistributedDataParallel(model)
    if way == "fsdp2":
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        return fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    return torch.compile(model, backend="eager")


def watch(way: str, folder: str, rank: int) -> None:
    torch.manual_seed(0)
    model = wrapped(torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1)), way)
    run = runfold.init(project="watching", mode="offline", group="g")
    run.watch(model, log="all", log_freq=2)
    for step in range(2):
        model.zero_grad()
        model(torch.full((3, 4), float(rank + 1))).sum().backward()
        run.log({"step": step})
    found = {key: value for row in run.history for key, value in row.items() if "/" in key}
    (name, gradient) = next((n, p.grad) for n, p in model.named_parameters() if n.endswith("0.weight"))
    local = gradient.to_local() if hasattr(gradient, "to_local") else gradient
    said = {"name": name, "gradient": local.reshape(-1).tolist(), "logged": found}
    with open(os.path.join(folder, f"{way}-{rank}.json"), "w") as file:
        json.dump(said, file)
    run.finish()


def main(folder: str, *ways: str) -> None:
    dist.init_process_group("gloo")
    for way in ways:
        watch(way, folder, dist.get_rank())
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
