"""AlertLevel and the rules of run.alert(). In: what the caller said. Out: an AlertRecord's fields."""

from __future__ import annotations

import datetime
from enum import Enum

from runfold import terminal

#: Longest title that is kept.
MAX_TITLE_CHARACTERS = 64
#: An alert with the same title is not sent again for this long, unless the caller says otherwise.
DEFAULT_WAIT_S = 60.0


class AlertLevel(Enum):
    """How bad it is."""

    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"


def check_text(name: str, value: object) -> str:
    """Return what is said as `name`; TypeError where it is no str."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, got a {type(value).__name__}")
    return str.__str__(value)


def check_level(level: str | AlertLevel | None) -> str:
    """Return the level's name; ValueError for anything that is none."""
    if not level:
        return AlertLevel.INFO.value
    text = level.value if isinstance(level, AlertLevel) else level
    if text not in ("INFO", "WARN", "ERROR"):
        raise ValueError("level must be one of 'INFO', 'WARN', or 'ERROR'")
    return str(text)


def wait_seconds(wait_duration: float | datetime.timedelta | None) -> float:
    """Return the wait in seconds; None is a minute, 0 is no wait."""
    if wait_duration is None:
        return DEFAULT_WAIT_S
    if isinstance(wait_duration, datetime.timedelta):
        return wait_duration.total_seconds()
    if not isinstance(wait_duration, (int, float)):
        raise TypeError("wait_duration must be an int, float, or datetime.timedelta")
    return float(wait_duration)


def fit_title(title: str) -> str:
    """Return a title of at most 64 characters, with a warning when it had to be cut."""
    if len(title) <= MAX_TITLE_CHARACTERS:
        return title
    terminal.warn(f"alert title of {len(title)} characters was cut to {MAX_TITLE_CHARACTERS}")
    return title[:MAX_TITLE_CHARACTERS]
