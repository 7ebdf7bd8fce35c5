"""Artifacts in a config, without a server: what is refused, and what a disabled run makes of them."""

from __future__ import annotations

import pytest

import runfold


def test_an_artifact_inside_of_a_value_is_refused(run: runfold.Run) -> None:
    artifact = runfold.Artifact("data", "dataset")
    with pytest.raises(ValueError, match="top level"):
        run.config["nested"] = {"deep": {"input": artifact}}
    assert "nested" not in run.config


def test_offline_no_artifact_can_be_used(run: runfold.Run) -> None:
    with pytest.raises(TypeError):
        run.config["input"] = runfold.Artifact("data", "dataset")
    assert "input" not in run.config


def test_a_disabled_run_keeps_it_as_it_is() -> None:
    artifact = runfold.Artifact("data", "dataset")
    run = runfold.init(mode="disabled", config={"input": artifact, "lr": 0.1})
    assert run.config["input"] is artifact
    run.finish()
