"""`runfold stop`: asks a run's processes to end, and tells what came of it."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runfold.api.errors import RunEndedError
from runfold.cli.options import AsJson, TimeoutS, Url, api_for
from runfold.cli.output import console, plain, print_json
from runfold.errors import Error

if TYPE_CHECKING:
    from runfold.api import Run

#: --wait waits this much longer than the grace: for the agent, and for the server to hear of the end.
PATIENCE_S = 60.0
LOOK_EVERY_S = 0.5
_ENDED = frozenset({"finished", "failed", "killed", "crashed", "preempted"})


class NotStoppedError(Error):
    """Something of the run goes on."""


def stop(  # noqa: PLR0917 - options, given by name
    path: Annotated[str, typer.Argument(help='"entity/project/id", "project/id" or "id".')],
    grace_s: Annotated[
        float,
        typer.Option("--grace", min=0, max=86_400, help="From SIGTERM to SIGKILL, seconds.", metavar="S"),
    ] = 30.0,
    ranks: Annotated[
        list[int] | None, typer.Option("--rank", min=0, help="Only this rank; may be given several times.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return when they have ended.")] = False,
    url: Url = None,
    timeout_s: TimeoutS = 30.0,
    as_json: AsJson = False,
) -> None:
    """Stop a run: SIGTERM to its processes now, SIGKILL after a grace."""
    run = api_for(url, timeout_s).run(path)
    if run.state in _ENDED and not run.unreachable and not ranks:
        raise RunEndedError(f"the run has ended already: {run.state} ({run.reason})")
    if not yes:
        _ask(run, ranks)
    said = run.stop(grace_s, ranks=ranks or None)
    if wait:
        said |= _ended(run, said)
    if as_json:
        print_json(said)
    else:
        _tell(said)
    if said.get("going_on"):
        names = ", ".join(map(_name, said["going_on"]))
        raise NotStoppedError(f"still going on: {names}")


def _ask(run: Run, ranks: list[int] | None) -> None:
    """Let a person confirm; a script has to say --yes.

    Raises:
        NotStoppedError: They don't.
    """
    what = "/".join(run.path) + (f", ranks {', '.join(map(str, ranks))}" if ranks else "")
    if not sys.stdin.isatty():
        raise NotStoppedError(f"{what} is not stopped without being asked: add --yes")
    sys.stderr.write(f"Stop {what}? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise NotStoppedError("not stopped")


def _ended(run: Run, said: dict[str, Any]) -> dict[str, Any]:
    """Wait until those that were asked have ended, for as long as they may take."""
    asked = {writer["writer"] for writer in said["writers"]}
    deadline_s = time.monotonic() + said["grace_s"] + PATIENCE_S
    while True:
        writers = [writer for writer in run.writers() if writer["writer"] in asked]
        going_on = [writer for writer in writers if writer["state"] not in _ENDED]
        refused = _refusals(run, said["request"]) if going_on else {}
        is_over = all(writer["writer"] in refused for writer in going_on)
        if is_over or time.monotonic() >= deadline_s:
            break
        time.sleep(LOOK_EVERY_S)
    document = run.load(force=True)
    return {
        "state": document["state"],
        "reason": document["reason"],
        "ended": [_short(writer) for writer in writers if writer not in going_on],
        "going_on": [_short(writer) | {"refused": refused.get(writer["writer"])} for writer in going_on],
    }


def _refusals(run: Run, request: str) -> dict[str, str]:
    """Return why agents did not carry the request out, by writer."""
    return {
        part["writer"]: part["refused"]
        for found in run.stop_requests()
        if found["request"] == request
        for part in found["writers"]
        if part["refused"] is not None
    }


def _short(writer: dict[str, Any]) -> dict[str, Any]:
    return {name: writer[name] for name in ("writer", "rank", "label", "host", "state", "reason")}


def _name(writer: dict[str, Any]) -> str:
    who = f"rank {writer['rank']}" if writer["rank"] is not None else writer["label"] or writer["writer"][:8]
    why = f" ({writer['refused']})" if writer.get("refused") else ""
    return f"{who} on {writer['host']}{why}"


def _tell(said: dict[str, Any]) -> None:
    out = console()
    count = len(said["writers"])
    how = "asked" if said["is_new"] else "asked before"
    out.print(
        plain(f"{how} to stop: {count} process{'es' if count != 1 else ''}, grace {said['grace_s']:g} s")
    )
    for writer in said.get("ended", ()):
        out.print(plain(f"{_name(writer)}: {writer['state']} ({writer['reason']})"))
    if "state" in said:
        out.print(plain(f"the run: {said['state']}" + (f" ({said['reason']})" if said["reason"] else "")))
