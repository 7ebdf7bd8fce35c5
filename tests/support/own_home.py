"""A process for a test's runs: spools under its own folder, offline, nothing said before."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from runfold import terminal
from runfold.current_run import current_run
from runfold.init import _active


@contextlib.contextmanager
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let runs of this process lie in `tmp_path`; they are finished in the end."""
    monkeypatch.setenv("RUNFOLD_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("RUNFOLD_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    terminal._said.clear()
    terminal._last_said_mono_s.clear()
    yield
    disabled = [run] if (run := current_run()) is not None and run.disabled else []
    for run in [*_active, *disabled]:
        run.finish(quiet=True)
