"""Resuming, as far as this machine knows: the id of the last run that did not end well."""

from __future__ import annotations

import json
from pathlib import Path

from runfold.settings import Settings


def last_run_id(settings: Settings) -> str | None:
    """Return the id that init(resume="auto") left behind here, None when its run ended well."""
    try:
        said = json.loads(_note(settings).read_text())
    except (OSError, ValueError):
        return None
    run_id = said.get("run_id") if isinstance(said, dict) else None
    return run_id if isinstance(run_id, str) else None


def remember_run(settings: Settings, run_id: str) -> None:
    """Leave the id behind, until the run ends well."""
    note = _note(settings)
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps({"run_id": run_id}))
    except OSError:
        return


def forget_last_run(settings: Settings) -> None:
    """The run ended well."""
    try:
        _note(settings).unlink(missing_ok=True)
    except OSError:
        return


def _note(settings: Settings) -> Path:
    return Path(settings.root_dir or ".").absolute() / "runfold" / "runfold-resume.json"
