"""`python -m runfold.node --target-dir DIR`: the agent as a process. Settings come from the environment."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import resource
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path

from . import lock
from .settings import NodeSettings
from .start import TAKE_OVER, make_target_dir

#: The log is cut when an agent starts and finds it larger.
MAX_LOG_BYTES = 1_000_000
MAX_DESCRIPTORS = 65_536
#: Longer than an agent needs to end, seconds.
TAKE_OVER_PATIENCE_S = 15.0


def main(arguments: list[str] | None = None) -> int:
    """Run an agent until it has nothing left to do or is told to end. Return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m runfold.node", description=__doc__)
    parser.add_argument("--target-dir", type=Path, required=True, help="RUNFOLD_DIR/spool/<target>")
    parser.add_argument("--stay", action="store_true", help="do not end when idle")
    parser.add_argument(TAKE_OVER, action="store_true", help="end an agent whose credentials are refused")
    chosen = parser.parse_args(arguments)
    target_dir = chosen.target_dir.resolve()
    settings = NodeSettings.from_env(os.environ, target=target_dir.name)
    settings = replace(settings, runfold_dir=target_dir.parent.parent)
    if chosen.stay:
        settings = replace(settings, idle_exit_s=float("inf"), unreachable_exit_s=float("inf"))
    if chosen.take_over:
        _end_refused_agent(settings)
    return run_agent(settings, patience_s=TAKE_OVER_PATIENCE_S if chosen.take_over else lock.PATIENCE_S)


def run_agent(settings: NodeSettings, *, patience_s: float = lock.PATIENCE_S) -> int:
    """Hold the lock and ship until idle or SIGTERM; return 0, also when another agent works here already."""
    make_target_dir(settings)
    mine = lock.AgentLock(settings.target_dir)
    # Before the heavy imports: of eight ranks that start at once, seven agents end here.
    if not mine.acquire(patience_s=patience_s):
        return 0
    stopping = _catch_signals()
    _raise_descriptor_limit()
    _log_to_stderr()
    from .agent import Agent

    try:
        Agent(settings, mine).run(should_stop=stopping.is_set)
    finally:
        mine.release()
    return 0


def _end_refused_agent(settings: NodeSettings) -> None:
    note = lock.read_note(settings.target_dir).split()
    if lock.is_held(settings.target_dir) and len(note) == 4 and note[1:3] == ["process", "refused"]:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(int(note[0]), signal.SIGTERM)


def _catch_signals() -> threading.Event:
    """SIGTERM drains; Ctrl-C and a closed terminal are meant for the trainer, not for its agent."""
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    for signum in (signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    return stopping


def _raise_descriptor_limit() -> None:
    """A writer takes three descriptors; the usual soft limit of 1024 is for programs that use select."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _log_to_stderr() -> None:
    try:
        if os.fstat(2).st_size > MAX_LOG_BYTES:
            os.ftruncate(2, 0)
    except OSError:  # a terminal
        pass
    level = os.environ.get("RUNFOLD_AGENT_LOG", "WARNING").upper()
    logging.basicConfig(
        level=level if level in logging.getLevelNamesMapping() else "WARNING",
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )


if __name__ == "__main__":
    sys.exit(main())
