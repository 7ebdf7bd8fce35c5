"""`runfold agent`: the node agent as a service of its own, for machines where trainers must not start one."""

from __future__ import annotations

import os
import signal
import sys
import threading
from dataclasses import replace
from typing import Annotated

import typer

from runfold.cli.options import AsJson
from runfold.cli.output import print_json_line

#: Between attempts to take over from an agent that a trainer started.
TAKE_OVER_EVERY_S = 1.0


def agent(
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="End when nothing is left to do, as a trainer's agent does.")
    ] = False,
    target: Annotated[
        str | None,
        typer.Option(help="Spool directory below RUNFOLD_DIR/spool; default: that of RUNFOLD_URL."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ship the spools of this machine until SIGTERM or Ctrl-C; set RUNFOLD_AGENT=none for the trainers."""
    from runfold.node.agent import Agent
    from runfold.node.lock import AgentLock
    from runfold.node.settings import NodeSettings

    settings = NodeSettings.from_env(os.environ, target=target)
    if not until_idle:
        settings = replace(settings, idle_exit_s=float("inf"), unreachable_exit_s=float("inf"))
    settings.target_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    stopping = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stopping.set())
    lock = AgentLock(settings.target_dir)
    if not lock.acquire():
        _say(as_json, "waiting", "another agent ships these spools; waiting for it to end")
        while not stopping.wait(TAKE_OVER_EVERY_S) and not lock.acquire():
            pass
    if stopping.is_set():
        return
    _say(as_json, "shipping", f"shipping {settings.target_dir}", directory=str(settings.target_dir))
    try:
        reason = Agent(settings, lock).run(should_stop=stopping.is_set)
        _say(as_json, "ended", f"agent ends: {reason}", reason=reason)
    finally:
        lock.release()


def _say(as_json: bool, event: str, text: str, **facts: object) -> None:
    """Tell what happens: a line on stderr for people, or a line of JSON on stdout."""
    if as_json:
        print_json_line({"event": event, "pid": os.getpid(), **facts})
    else:
        sys.stderr.write(f"runfold: {text}\n")
