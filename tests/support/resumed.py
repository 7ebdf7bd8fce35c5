"""A process that begins or goes on with a run, logs, says what it found, and ends. `python -m support.resumed JSON`.

The JSON: init (arguments of init()), rows (values of "loss", one a step), steps (explicit ones), summary (set by
hand), then "finish", "kill" or a file to wait for, after which `late` rows are logged; out, where it tells what
it found as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import runfold


def found_by(run: runfold.Run) -> dict[str, Any]:
    return {
        "resumed": run.resumed,
        "starting_step": run.starting_step,
        "step": run.step,
        "config": run.config.as_dict(),
        "tags": list(run.tags),
        "notes": run.notes,
        "name": run.name,
        "group": run.group,
        "start_time": run.start_time,
        "summary": {key: run.summary[key] for key in run.summary.keys() if not key.startswith("_")},
    }


def main(said: dict[str, Any]) -> None:
    began = time.monotonic()
    try:
        run = runfold.init(project="journey", **said.get("init", {}))
    except Exception as error:
        tell(said, {"error": type(error).__name__, "message": str(error), "took_s": time.monotonic() - began})
        return
    tell(said, {**found_by(run), "took_s": time.monotonic() - began})
    log(run, said.get("rows", []), said.get("steps"))
    for key, value in said.get("summary", {}).items():
        run.summary[key] = value
    then = said.get("then", "finish")
    if then == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if then != "finish":
        while not Path(then).exists():
            time.sleep(0.02)
        log(run, said.get("late", []), None)
    run.finish()


def log(run: runfold.Run, values: list[float], steps: list[int] | None) -> None:
    for at, value in enumerate(values):
        run.log({"loss": value}, step=None if steps is None else steps[at])


def tell(said: dict[str, Any], found: dict[str, Any]) -> None:
    out = Path(said["out"])
    out.with_suffix(".part").write_text(json.dumps(found))
    out.with_suffix(".part").rename(out)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
