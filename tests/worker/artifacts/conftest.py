"""A folder and a home of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import runfold
from support.own_home import own_home


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RUNFOLD_CACHE_DIR", str(tmp_path / "cache"))
    work = tmp_path / "work"
    work.mkdir()
    with own_home(tmp_path, monkeypatch):
        monkeypatch.chdir(work)
        yield


@pytest.fixture
def run(_alone: None) -> runfold.Run:
    return runfold.init(project="p")
