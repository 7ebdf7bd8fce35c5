"""A folder of its own for each test; every run is finished after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import runfold
from runfold import terminal, timers
from support.own_home import own_home
from support.spooled import Spooled, read_spools


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Spools under tmp_path, nobody called, nothing said before."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_RUN_ID", "SLURM_JOB_ID", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    with own_home(tmp_path, monkeypatch):
        yield
    terminal.be_silent(silent=False)


@pytest.fixture
def run(_alone: None) -> runfold.Run:
    return runfold.init(project="p")


class Clock:
    """CLOCK_MONOTONIC as the tests want it: stands still, or takes a tick each time it is read."""

    def __init__(self) -> None:
        self.now_s, self.tick_s = 100.0, 0.0

    def __call__(self) -> int:
        self.now_s += self.tick_s
        return round(self.now_s * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of timers; it moves when told."""
    found = Clock()
    monkeypatch.setattr(timers, "monotonic_ns", found)
    return found


@pytest.fixture
def spools(tmp_path: Path) -> Callable[[], list[Spooled]]:
    """Read what was said so far, oldest writer first."""
    return lambda: read_spools(tmp_path / "home")


@pytest.fixture
def spool(spools: Callable[[], list[Spooled]]) -> Callable[[], Spooled]:
    """Read the only spool."""

    def read() -> Spooled:
        found = spools()
        assert len(found) == 1
        return found[0]

    return read


def raised(call: Callable[[], Any]) -> type[BaseException] | None:
    """Return the class of what `call` raises."""
    try:
        call()
    except Exception as error:
        return type(error)
    return None
