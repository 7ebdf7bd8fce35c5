"""One rank of a job for tests: logs known values under whatever launched it. `python -m support.ranks`."""

from __future__ import annotations

import argparse
import os

import runfold
from support.known import value


def log_known(rank: int, steps: int, *, explicit: bool, **init: object) -> None:
    """Log value(rank, step) as "loss" at each step and end the run."""
    run = runfold.init(project="journey", **init)
    run.define_metric("tokens", reduce="sum")
    for step in range(steps):
        row = {"loss": value(rank, step), "tokens": rank + step, "nested": {"rank": rank}}
        if explicit:
            run.log(row, step=step)
        else:
            run.log(row)
    run.finish()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--automatic", action="store_true")
    parser.add_argument("--id")
    parser.add_argument("--group")
    args = parser.parse_args()
    init = {name: text for name, text in (("id", args.id), ("group", args.group)) if text}
    log_known(int(os.environ["RANK"]), args.steps, explicit=not args.automatic, **init)


if __name__ == "__main__":
    main()
