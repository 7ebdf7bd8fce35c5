"""The columns of ranks and of runs: what each shows, what it sorts by, which one goes first. Pure.

In: rows as the API says them (dicts that may lack anything). Out: texts, keys to sort by, styles by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from runfold.top.texts import (
    UNKNOWN,
    age_text,
    clean,
    count_text,
    number,
    percent_text,
    share_text,
    size_text,
    span_text,
)

Row = Mapping[str, Any]
#: What a cell tells by its colour; without colours its text tells the same.
StyleName = Literal["", "good", "notice", "bad", "dim"]

#: Worst first: the order of states when sorted by.
_STATES = (
    "crashed", "failed", "killed", "stalled", "unreachable", "stopped", "preempted", "preempting", "running",
    "finished",
)  # fmt: skip
STATE_STYLES: dict[str, StyleName] = {
    "running": "",
    "finished": "good",
    "preempting": "notice",
    "preempted": "notice",
    "killed": "notice",
    "stopped": "notice",
    "unreachable": "notice",
    "stalled": "bad",
    "failed": "bad",
    "crashed": "bad",
}
_ENDED = frozenset({"finished", "failed", "killed", "crashed", "preempted"})
#: Steps behind the foremost from which a rank is shown in colour: one apart is how collectives look.
_LAG_SHOWN = 3
_HOT_CELSIUS = 85.0


@dataclass(frozen=True, slots=True)
class Column:
    """A column: `priority` 0 stays longest when the terminal is narrow."""

    name: str
    title: str
    width: int
    priority: int
    text: Callable[[Row], str]
    #: None sorts last, whichever way.
    key: Callable[[Row], Any]
    style: Callable[[Row], StyleName] = lambda _row: ""
    right: bool = True
    #: What is worth looking at stands at the end of an ascending order: most behind, slowest, hottest.
    descending_first: bool = True
    #: Takes the width that is left over.
    grows: bool = False


def shown_state(row: Row) -> str:
    """Return the state, or the flag that matters more while it goes on."""
    state = str(row.get("state") or UNKNOWN)
    if state in _ENDED:
        return state
    for flag in ("unreachable", "stalled", "stopped"):
        if row.get(flag):
            return flag
    return state


def gpu_value(row: Row, name: str, fold: Callable[[Sequence[float]], float]) -> float | None:
    """Return one number for the GPUs of a rank, None where none says it."""
    gpus = row.get("gpus")
    if not isinstance(gpus, list | tuple):
        return None
    found = [number(gpu.get(name)) for gpu in gpus if isinstance(gpu, Mapping)]
    numbers = [each for each in found if each is not None]
    return fold(numbers) if numbers else None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _said(name: str) -> Callable[[Row], str]:
    return lambda row: UNKNOWN if row.get(name) in (None, "") else clean(row[name])


def _number(name: str) -> Callable[[Row], float | None]:
    return lambda row: number(row.get(name))


def _text_key(name: str) -> Callable[[Row], str | None]:
    return lambda row: None if row.get(name) in (None, "") else str(row[name]).casefold()


def _counted(
    name: str, title: str, width: int, priority: int, text: Callable[[object], str], **more: Any
) -> Column:
    return Column(name, title, width, priority, lambda row: text(row.get(name)), _number(name), **more)


def _of_gpus(
    name: str,
    title: str,
    width: int,
    priority: int,
    fold: Callable[[Sequence[float]], float],
    **more: Any,
) -> Column:
    def key(row: Row) -> float | None:
        return gpu_value(row, name, fold)

    return Column(name, title, width, priority, lambda row: percent_text(key(row)), key, **more)


def _state_key(row: Row) -> int:
    state = shown_state(row)
    return _STATES.index(state) if state in _STATES else len(_STATES)


def _state_style(row: Row) -> StyleName:
    return STATE_STYLES.get(shown_state(row), "")


def _phase_text(row: Row) -> str:
    if not row.get("phase"):
        return UNKNOWN
    phase_s = number(row.get("phase_s"))
    # The time first: it is the name that is cut where there is no room.
    return ("" if phase_s is None else f"{age_text(phase_s)} ") + clean(row["phase"])


def _memory_text(row: Row) -> str:
    used = gpu_value(row, "memory_used_bytes", sum)
    return share_text(used, gpu_value(row, "memory_total_bytes", sum))


RANK = Column(
    "rank",
    "RANK",
    5,
    0,
    lambda row: UNKNOWN if number(row.get("rank")) is None else f"{row['rank']:.0f}",
    _number("rank"),
    descending_first=False,
)
STATE = Column(
    "state", "STATE", 11, 1, lambda row: clean(shown_state(row)), _state_key, _state_style,
    right=False, descending_first=False,
)  # fmt: skip
REASON = Column(
    "reason", "REASON", 20, 13, _said("reason"), _text_key("reason"),
    right=False, descending_first=False, grows=True,
)  # fmt: skip

RANK_COLUMNS: tuple[Column, ...] = (
    RANK,
    STATE,
    _counted("last_step", "STEP", 8, 2, count_text, descending_first=False),
    _counted(
        "step_lag", "LAG", 5, 3, count_text,
        style=lambda row: "notice" if (number(row.get("step_lag")) or 0) >= _LAG_SHOWN else "",
    ),
    _counted("step_s", "S/STEP", 7, 4, span_text),
    _of_gpus("util_percent", "GPU%", 4, 5, _mean),
    Column(
        "memory", "MEM GB", 7, 6, _memory_text,
        lambda row: gpu_value(row, "memory_used_bytes", sum),
    ),
    _of_gpus(
        "temperature_celsius", "TEMP", 4, 7, max,
        style=lambda row: "bad" if (gpu_value(row, "temperature_celsius", max) or 0) >= _HOT_CELSIUS else "",
    ),
    _counted("log_age_s", "LOG AGE", 7, 8, age_text),
    Column("phase", "IN", 12, 9, _phase_text, _number("phase_s"), right=False),
    Column(
        "host", "HOST", 14, 10, _said("host"), _text_key("host"), right=False, descending_first=False,
    ),
    _of_gpus("power_watts", "WATT", 5, 12, sum),
    _counted("cpu_percent", "CPU%", 5, 14, percent_text),
    _counted("rss_bytes", "RSS", 6, 15, size_text),
    _counted("spool_lag", "TO SEND", 7, 16, count_text),
    _counted("pid", "PID", 8, 17, count_text, descending_first=False),
    Column(
        "label", "LABEL", 14, 11, _said("label"), _text_key("label"), right=False, descending_first=False,
    ),
    REASON,
)  # fmt: skip

RUN_COLUMNS: tuple[Column, ...] = (
    STATE,
    Column("id", "ID", 16, 0, _said("id"), _text_key("id"), right=False, descending_first=False),
    Column(
        "project", "PROJECT", 20, 2,
        lambda row: clean(f"{row.get('entity')}/{row.get('project')}"),
        lambda row: f"{row.get('entity')}/{row.get('project')}".casefold(),
        right=False, descending_first=False,
    ),
    _counted("last_step", "STEP", 8, 3, count_text),
    _counted("duration_s", "LASTED", 6, 4, age_text),
    Column("name", "NAME", 16, 5, _said("name"), _text_key("name"), right=False, descending_first=False),
    Column("group", "GROUP", 14, 6, _said("group"), _text_key("group"), right=False, descending_first=False),
    Column("host", "HOST", 14, 7, _said("host"), _text_key("host"), right=False, descending_first=False),
)  # fmt: skip
