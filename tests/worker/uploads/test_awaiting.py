"""Waiting for uploads: why they wait is said, and what failed."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from runfold.node.settings import NodeSettings
from runfold.uploads import awaiting
from runfold.uploads.awaiting import count_uploads, wait_for_uploads
from runfold.uploads.jobs import FileJob
from runfold.uploads.outbox import Outbox


class Stage:
    def __init__(self, folder: Path, **settings: Any) -> None:
        self.node = NodeSettings(**{"runfold_dir": folder, "target": "x", "url": "http://server", **settings})
        self.outbox = Outbox(self.node.target_dir)
        self.jobs = [
            FileJob(writer="a" * 32, run="e/p/r", created_unix_s=0.0, name=f"{n}", source="/none")
            for n in range(3)
        ]
        for job in self.jobs:
            self.outbox.put(job)
        self.calls = 0

    def call_agent(self) -> None:
        self.calls += 1

    def wait(self, seconds: float = 0.0, **said: Any) -> bool:
        given = {"is_offline": False, "is_quiet": False, "may_wait_longer": False, **said}
        return wait_for_uploads(
            self.outbox,
            {job.id for job in self.jobs},
            node=self.node,
            run_id="r",
            until_mono_s=time.monotonic() + seconds,
            call_agent=self.call_agent,
            **given,
        )


def test_it_returns_when_the_last_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = Stage(tmp_path)

    def work() -> None:
        stage.outbox.end(stage.jobs[0], error="/none is not there", name="0")
        for job in stage.jobs[1:]:
            stage.outbox.forget(job)

    timer = threading.Timer(0.6, work)
    timer.start()
    assert stage.wait(60.0)
    timer.join()
    assert stage.calls >= 1
    assert "run r: 0 was not uploaded: /none is not there" in capsys.readouterr().err
    counts = count_uploads(stage.outbox, {job.id for job in stage.jobs}, 5, 2)
    assert (counts.total, counts.pending, counts.failed) == (5, 0, 3)


@pytest.mark.parametrize(
    ("settings", "said", "why"),
    [
        ({}, {"is_offline": True}, "`runfold sync` uploads them"),
        ({"target": "local", "url": None}, {}, "they are uploaded when a server runs"),
        ({"redis_url": "redis://r", "url": None}, {}, "files travel by HTTP, and no HTTP address is known"),
        ({}, {}, "the node agent goes on"),
        ({"mode": "thread"}, {}, "the next agent goes on"),
    ],
)
def test_what_is_left_is_told_with_the_way_out(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    settings: dict[str, Any],
    said: dict[str, Any],
    why: str,
) -> None:
    stage = Stage(tmp_path, **settings)
    assert not stage.wait(**said)
    assert f"3 files or artifacts are not uploaded yet; {why}" in capsys.readouterr().err
    assert not stage.wait(is_quiet=True, **said)
    assert capsys.readouterr().err == ""


def test_a_container_gets_a_last_chance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(tmp_path)
    monkeypatch.setattr("runfold.acknowledgement.dies_with_the_container", lambda *_: True)
    monkeypatch.setattr(awaiting, "LAST_CHANCE_S", 60.0)
    timer = threading.Timer(0.3, lambda: [stage.outbox.forget(job) for job in stage.jobs])
    timer.start()
    assert stage.wait(may_wait_longer=True)
    timer.join()
    assert "dies with this container" in capsys.readouterr().err


def test_what_can_not_be_seen_is_not_taken_for_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(tmp_path)

    def fails(_: Outbox) -> set[str]:
        raise OSError(24, "too many open files")

    monkeypatch.setattr(Outbox, "ids", fails)
    assert not stage.wait()
    assert count_uploads(stage.outbox, {job.id for job in stage.jobs}, 3, 0).pending == 3
