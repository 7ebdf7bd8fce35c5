"""One rank of a gloo job with a known culprit: `python -m support.verdict_ranks slow|hang|stop STEPS`."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import torch
import torch.distributed as dist

import runfold

CULPRIT = {"slow": 1, "hang": 2, "stop": 2}


class Slow(torch.autograd.Function):
    """Takes its time in the backward pass."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, seconds: float) -> torch.Tensor:
        ctx.seconds = seconds
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:  # type: ignore[override]
        time.sleep(ctx.seconds)
        return gradient, None


class Net(torch.nn.Module):
    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.first, self.last, self.seconds = torch.nn.Linear(8, 8), torch.nn.Linear(8, 1), seconds

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return self.last(Slow.apply(self.first(value), self.seconds))


def load_batch(seconds: float) -> torch.Tensor:
    time.sleep(seconds)
    return torch.ones(4, 8)


def main() -> None:
    case, steps = sys.argv[1], int(sys.argv[2])
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    is_culprit = CULPRIT[case] == rank
    run = runfold.init(project="journey", settings={"finish_timeout": 20})
    run.define_metric("norm", expect="equal", rtol=1e-6)
    torch.manual_seed(1)
    ddp = torch.nn.parallel.DistributedDataParallel(Net(0.08 if case == "slow" and is_culprit else 0.0))
    if case == "slow":
        runfold.time_collectives(ddp)
    print("pid", rank, os.getpid(), flush=True)
    for step in range(steps):
        hangs = case == "hang" and is_culprit and step == steps - 1
        batch = load_batch(60.0 if hangs else 0.02)
        ddp(batch).sum().backward()
        drift = 0.5 if case == "slow" and is_culprit and step >= 7 else 0.0
        run.log({"loss": 1.0, "norm": 1.0 + drift})
    run.finish()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
