"""Data-parallel training with nothing but numpy and multiprocessing: gradients averaged in shared memory.

python train_ddp_numpy.py --workers 4
"""

import argparse
import multiprocessing
import time
import uuid

import numpy as np
from sklearn.datasets import load_digits

import runfold

CLASSES = 10


class AllReduce:
    """Averages one array over all workers: each writes its row, all wait, all read."""

    def __init__(self, workers: int, size: int) -> None:
        self.shape = (workers, size)
        self.memory = multiprocessing.get_context("spawn").RawArray("d", workers * size)
        self.barrier = multiprocessing.get_context("spawn").Barrier(workers)

    def mean(self, rank: int, values: np.ndarray) -> np.ndarray:
        rows = np.frombuffer(self.memory).reshape(self.shape)
        rows[rank] = values
        self.barrier.wait(60)
        result: np.ndarray = rows.mean(axis=0)
        self.barrier.wait(60)  # nobody overwrites before all have read
        return result


def gradient(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Loss and gradient of softmax regression."""
    logits = x @ weights
    logits -= logits.max(axis=1, keepdims=True)
    chances = np.exp(logits)
    chances /= chances.sum(axis=1, keepdims=True)
    rows = np.arange(len(y))
    loss = -np.log(chances[rows, y] + 1e-12).mean()
    chances[rows, y] -= 1
    return float(loss), x.T @ chances / len(y)


def train(rank: int, workers: int, run_id: str, args: argparse.Namespace, reduce: AllReduce) -> None:
    # Plain multiprocessing has no launcher to ask, so the run is named: same id, shared mode, own label.
    run = runfold.init(
        project="demo",
        id=run_id,
        name="digits-ddp",
        config={"epochs": args.epochs, "batch_size": args.batch_size, "lr": args.lr, "world_size": workers},
        settings=runfold.Settings(mode="shared", x_label=f"rank-{rank}", x_primary=rank == 0),
    )
    run.define_metric("loss", summary="min,last", reduce="mean")
    run.define_metric("throughput", reduce="sum")

    digits = load_digits()
    x = np.hstack([digits.data / 16.0, np.ones((len(digits.data), 1))])
    y = digits.target
    order = np.random.default_rng(1).permutation(len(x))
    train_rows, test_rows = order[:1437], order[1437:]
    mine = train_rows[rank::workers]  # each worker sees its own part of the data
    weights = np.zeros((x.shape[1], CLASSES))
    velocity = np.zeros_like(weights)
    batches = 1437 // workers // args.batch_size

    step = 0
    for epoch in range(args.epochs):
        lr = args.lr * 0.5 * (1 + np.cos(np.pi * epoch / args.epochs))
        shuffled = np.random.default_rng(epoch).permutation(mine)[: batches * args.batch_size]
        for batch in shuffled.reshape(batches, args.batch_size):
            began = time.perf_counter()
            loss, own = gradient(weights, x[batch], y[batch])
            averaged = reduce.mean(rank, own.ravel()).reshape(weights.shape)
            velocity = 0.9 * velocity - lr * averaged
            weights = weights + velocity
            run.log(
                {
                    "loss": loss,
                    "grad_norm": float(np.linalg.norm(averaged)),
                    "lr": float(lr),
                    "throughput": len(batch) / (time.perf_counter() - began),
                    "epoch": epoch,
                },
                step=step,
            )
            step += 1

    if rank == 0:
        run.summary["test_accuracy"] = float(
            (np.argmax(x[test_rows] @ weights, axis=1) == y[test_rows]).mean()
        )
    run.finish()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=32, help="per worker")
    parser.add_argument("--lr", type=float, default=0.2)
    args = parser.parse_args()

    run_id = f"digits-{uuid.uuid4().hex[:8]}"
    reduce = AllReduce(args.workers, 65 * CLASSES)
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=train, args=(rank, args.workers, run_id, args, reduce))
        for rank in range(args.workers)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit(f"a worker failed: {[worker.exitcode for worker in workers]}")


if __name__ == "__main__":
    main()
