"""A rank that trains until one of them fails: `python -m support.failing_rank PROJECT HOW`, under a launcher.

HOW: "raise" or "kill", done by the rank with the highest number; the others wait until they are ended.
"""

from __future__ import annotations

import os
import signal
import sys
import time

import runfold


def main() -> None:
    """Log, meet the others through the run's directory, then fail or wait."""
    project, how = sys.argv[1:3]
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    with_group = {"group": os.environ["FAIL_GROUP"]} if "FAIL_GROUP" in os.environ else {}
    run = runfold.init(project=project, **with_group)
    for step in range(20):
        run.log({"loss": float(rank)}, step=step)
    if rank != world - 1:
        time.sleep(120)
    # The others' first rows are on their way.
    time.sleep(3)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise ValueError("no more")


if __name__ == "__main__":
    main()
