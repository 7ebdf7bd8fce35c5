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
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent

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
TIMEOUT_S = 60.0

Result = dict[str, Any]


def scenarios() -> dict[str, dict[str, Any]]:
    """Return the scenarios by name."""
    if str(HERE) not in sys.path:
        sys.path.insert(0, str(HERE))
    modules = [importlib.import_module(name) for name in ("scenarios", "media_scenarios", "table_scenarios")]
    return {name: scenario for module in modules for name, scenario in module.SCENARIOS.items()}


def run_one(name: str, cwd: Path, *, module: str = "runfold") -> Result:
    """Run one scenario in `cwd`, which stays; return what it saw, without what was stored."""
    scenario = scenarios()[name]
    out = cwd / "__out.json"
    env = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB_", "RUNFOLD_"))}
    env |= {**ENV, "HOME": str(cwd), "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, __file__, "--child", name, "--child-out", str(out), "--module", module]
    result: Result = {"group": scenario["group"], "obs": None, "escaped": None}
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
        result["returncode"], stderr = done.returncode, done.stderr
    except subprocess.TimeoutExpired as error:
        stderr = (error.stderr or b"").decode(errors="replace") if isinstance(error.stderr, bytes) else ""
        result["returncode"] = "timeout"
    result["stderr"] = stderr
    if out.exists():
        result |= json.loads(out.read_text())
    elif "expect_rc" not in scenario:
        result["escaped"] = {"raised": "<process died>", "msg": stderr[-600:]}
    return result


@contextlib.contextmanager
def ran(
    names: Iterable[str], *, jobs: int = 2, module: str = "runfold"
) -> Iterator[dict[str, tuple[Path, Result]]]:
    """Run scenarios; inside the context their folders exist: name -> (folder, result)."""
    base = Path(tempfile.mkdtemp(prefix="conformance-"))
    try:
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            folders = {name: base / name for name in names}
            for folder in folders.values():
                folder.mkdir()
            results = pool.map(lambda item: run_one(item[0], item[1], module=module), folders.items())
            yield {name: (folders[name], result) for name, result in zip(folders, results, strict=True)}
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _child(name: str, out: Path, module: str) -> None:
    from scenarios import plain

    scenario = scenarios()[name]
    wb = importlib.import_module(module)
    if "expect_rc" in scenario:
        scenario["fn"](wb)
        return
    seen: dict[str, Any] = {"obs": None, "escaped": None}
    try:
        seen["obs"] = plain(scenario["fn"](wb))
    except BaseException as error:
        seen["escaped"] = {"raised": type(error).__name__, "msg": str(error)[:400]}
    out.write_text(json.dumps(seen))


def main() -> None:
    """Run from the command line and write one file in the oracle's form."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--module", default="runfold")
    parser.add_argument("--reader", default="reader")
    parser.add_argument("--only", default="")
    parser.add_argument("--out", default="mine.json")
    parser.add_argument("-j", type=int, default=2)
    parser.add_argument("--child")
    parser.add_argument("--child-out")
    arguments = parser.parse_args()
    if arguments.child:
        _child(arguments.child, Path(arguments.child_out), arguments.module)
        return
    names = [name for name in scenarios() if re.search(arguments.only, name)]
    read_runs: Callable[[str], list[Any]] = importlib.import_module(arguments.reader).read_runs
    results = {}
    with ran(names, jobs=arguments.j, module=arguments.module) as done:
        for name, (folder, result) in done.items():
            results[name] = {**result, "runs": read_runs(str(folder))}
    Path(arguments.out).write_text(json.dumps({"module": arguments.module, "scenarios": results}, indent=1))


if __name__ == "__main__":
    main()
