"""A trainer that is to be stopped: `python -m support.stoppable WAY`, as a plain process or a rank of torchrun.

plain: as Python does by default; graceful: its handler saves, which takes SAVE_S, and it ends with status 0;
stubborn: it ignores SIGTERM; preempted: its handler says so. It logs until it is stopped, and says its pid first.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import runfold


def main(way: str) -> None:
    rank = int(os.environ.get("RANK", "0"))
    if os.environ.get("USE_GLOO"):
        import torch.distributed

        torch.distributed.init_process_group("gloo")
    run = runfold.init(project="stops", id=os.environ.get("STOP_RUN_ID"), config={"way": way})
    stopping: list[int] = []

    def save(signum: int, _frame: Any) -> None:
        stopping.append(signum)

    if way == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif way == "graceful":
        signal.signal(signal.SIGTERM, save)
    elif way == "preempted":
        signal.signal(signal.SIGTERM, lambda *_: run.mark_preempting())
    Path(os.environ["STOP_DIR"], f"pid-{rank}-{os.getpid()}").touch()
    step = 0
    while not stopping:
        run.log({"loss": 1.0 / (step + 1)}, step=step)
        step += 1
        time.sleep(0.05)
    time.sleep(float(os.environ.get("SAVE_S", "0")))
    Path(os.environ["STOP_DIR"], f"saved-{rank}").write_text(str(len(stopping)))
    run.finish()


if __name__ == "__main__":
    main(sys.argv[1])
