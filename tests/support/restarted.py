"""A rank that is restarted: logs with explicit steps, dies in its first attempt, goes on from its checkpoint.

`python -m support.restarted --attempt N`: with `--attempt 0` rank 1 dies after step 8, as `--death` says; later
attempts begin at step 5. Under torchrun the attempt is TORCHELASTIC_RESTART_COUNT.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from pathlib import Path

import runfold

DIES_AFTER, RESUMES_AT, STEPS = 8, 5, 12


def train(
    rank: int, attempt: int, death: str = "exception", after: Path | None = None, **init: object
) -> None:
    """Log steps of one attempt.

    Args:
        after: Rank 1 dies once this file is there: the others have begun.
    """
    run = runfold.init(project="journey", **init)
    for step in range(RESUMES_AT if attempt else 0, STEPS):
        run.log({"loss": float(step), "rank": rank}, step=step)
        time.sleep(0.01)
        if attempt == 0 and step == DIES_AFTER:
            if rank == 1:
                while after is not None and not after.exists():
                    time.sleep(0.05)
                die(death)
            time.sleep(60)  # the others wait in a collective, until the launcher ends them
    run.finish()


def die(how: str) -> None:
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise ValueError("loss is not a number")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--attempt", type=int, default=int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")))
    parser.add_argument("--death", default="exception")
    args = parser.parse_args()
    train(int(os.environ.get("RANK") or os.environ["SLURM_PROCID"]), args.attempt, args.death)


if __name__ == "__main__":
    main()
