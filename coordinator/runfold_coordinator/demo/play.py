"""Plays the demo: start the stack, train twice, read the result back, print it, stay up to be looked at."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from runfold_coordinator.demo.report import print_report
from runfold_coordinator.testing import LocalServer

HERE = Path(__file__).parent
Launcher = Literal["auto", "torchrun", "multiprocessing"]
#: Training takes seconds; a machine that needs longer than this has something else wrong with it.
PROGRAM_TIMEOUT_S = 300.0


class DemoError(RuntimeError):
    """A program of the demo failed; the message ends with what it printed last."""


@dataclass(slots=True)
class _Programs:
    """Starts the example programs against one server and waits for them."""

    env: dict[str, str]
    running: list[tuple[str, subprocess.Popen[str]]] = field(default_factory=list)

    def start(self, name: str, command: list[str]) -> None:
        process = subprocess.Popen(
            command,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.running.append((name, process))

    def wait(self) -> list[str]:
        """Return the output of all that were started, in order.

        Raises:
            DemoError: One ended with another status than 0.
        """
        outputs = []
        try:
            for name, process in self.running:
                output, _ = process.communicate(timeout=PROGRAM_TIMEOUT_S)
                if process.returncode:
                    tail = "\n".join(output.splitlines()[-25:])
                    raise DemoError(f"{name} ended with status {process.returncode}:\n{tail}")
                outputs.append(output)
        except subprocess.TimeoutExpired as error:
            raise DemoError(f"a program of the demo took longer than {PROGRAM_TIMEOUT_S:.0f} s") from error
        finally:
            for _, process in self.running:
                if process.poll() is None:
                    process.kill()
                    process.communicate()
            self.running.clear()
        return outputs


def run_demo(
    *,
    data_dir: Path | None = None,
    port: int = 0,
    exit_when_done: bool = False,
    as_json: bool = False,
    launcher: Launcher = "auto",
    workers: int = 4,
    folds: int = 5,
) -> int:
    """Play the whole demo; return the exit status.

    Args:
        data_dir: Where the data stays; None: a new folder that is removed at the end.
        port: Port of the page; 0 takes a free one.
        exit_when_done: End after printing. Without it the demo stays up until Ctrl-C, unless standard input
            is no terminal.
        as_json: Print the figures as one JSON object on standard output, and nothing else there.
        launcher: How the data-parallel workers are started; "auto" takes torchrun where torch is installed.

    Raises:
        DemoError: A program failed.
    """
    chosen = _choose(launcher)
    began = time.monotonic()
    _say("starting Redis and the coordinator ...")
    with LocalServer(data_dir, redis="own", port=port) as server:
        programs = _Programs({**_clean_environment(), **server.env})
        _say(f"data-parallel training: {workers} workers by {chosen}, one shared run ...")
        programs.start("data-parallel training", _ddp_command(chosen, workers))
        programs.wait()
        group = "digits-cv"
        _say(f"cross-validation: {folds} folds, one run each, group {group!r} ...")
        for fold in range(folds):
            programs.start(
                f"fold {fold}", _python("train_cv.py", "--fold", fold, "--folds", folds, "--group", group)
            )
            if fold % 2:  # two at a time: more would only wait for each other on two cores
                programs.wait()
        programs.wait()
        programs.start("reading the results", _python("read_results.py", "--group", group))
        figures: dict[str, Any] = json.loads(programs.wait()[0].strip().splitlines()[-1])
        figures["ddp"]["launcher"] = chosen
        figures = {"url": server.url, "seconds": round(time.monotonic() - began, 1), **figures}
        if as_json:
            print(json.dumps(figures), flush=True)  # noqa: T201 - this is the output
        else:
            print_report(figures, data_dir)
        if not exit_when_done and sys.stdin is not None and sys.stdin.isatty():
            _stay_up(server)
    return 0


def _choose(launcher: Launcher) -> Literal["torchrun", "multiprocessing"]:
    if launcher != "auto":
        return launcher
    return "torchrun" if importlib.util.find_spec("torch") else "multiprocessing"


def _ddp_command(launcher: str, workers: int) -> list[str]:
    if launcher == "torchrun":
        run = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(workers)]
        return [sys.executable, *run, str(HERE / "train_ddp.py")]
    return _python("train_ddp_numpy.py", "--workers", workers)


def _python(program: str, *arguments: object) -> list[str]:
    return [sys.executable, str(HERE / program), *map(str, arguments)]


def _clean_environment() -> dict[str, str]:
    """Our environment without other servers' settings, and with one thread a worker."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RUNFOLD_", "WANDB_"))}
    return {**kept, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def _stay_up(server: LocalServer) -> None:
    _say(f"look at {server.url} - Ctrl-C ends the demo")
    try:
        while server.pids("coordinator"):
            time.sleep(0.5)
    except KeyboardInterrupt:
        _say("")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - progress, for people
