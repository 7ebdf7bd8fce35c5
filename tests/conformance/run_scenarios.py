"""Runs scenarios, each in its own process and folder, and reads back what was stored.

By hand: python tests/conformance/run_scenarios.py --out mine.json -j 2 [--only REGEX] [--module wandb-like]
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import importlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from scenario_server import Order, ScenarioServer

#: The client's own settings, as when the oracle was made: they are honoured where RUNFOLD_* says nothing.
ENV = {
    "WANDB_MODE": "offline",
    "WANDB_CONSOLE": "off",
    "WANDB_X_DISABLE_STATS": "true",
    "WANDB_X_DISABLE_META": "true",
    "WANDB_X_SAVE_REQUIREMENTS": "false",
    "WANDB_DISABLE_GIT": "true",
    "WANDB_DISABLE_CODE": "true",
    "WANDB_ERROR_REPORTING": "false",
    "NO_COLOR": "1",
}
Result = dict[str, Any]


def scenarios() -> dict[str, dict[str, Any]]:
    """Return the scenarios by name."""
    modules = [
        importlib.import_module(name)
        for name in (
            "scenarios",
            "artifact_scenarios",
            "client_scenarios",
            "family_scenarios",
            "media_scenarios",
            "table_scenarios",
        )
    ]
    return {name: scenario for module in modules for name, scenario in module.SCENARIOS.items()}


def run_one(name: str, cwd: Path, server: ScenarioServer, module: str) -> Result:
    """Run one scenario in `cwd`, which stays; return what it saw, without what was stored."""
    scenario = scenarios()[name]
    # Beside the folder: a scenario may save all that is in it.
    out, errors = cwd.with_name(f"{name}.json"), cwd.with_name(f"{name}.stderr")
    env = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB_", "RUNFOLD_"))}
    env |= {**ENV, "HOME": str(cwd), "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    status = server.run(Order(name, module, str(cwd), env, str(out), str(errors)))
    result: Result = {"group": scenario["group"], "obs": None, "escaped": None}
    result["returncode"] = "timeout" if status is None else status
    result["stderr"] = errors.read_text(errors="replace")
    if out.exists():
        result |= json.loads(out.read_text())
    elif "expect_rc" not in scenario:
        result["escaped"] = {"raised": "<process died>", "msg": result["stderr"][-600:]}
    return result


@contextlib.contextmanager
def ran(
    names: Iterable[str], *, jobs: int = 2, module: str = "runfold"
) -> Iterator[dict[str, tuple[Path, Result]]]:
    """Run scenarios; inside the context their folders exist: name -> (folder, result)."""
    base = Path(tempfile.mkdtemp(prefix="conformance-"))
    folders = {name: base / name for name in names}
    for folder in folders.values():
        folder.mkdir()

    def play(mine: list[str]) -> dict[str, Result]:
        with ScenarioServer(module) as server:
            return {name: run_one(name, folders[name], server, module) for name in mine}

    try:
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            shares = [list(folders)[number::jobs] for number in range(jobs)]
            results = {name: found for share in pool.map(play, shares) for name, found in share.items()}
        yield {name: (folder, results[name]) for name, folder in folders.items()}
    finally:
        shutil.rmtree(base, ignore_errors=True)


def main() -> None:
    """Run from the command line and write one file in the oracle's form."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--module", default="runfold")
    parser.add_argument("--reader", default="reader")
    parser.add_argument("--only", default="")
    parser.add_argument("--out", default="mine.json")
    parser.add_argument("-j", type=int, default=2)
    arguments = parser.parse_args()
    names = [name for name in scenarios() if re.search(arguments.only, name)]
    read_runs: Callable[[str], list[Any]] = importlib.import_module(arguments.reader).read_runs
    results = {}
    with ran(names, jobs=arguments.j, module=arguments.module) as done:
        for name, (folder, result) in done.items():
            results[name] = {**result, "runs": read_runs(str(folder))}
    Path(arguments.out).write_text(json.dumps({"module": arguments.module, "scenarios": results}, indent=1))


if __name__ == "__main__":
    main()
