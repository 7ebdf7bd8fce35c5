"""W&B's `env`: names of environment variables, as libraries read and set them. `Settings` honours them."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

API_KEY = "WANDB_API_KEY"
BASE_URL = "WANDB_BASE_URL"
DIR = "WANDB_DIR"
ENTITY = "WANDB_ENTITY"
JOB_TYPE = "WANDB_JOB_TYPE"
MODE = "WANDB_MODE"
NAME = "WANDB_NAME"
NOTES = "WANDB_NOTES"
PROJECT = "WANDB_PROJECT"
RESUME = "WANDB_RESUME"
RUN_GROUP = "WANDB_RUN_GROUP"
RUN_ID = "WANDB_RUN_ID"
SILENT = "WANDB_SILENT"
SWEEP_ID = "WANDB_SWEEP_ID"
TAGS = "WANDB_TAGS"

_Environ = MutableMapping[str, str]


def get_project(default: str | None = None, env: _Environ | None = None) -> str | None:
    """Return the project that the environment names."""
    return _of(env).get(PROJECT, default)


def get_entity(default: str | None = None, env: _Environ | None = None) -> str | None:
    """Return the entity that the environment names."""
    return _of(env).get(ENTITY, default)


def get_run(default: str | None = None, env: _Environ | None = None) -> str | None:
    """Return the id of the run that the environment names."""
    return _of(env).get(RUN_ID, default)


def set_project(value: str, env: _Environ | None = None) -> None:
    """Name the project for runs that begin from now on."""
    _of(env)[PROJECT] = value or "uncategorized"


def set_entity(value: str, env: _Environ | None = None) -> None:
    """Name the entity for runs that begin from now on."""
    _of(env)[ENTITY] = value


def _of(env: _Environ | None) -> _Environ:
    return os.environ if env is None else env
