"""A bar is shown on a terminal only, and only for what takes its time."""

from __future__ import annotations

import io
import sys

import pytest

from runfold import progress
from runfold.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def screen_of(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Return a terminal that is standard error now; called in the test, as pytest sets it between phases."""
    found = Terminal()
    monkeypatch.setattr(sys, "stderr", found)
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    return found


def test_a_long_transfer_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = screen_of(monkeypatch)
    monkeypatch.setattr(progress, "_SHOW_AFTER_S", 0.0)
    with Progress("downloading data:v0", 2_000_000, 3) as bar:
        bar.add(1_000_000)
        bar.add(1_000_000)
    assert "downloading data:v0 (3 files)" in screen.getvalue()
    assert bar.done == 2_000_000


def test_a_short_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = screen_of(monkeypatch)
    with Progress("downloading", 10, 1) as bar:
        bar.add(10)
    assert screen.getvalue() == ""


def test_nothing_is_shown_elsewhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_SHOW_AFTER_S", 0.0)
    with Progress("downloading", 10, 1) as bar:
        bar.add(10)
    assert capsys.readouterr().err == ""
