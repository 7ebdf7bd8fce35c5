"""Runs of their own for each test, offline; media libraries said nothing before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runfold
from support.own_home import own_home


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RUNFOLD_CONSOLE", "off")
    with own_home(tmp_path, monkeypatch):
        yield


@pytest.fixture
def run(_alone: None) -> Any:
    return runfold.init(project="p")
