"""When a process starts an agent. That it works once started: tests/journey/test_agent.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import runfold
from runfold.node import start
from runfold.node.lock import AgentLock
from runfold.node.settings import NodeSettings


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    found: list[Path] = []
    monkeypatch.setattr(start, "_start", lambda settings, *_: found.append(settings.target_dir))
    return found


def test_a_process_starts_one_a_second_and_one_as_it_ends(started: list[Path], tmp_path: Path) -> None:
    settings = NodeSettings(runfold_dir=tmp_path, target="local")
    assert [start.ensure_agent(settings) for _ in range(3)] == [False] * 3
    assert len(started) == 1
    assert start.ensure_agent(settings, is_last=True) is False
    assert len(started) == 2, "the first may have died; nobody will ask again"


def test_none_is_started_where_one_works(started: list[Path], tmp_path: Path) -> None:
    settings = NodeSettings(runfold_dir=tmp_path, target="local")
    start.make_target_dir(settings)
    lock = AgentLock(settings.target_dir)
    assert lock.acquire()
    assert start.ensure_agent(settings, is_last=True) is True
    assert started == []
    lock.release()


def test_a_run_that_gives_up_waiting_asks_a_last_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[bool] = []

    def ensure(settings: NodeSettings, *, is_last: bool = False) -> bool:  # same shape
        calls.append(is_last)
        return True

    monkeypatch.setattr(start, "ensure_agent", ensure)
    monkeypatch.setenv("RUNFOLD_DIR", str(tmp_path))
    monkeypatch.setenv("RUNFOLD_REDIS_URL", "redis://127.0.0.1:1/0")
    settings: dict[str, Any] = {"finish_timeout": 0.01}
    run = runfold.init(project="start", settings=runfold.Settings(**settings))
    run.log({"a": 1})
    run.finish()
    assert calls[-1] is True
    assert calls.count(True) == 1
