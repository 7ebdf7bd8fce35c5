"""`runfold delete` and `runfold undelete`: hide runs, and bring them back while they are kept."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from runfold.cli.options import AsJson, TimeoutS, Url, api_for
from runfold.cli.output import console, plain, print_json, print_table
from runfold.errors import Error

Paths = Annotated[list[str], typer.Argument(help='"entity/project/id", "project/id" or "id".')]


class NotDeletedError(Error):
    """Nobody confirmed."""


def delete(  # noqa: PLR0917 - options, given by name
    paths: Paths,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    delete_artifacts: Annotated[
        bool, typer.Option("--delete-artifacts", help="Also the artifacts that they logged.")
    ] = False,
    url: Url = None,
    timeout_s: TimeoutS = 30.0,
    as_json: AsJson = False,
) -> None:
    """Delete runs. They are kept for a while (30 days): `runfold undelete` brings them back."""
    api = api_for(url, timeout_s)
    runs = [api.run(path) for path in paths]
    if not yes:
        _ask([f"{'/'.join(run.path)} ({run.name}, {run.state})" for run in runs])
    for run in runs:
        run.delete(delete_artifacts)
    if as_json:
        print_json({"deleted": ["/".join(run.path) for run in runs]})
        return
    for run in runs:
        path = "/".join(run.path)
        console().print(plain(f"{path} is deleted; `runfold undelete {path}` brings it back"))


def undelete(
    paths: Annotated[
        list[str] | None, typer.Argument(help="Runs to bring back; without any, lists what can be.")
    ] = None,
    url: Url = None,
    timeout_s: TimeoutS = 30.0,
    as_json: AsJson = False,
) -> None:
    """Bring deleted runs back, with all that they have logged meanwhile."""
    api = api_for(url, timeout_s)
    if not paths:
        found = api.deleted_runs()
        if as_json:
            print_json({"runs": found})
        elif not found:
            console().print("no deleted runs")
        else:
            columns = ["run", "name", "deleted", "by", "kept until"]
            print_table(
                columns,
                [
                    [
                        "/".join((run["entity"], run["project"], run["id"])),
                        run["name"],
                        run["deleted_at"][:19].replace("T", " ") + "Z",
                        run["deleted_by"],
                        run["purged_after"][:19].replace("T", " ") + "Z",
                    ]
                    for run in found
                ],
            )
        return
    runs = [api.undelete(path) for path in paths]
    if as_json:
        print_json({"undeleted": ["/".join(run.path) for run in runs]})
        return
    for run in runs:
        console().print(plain(f"{'/'.join(run.path)} is back ({run.state})"))


def _ask(names: list[str]) -> None:
    """Let a person confirm; a script has to say --yes.

    Raises:
        NotDeletedError: They don't.
    """
    what = ", ".join(names)
    if not sys.stdin.isatty():
        raise NotDeletedError(f"{what} is not deleted without being asked: add --yes")
    sys.stderr.write(f"Delete {what}? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise NotDeletedError("not deleted")
