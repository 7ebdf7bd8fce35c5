"""`runfold runs`: lists the runs of a project, newest first."""

from __future__ import annotations

import json
from itertools import islice
from typing import Annotated, Any

import typer

from runfold.cli.options import AsJson, TimeoutS, Url, api_for
from runfold.cli.output import console, duration_text, print_json, print_table


def runs(  # noqa: PLR0917 - options, given by name
    project: Annotated[
        str | None, typer.Argument(help='"entity/project" or "project"; without it, all runs of the server.')
    ] = None,
    state: Annotated[str | None, typer.Option(help="Only runs in this state.")] = None,
    group: Annotated[str | None, typer.Option(help="Only runs of this group.")] = None,
    filters: Annotated[
        str | None, typer.Option(help='MongoDB-like filter as JSON, e.g. \'{"config.lr": {"$lt": 0.1}}\'.')
    ] = None,
    order: Annotated[str, typer.Option(help='"+" or "-" and a field.')] = "-created_at",
    limit: Annotated[int, typer.Option(min=1, help="Most runs to list.")] = 20,
    url: Url = None,
    timeout_s: TimeoutS = 30.0,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first."""
    api, wanted, per_page = api_for(url, timeout_s), _filters(filters, state, group), min(limit, 1000)
    if project is None:
        found = api.all_runs(wanted, order, per_page)
    else:
        found = api.runs(project, wanted, order, per_page)
    documents = [run.to_dict() for run in islice(found, limit)]
    if as_json:
        print_json({"runs": documents, "total": len(found)})
        return
    if not documents:
        console().print("no runs")
        return
    columns = ["state", "id", "name", "project", "group", "started", "lasted", "last step", "reason"]
    print_table(columns, map(_row, documents), numbers=["lasted", "last step"])
    if len(found) > len(documents):
        console().print(f"{len(found)} in all; --limit shows more")


def _row(run: dict[str, Any]) -> list[Any]:
    return [
        run["state"] + (" (unreachable)" if run["unreachable"] else ""),
        run["id"],
        run["name"],
        f"{run['entity']}/{run['project']}",
        run["group"],
        run["created_at"][:19].replace("T", " ") + "Z",
        duration_text(run["duration_s"]),
        run["last_step"] if run["last_step"] >= 0 else None,
        run["reason"],
    ]


def _filters(text: str | None, state: str | None, group: str | None) -> dict[str, Any]:
    parts: list[Any] = []
    if text:
        try:
            parts.append(json.loads(text))
        except ValueError as error:
            raise typer.BadParameter(f"no JSON: {error}", param_hint="--filters") from error
    if state:
        parts.append({"state": state})
    if group:
        parts.append({"group": group})
    if not parts:
        return {}
    return {"$and": parts}
