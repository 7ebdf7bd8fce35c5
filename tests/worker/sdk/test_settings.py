"""Settings: checks, precedence, what the environment may say."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from runfold.errors import UsageError, ValidationError
from runfold.settings import Settings, read_environment


def test_argument_over_settings_over_runfold_over_wandb() -> None:
    environ = {
        "WANDB_NAME": "wandb",
        "RUNFOLD_NAME": "runfold",
        "WANDB_PROJECT": "wandb",
        "WANDB_ENTITY": "wandb",
        "RUNFOLD_ENTITY": "runfold",
        "RUNFOLD_RUN_GROUP": "runfold",
    }
    found = Settings.resolved({"run_name": "argument", "entity": None}, {"run_group": "settings"}, environ)
    assert (found.run_name, found.run_group, found.entity, found.project) == (
        "argument",
        "settings",
        "runfold",
        "wandb",
    )


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("RUNFOLD_JOB_TYPE", "train", "run_job_type", "train"),
        ("RUNFOLD_TAGS", "a,b", "run_tags", ("a", "b")),
        ("RUNFOLD_NOTES", "n", "run_notes", "n"),
        ("RUNFOLD_RUN_ID", "x1", "run_id", "x1"),
        ("RUNFOLD_RESUME", "allow", "resume", "allow"),
        ("RUNFOLD_CONSOLE", "off", "console", "off"),
        ("RUNFOLD_SILENT", "true", "silent", True),
        ("RUNFOLD_DIR", "/d", "runfold_dir", "/d"),
        ("RUNFOLD_URL", "http://h:1", "base_url", "http://h:1"),
        ("RUNFOLD_REDIS_URL", "redis://h", "redis_url", "redis://h"),
        ("RUNFOLD_FINISH_TIMEOUT_S", "3", "finish_timeout", 3.0),
        ("RUNFOLD_LABEL", "l", "x_label", "l"),
        ("WANDB_DIR", "/w", "root_dir", "/w"),
        ("WANDB_X_LABEL", "l", "x_label", "l"),
        ("WANDB__LABEL", "l", "x_label", "l"),
        ("WANDB_X_PRIMARY", "false", "x_primary", False),
        ("WANDB_BASE_URL", "http://own:8080", "base_url", "http://own:8080"),
        ("WANDB_RUN_GROUP", "g", "run_group", "g"),
        ("WANDB_REINIT", "true", "reinit", True),
    ],
)
def test_variables(variable: str, text: str, field: str, value: Any) -> None:
    found = Settings.resolved({}, None, {variable: text})
    assert getattr(found, field) == value


def test_their_cloud_is_no_coordinator() -> None:
    assert "base_url" not in read_environment({"WANDB_BASE_URL": "https://api.wandb.ai"})


@pytest.mark.parametrize(
    "values",
    [
        {"foo": 1},
        {"mode": "fast"},
        {"reinit": "maybe"},
        {"resume": "later"},
        {"console": "loud"},
        {"run_tags": [""]},
        {"run_tags": ["x" * 65]},
        {"run_tags": 5},
        {"run_name": 5},
        {"silent": "perhaps"},
        {"finish_timeout": "soon"},
        {"finish_timeout": -1},
        {"fork_from": "run"},
        {"fork_from": "run?loss=3"},
        {"fork_from": "run?_step=x"},
    ],
)
def test_wrong_values_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(**values)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("run_id", ["", " ", " a", "a ", *(f"a{mark}b" for mark in ":;,#?/'")])
def test_wrong_ids_are_refused(run_id: str) -> None:
    with pytest.raises(UsageError):
        Settings(run_id=run_id)


@pytest.mark.parametrize("project", ["x" * 129, *(f"a{mark}b" for mark in "/\\#?%:")])
def test_wrong_projects_are_refused(project: str) -> None:
    with pytest.raises(UsageError):
        Settings(project=project)


def test_odd_but_legal_names() -> None:
    assert Settings(run_id="x" * 129, project="a b", run_tags="abc").run_tags == ("abc",)
    assert Settings(resume=True).resume == "auto"
    assert Settings(resume=False).resume is None


@pytest.mark.parametrize(
    "arguments",
    [
        {"fork_from": "a?_step=1", "resume_from": "b?_step=1"},
        {"fork_from": "a?_step=1", "resume": "allow"},
        {"fork_from": "a?_step=1", "run_id": "a"},
        {"resume_from": "a?_step=1", "run_id": "b"},
    ],
)
def test_moments_that_contradict(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings.resolved(arguments, None, {})


def test_a_rewound_run_keeps_its_id() -> None:
    assert Settings.resolved({"resume_from": "a?_step=7"}, None, {}).run_id == "a"


def test_settings_of_wandb_without_use_are_accepted() -> None:
    settings = Settings(x_disable_stats=True, disable_git=True)
    assert settings.x_disable_stats is True
    assert settings.disable_code is None
    with pytest.raises(AttributeError):
        _ = settings.nothing


def test_secrets_do_not_show() -> None:
    settings = Settings(api_key="sekrit", redis_url="redis://u:sekrit@h")
    assert "sekrit" not in repr(settings)
    assert "sekrit" not in str(settings.to_dict())


def test_a_copy_is_its_own() -> None:
    settings = Settings(run_name="a")
    copied = copy.deepcopy(settings)
    copied.run_name = "b"
    assert settings.run_name == "a"
    assert settings == Settings(run_name="a")


def test_shared_by_argument_stays_offline_when_the_environment_says_so() -> None:
    found = Settings.resolved({"mode": "shared"}, None, {"WANDB_MODE": "offline"})
    assert (found.mode, found.x_offline) == ("shared", True)


def test_offline_by_argument_stays_shared_when_the_settings_say_so() -> None:
    found = Settings.resolved({"mode": "offline"}, Settings(mode="shared"), {})
    assert (found.mode, found.x_offline) == ("shared", True)
    online = Settings.resolved({"mode": "online"}, Settings(mode="shared"), {"RUNFOLD_MODE": "offline"})
    assert (online.mode, online.x_offline) == ("online", False)
