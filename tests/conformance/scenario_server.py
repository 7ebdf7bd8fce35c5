"""Runs scenarios in processes that are forks of one which has imported the client: imports are paid for once.

    python scenario_server.py MODULE

A line of JSON on standard input, `Order`'s fields, is a scenario to run; a line on standard output tells how its
process ended, once it has. The fork takes its own folder, environment, arguments and streams, as a started process
has them, and ends as a Python program does.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

HERE = Path(__file__).resolve().parent
TIMEOUT_S = 60.0


@dataclasses.dataclass(frozen=True)
class Order:
    """What one process is to do; its standard error goes to the file `stderr`, what it saw to `out`."""

    name: str
    module: str
    cwd: str
    env: dict[str, str]
    out: str
    stderr: str


class ScenarioServer:
    """The process, as its owner sees it; a context manager, to be used by one thread."""

    def __init__(self, module: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, module],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> ScenarioServer:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(TIMEOUT_S)
        self._process.stdout.close()

    def run(self, order: Order) -> int | None:
        """Return the status of its process as subprocess has it, None when it was killed for taking too long."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(dataclasses.asdict(order)) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the server of scenarios has died"
        status: int | None = json.loads(answer)
        return status


def serve(module: str) -> Order | None:
    """Fork for each order; return None in the server at its end, the order in a fork."""
    import scenarios  # noqa: F401 - what every fork needs

    importlib.import_module(module)
    for line in iter(sys.stdin.readline, ""):
        order = Order(**json.loads(line))
        assert threading.active_count() == 1, "a fork would lack the other threads"
        child = os.fork()
        if not child:
            return order
        print(json.dumps(_wait(child)), flush=True)
    return None


def _wait(child: int) -> int | None:
    ended = os.pidfd_open(child)
    try:
        is_late = not select.select([ended], [], [], TIMEOUT_S)[0]
    finally:
        os.close(ended)
    if is_late:
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return None if is_late else status


def become(order: Order) -> None:
    """Make this fork what a process is that was started for the scenario."""
    errors = os.open(order.stderr, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    null = os.open(os.devnull, os.O_RDWR)
    for target, source in ((0, null), (1, null), (2, errors)):
        os.dup2(source, target)
    os.close(errors)
    os.close(null)
    sys.stdin = open(0, closefd=False)
    os.chdir(order.cwd)
    os.environ.clear()
    os.environ.update(order.env)
    sys.argv = [str(HERE / "run_scenarios.py"), "--child", order.name]


def play(order: Order) -> None:
    """Run the scenario; leave what it saw."""
    from run_scenarios import scenarios
    from scenarios import plain

    scenario = scenarios()[order.name]
    wb = importlib.import_module(order.module)
    if "expect_rc" in scenario:
        scenario["fn"](wb)
        return
    seen: dict[str, object] = {"obs": None, "escaped": None}
    try:
        seen["obs"] = plain(scenario["fn"](wb))
    except BaseException as error:
        seen["escaped"] = {"raised": type(error).__name__, "msg": str(error)[:400]}
    Path(order.out).write_text(json.dumps(seen))


if __name__ == "__main__":
    ordered = serve(sys.argv[1])
    if ordered is not None:
        become(ordered)
        play(ordered)
