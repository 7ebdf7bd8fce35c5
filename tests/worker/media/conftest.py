"""Runs of their own for each test, offline; media libraries said nothing before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runfold
from runfold import terminal
from runfold.init import _active


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RUNFOLD_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("RUNFOLD_MODE", "offline")
    monkeypatch.setenv("RUNFOLD_CONSOLE", "off")
    monkeypatch.chdir(tmp_path)
    terminal._said.clear()
    terminal._last_said_mono_s.clear()
    yield
    for run in list(_active):
        run.finish(quiet=True)


@pytest.fixture
def run(_alone: None) -> Any:
    return runfold.init(project="p")
