"""The form in which the oracle holds a stored run, and the masks over its clock values."""

from __future__ import annotations

from typing import Any

from scenarios import plain

from runfold.protocol.records import MetricRecord

StoredRun = dict[str, Any]


def empty_run() -> StoredRun:
    """Return a stored run of which nothing is known."""
    return {
        "run": {},
        "history": [],
        "summary": {},
        "config": {"_wandb": {}},
        "metrics": [],
        "files": [],
        "artifacts": [],
        "alerts": [],
        "preempting": False,
        "exit_code": None,
        "output": [],
    }


def masked(tree: dict[str, Any]) -> Any:
    """Hide clock values of a row or summary, so that they compare."""
    shown = dict(tree)
    if _is_number(shown.get("_timestamp")) and shown["_timestamp"] > 1.6e9:
        shown["_timestamp"] = "<time>"
    if _is_number(shown.get("_runtime")) and shown["_runtime"] < 900:
        shown["_runtime"] = "<runtime>"
    own = shown.get("_wandb")
    if isinstance(own, dict) and _is_number(own.get("runtime")) and own["runtime"] < 900:
        shown["_wandb"] = {**own, "runtime": "<runtime>"}
    return plain(shown)


def history_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return one row as the oracle lists it."""
    return {"step": row["_step"], "row": masked(row)}


def stored_config(config: dict[str, Any]) -> Any:
    """Return the config with the place of W&B's own bookkeeping, which we have none of."""
    return plain({"_wandb": {}, **config})


def stored_metric(said: MetricRecord) -> dict[str, Any]:
    """Return one definition as the client stores it."""
    metric: dict[str, Any] = {"glob_name" if said.name.endswith("*") else "name": said.name}
    options = {"defined": True, "hidden": said.hidden, "step_sync": said.step_sync}
    metric["options"] = {name: True for name, value in options.items() if value}
    if said.step_metric:
        metric["step_metric"] = said.step_metric
    if said.summary:
        metric["summary"] = dict.fromkeys(said.summary, True)
    if said.goal:
        metric["goal"] = "GOAL_" + said.goal.upper()
    if said.overwrite:
        metric["_control"] = {"overwrite": True}
    return metric


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
