"""Compares what a scenario did here with what it did under the real client. In: two results. Out: differences.

Ids, digests, addresses and clock values are made equal first; 2.0 equals 2, which W&B cannot tell apart.
"""

from __future__ import annotations

import json
import re
from typing import Any

_ADDRESS = re.compile(r"0x[0-9a-f]{6,}")
_CLIENT_ARTIFACT = re.compile(r"wandb-client-artifact://\w+")
#: One of two tables that were joined, after the id of an object.
_JOINED_PART = re.compile(r"^t([12])_\d+\.table\.json$")
#: The sum of a name that holds the run's id.
_NAME_SUM = re.compile(r"^(run-ID-xyz-)[\w-]{6}$")
#: The number of a part of a table, where the client has one, and the time when it was made.
_INCREMENT = re.compile(r"\b(?:None|\d+)-\d{13}\.")
_RUN_ID = re.compile(r"Run \(\w+\)")
_RUN_ARTIFACT = re.compile(r"run-[a-z0-9]{8}-")
#: Media that libraries encode: each version has its own bytes, and so its own digest and size.
_ENCODED = frozenset({"image-file", "mask", "audio-file", "video-file", "plotly-file"})
_ENCODED_NAME = re.compile(r"(media/(?:images|audio|videos|plotly)/.*_)[0-9a-f]{20}(\.[a-z.0-9]+)")
#: The scenarios' module had this name when they were recorded.
_RECORDED_MODULE = "diff_scenarios."

#: What is compared of each stored run.
PARTS = (
    "history",
    "summary",
    "config",
    "exit_code",
    "alerts",
    "preempting",
    "files",
    "artifacts",
    "output",
)
RUN_FIELDS = ("name", "notes", "tags", "group", "job_type")

Difference = tuple[str, Any, Any]
ABSENT = "<absent>"


def differences(oracle: dict[str, Any], mine: dict[str, Any]) -> list[Difference]:
    """Return (place, the client's value, ours) for everything that differs, sorted by place."""
    found: list[Difference] = []
    _diff(_view(oracle), _view(mine), [], found)
    return sorted(found, key=lambda difference: difference[0])


def _view(result: dict[str, Any]) -> dict[str, Any]:
    return {
        "obs": _normal(result["obs"]),
        "escaped": (result["escaped"] or {}).get("raised"),
        "returncode": result["returncode"],
        "runs": [_run_view(run) for run in result["runs"]],
    }


def _run_view(run: dict[str, Any]) -> dict[str, Any]:
    view: dict[str, Any] = {part: run.get(part) for part in PARTS}
    view["run"] = {field: (run.get("run") or {}).get(field) for field in RUN_FIELDS}
    view["output"] = _lines(run.get("output") or [])
    view["metrics"] = sorted(json.dumps(metric, sort_keys=True) for metric in run.get("metrics") or [])
    normal: dict[str, Any] = _normal(view)
    return normal


def _lines(output: list[list[str]]) -> list[str]:
    """Return the lines of what was printed, in order within each kind; pieces end where a write() did."""
    texts: dict[str, str] = {}
    for kind, text in output:
        texts[kind] = texts.get(kind, "") + text
    return [f"{kind}: {line}" for kind in sorted(texts) for line in texts[kind].splitlines()]


def _normal(value: Any) -> Any:
    if isinstance(value, dict):
        if "raised" in value and "msg" in value:  # exceptions are compared by their classes
            return {"raised": value["raised"], "mro": value.get("mro")}
        masked = ("sha256", "size") if value.get("_type") in _ENCODED else ()
        return {key: "<encoded>" if key in masked else _normal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_normal(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, str):
        value = _ENCODED_NAME.sub(r"\1<digest>\2", value)
        value = _ADDRESS.sub("0xADDR", value.replace(_RECORDED_MODULE, "scenarios."))
        value = _CLIENT_ARTIFACT.sub("wandb-client-artifact://X", value)
        value = _INCREMENT.sub("N-TIME.", _JOINED_PART.sub(r"t\1_ID.table.json", value))
        value = _RUN_ID.sub("Run (ID)", value)
        return _NAME_SUM.sub(r"\1SUM", _RUN_ARTIFACT.sub("run-ID-", value))
    return value


def _diff(theirs: Any, ours: Any, place: list[str], found: list[Difference]) -> None:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted(theirs.keys() | ours.keys()):
            where = [*place, key]
            if key not in theirs:
                found.append((".".join(where), ABSENT, ours[key]))
            elif key not in ours:
                found.append((".".join(where), theirs[key], ABSENT))
            else:
                _diff(theirs[key], ours[key], where, found)
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for index, (a, b) in enumerate(zip(theirs, ours, strict=True)):
            _diff(a, b, [*place, str(index)], found)
    elif theirs != ours or isinstance(theirs, bool) != isinstance(ours, bool):
        found.append((".".join(place), theirs, ours))
