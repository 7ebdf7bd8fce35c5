"""`runfold show`: one run with its summary, writers and accounting."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any

import typer

from runfold.cli.options import AsJson, TimeoutS, Url, api_for
from runfold.cli.output import console, duration_text, plain, print_json, print_table, state_text
from runfold.cli.verdict_lines import verdict_lines

#: Files that will never come, in one answer.
_LOST_SHOWN = 20


def show(
    path: Annotated[str, typer.Argument(help='"entity/project/id", "project/id" or "id".')],
    url: Url = None,
    timeout_s: TimeoutS = 30.0,
    as_json: AsJson = False,
) -> None:
    """Show a run: state and reason, config, summary, its processes, and what became of each record."""
    run = api_for(url, timeout_s).run(path)
    document = dict(run.load())
    writers, counts, attempts = run.writers(), run.accounting(), run.attempts()
    failed = run.files(state="failed") if document["files"]["failed"] else ()
    lost = [{"name": each.name, "error": each.error} for each in islice(failed, _LOST_SHOWN)]
    if as_json:
        facts = {"writers": writers, "accounting": counts, "attempts": attempts, "failed_files": lost}
        print_json({**document, "url": run.url, **facts})
        return
    _head(document, run.url)
    found = list(verdict_lines(document["verdicts"]))
    if found:
        _section("verdicts")
        for line in found:
            console().print(plain(line))
    _leaves("config", run.config)
    _leaves("summary", {key: value for key, value in document["summary"].items() if key != "_wandb"})
    if lost:
        _section(f"files that will never come: {document['files']['failed']}")
        print_table(["file", "why"], [[each["name"], each["error"]] for each in lost])
    _section("writers")
    columns = ["state", "rank", "label", "attempt", "host", "pid", "last step", "stored", "of", "reason"]
    print_table(
        columns, map(_writer, writers), numbers=["rank", "attempt", "pid", "last step", "stored", "of"]
    )
    _section("accounting, in records")
    names = ["acknowledged", "stored", "declared_gaps", "dead_letters", "pending"]
    print_table([name.replace("_", " ") for name in names], [[counts[name] for name in names]])


def _head(run: dict[str, Any], url: str) -> None:
    out = console()
    out.print(plain(f"{run['entity']}/{run['project']}/{run['id']}"), plain(run["name"] or ""))
    out.print(state_text(run["state"]), plain(run["reason"]))
    if failure := run["first_failure"]:
        out.print(
            plain(
                f"first failure: rank {failure.get('rank')} on {failure.get('host')}: {failure.get('reason')}"
            )
        )
        for line in (failure.get("traceback") or "").splitlines():
            out.print(plain("    " + line))
    facts = [
        f"started {run['created_at']}",
        f"lasted {duration_text(run['duration_s'])}",
        f"last step {run['last_step']}",
        f"{run['row_count']} log() calls stored",
    ]
    if base := run["forked_from"]:
        facts.append(f"forked from {base['run_id']} at step {base['step']}")
    optional = [name for name in ("group", "job_type", "fold", "notes") if run[name] is not None]
    facts += [f"{name.replace('_', ' ')} {run[name]}" for name in optional]
    if run["tags"]:
        facts.append("tags " + ", ".join(run["tags"]))
    out.print(plain("; ".join(facts)))
    out.print(plain(url))


def _leaves(title: str, tree: dict[str, Any]) -> None:
    rows = list(_flat(tree, ""))
    if rows:
        _section(title)
        print_table(["key", "value"], rows)


def _flat(tree: dict[str, Any], prefix: str) -> Any:
    for key, value in tree.items():
        if isinstance(value, dict) and value and "_type" not in value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield [prefix + key, value]


def _section(title: str) -> None:
    out = console()
    out.print()
    out.print(title, style="bold")


def _writer(writer: dict[str, Any]) -> list[Any]:
    return [
        writer["state"]
        + (" (unreachable)" if writer["unreachable"] else " (stalled)" if writer["stalled"] else ""),
        writer["rank"],
        writer["label"],
        writer["attempt"],
        writer["host"],
        writer["pid"],
        writer["last_step"],
        writer["last_seq"],
        writer["head_seq"],
        writer["reason"],
    ]
