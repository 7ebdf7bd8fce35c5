"""Data-parallel training with PyTorch: every rank logs, and all ranks are one run.

torchrun --nproc-per-node 4 train_ddp.py
"""

import argparse
import time

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import runfold


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=32, help="per rank")
    parser.add_argument("--lr", type=float, default=0.2)
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(0)
    dist.init_process_group("gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()

    # No id, no group, no mode: started by torchrun, all ranks join one shared run by themselves.
    run = runfold.init(project="demo", name="digits-ddp", config={**vars(args), "world_size": world_size})
    # Where ranks log one name at one step, the rule reduces them; mean, min, max and std are kept anyway.
    run.define_metric("loss", summary="min,last", reduce="mean")
    run.define_metric("throughput", reduce="sum")

    digits = load_digits()
    x = torch.tensor(digits.data / 16.0, dtype=torch.float32)
    y = torch.tensor(digits.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    train, test = order[:1437], order[1437:]
    mine = train[rank::world_size]  # each rank sees its own part of the data

    model = DistributedDataParallel(nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)))
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs)
    batches = 1437 // world_size // args.batch_size

    step = 0
    for epoch in range(args.epochs):
        shuffled = mine[torch.randperm(len(mine), generator=torch.Generator().manual_seed(epoch))]
        for batch in shuffled[: batches * args.batch_size].split(args.batch_size):
            began = time.perf_counter()
            loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()  # gradients are averaged over the ranks here
            grad_norm = nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            run.log(
                {
                    "loss": loss.item(),
                    "grad_norm": grad_norm.item(),
                    "lr": schedule.get_last_lr()[0],
                    "throughput": len(batch) / (time.perf_counter() - began),
                    "epoch": epoch,
                },
                step=step,
            )
            step += 1
        schedule.step()

    if rank == 0:
        with torch.no_grad():
            accuracy = (model.module(x[test]).argmax(1) == y[test]).float().mean().item()
        run.summary["test_accuracy"] = accuracy
    run.finish()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
