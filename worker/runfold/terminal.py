"""Lines for the person at the terminal: always on stderr, never an exception, repeats held back."""

from __future__ import annotations

import sys
import time

_PREFIX = "runfold: "
_is_silent = False
_said: set[str] = set()
_last_said_mono_s: dict[str, float] = {}


def be_silent(*, silent: bool) -> None:
    """Switch all lines off or on for this process (Settings(silent=), RUNFOLD_SILENT)."""
    global _is_silent
    _is_silent = silent


def is_silent() -> bool:
    """Say whether lines are switched off."""
    return _is_silent


def is_notebook() -> bool:
    """Say whether this is the kernel of a notebook, where a cell is run again and again."""
    return "ipykernel" in sys.modules


def write(text: str) -> None:
    """Write raw text to stderr; closed or missing streams are nobody's problem."""
    if _is_silent:
        return
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except Exception:  # noqa: BLE001  # a broken stderr (pythonw, closed pipe, a test's capture) must not reach training
        return


def info(text: str) -> None:
    """Say something about the run's life."""
    write(f"{_PREFIX}{text}\n")


def said_before(text: str) -> bool:
    """Whether this was asked about these words already in this process."""
    if text in _said:
        return True
    _said.add(text)
    return False


def prefixed(text: str) -> str:
    """Return the text with what every line of ours begins with, on each of its lines."""
    return "\n".join(_PREFIX + line for line in text.split("\n"))


def info_once(text: str) -> None:
    """Say something, but not twice with the same words in this process."""
    if not said_before(text):
        info(text)


def warn(text: str) -> None:
    """Say that something did not go as the caller may think."""
    write(f"runfold: WARNING {text}\n")


def warn_once(text: str) -> None:
    """Warn, but not twice with the same words in this process."""
    if not said_before(text):
        warn(text)


def warn_at_most_every(interval_s: float, topic: str, text: str) -> None:
    """Warn, but about one topic at most every `interval_s`."""
    now = time.monotonic()
    if now - _last_said_mono_s.get(topic, -interval_s) >= interval_s:
        _last_said_mono_s[topic] = now
        warn(text)
