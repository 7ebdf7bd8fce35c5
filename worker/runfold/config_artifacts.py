"""Artifacts in a config: one at the top counts as used by the run, and is kept as what tells its version."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any


def is_artifact(value: object) -> bool:
    """Return whether a value is an Artifact, without importing what that is."""
    module: Any = sys.modules.get("runfold.artifacts.artifact")
    return module is not None and isinstance(value, module.Artifact)


def split(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the values that are no artifacts, and those that are: they are used when the run has begun."""
    artifacts = {key: value for key, value in given.items() if is_artifact(value)}
    return {key: value for key, value in given.items() if key not in artifacts}, artifacts


def refuse_inside(value: object) -> None:
    """Refuse an artifact within a value.

    Raises:
        ValueError: There is one; as in W&B.
    """
    if isinstance(value, Mapping):
        for item in value.values():
            if is_artifact(item):
                raise ValueError("Instances of wandb.Artifact can only be top level keys in a run's config")
            refuse_inside(item)


def stored(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config's values with artifacts as they are kept: {"_type": "artifactVersion", "id", ...}.

    Only a disabled run has drafts there, which are their text.
    """
    return {key: _stored(value) if is_artifact(value) else value for key, value in values.items()}


def _stored(artifact: Any) -> Any:
    return str(artifact) if artifact.is_draft() else artifact.json_encode()
