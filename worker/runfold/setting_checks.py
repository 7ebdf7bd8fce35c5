"""How each setting is checked: takes its name and what was given, returns what is kept, or raises.

ValidationError for a wrong value; UsageError for ids, projects and entities, as W&B has it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from runfold.errors import ValidationError
from runfold.naming import check_entity, check_project, check_run_id
from runfold.run_moment import RunMoment

#: Longest id of a sweep, in characters.
MAX_SWEEP_ID_CHARS = 128
_MODES = frozenset({"online", "offline", "dryrun", "disabled", "run", "shared"})
_REINITS = frozenset({"default", "return_previous", "finish_previous", "create_new"})
_RESUMES = frozenset({"allow", "must", "never", "auto"})
_CONSOLES = frozenset({"auto", "off", "wrap", "redirect", "wrap_raw", "wrap_emu"})
_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})
_FALSE = frozenset({"0", "false", "f", "no", "n", "off", ""})


def _text(name: str, value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    if not isinstance(value, str):
        raise ValidationError(name, "Input should be a valid string", value)
    return str.__str__(value)


def _sweep_id(name: str, value: object) -> str:
    text = _text(name, value).strip().rpartition("/")[2]
    if not 1 <= len(text) <= MAX_SWEEP_ID_CHARS:
        raise ValidationError(name, f"Input should have 1 to {MAX_SWEEP_ID_CHARS} characters", value)
    return text


def _truth(name: str, value: object) -> bool:
    if isinstance(value, (bool, int)) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in _TRUE | _FALSE:
        return value.strip().lower() in _TRUE
    raise ValidationError(name, "Input should be a valid boolean", value)


def _seconds(name: str, value: object) -> float:
    try:
        seconds = float(value)  # type: ignore[arg-type]  # whatever float() takes
    except (TypeError, ValueError):
        raise ValidationError(name, "Input should be a valid number", value) from None
    if seconds < 0:
        raise ValidationError(name, "Input should not be negative", value)
    return seconds


def _one_of(choices: frozenset[str]) -> Callable[[str, object], str]:
    def check(name: str, value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            listed = ", ".join(repr(choice) for choice in sorted(choices))
            raise ValidationError(name, f"Input should be one of {listed}", value)
        return value

    return check


def _resume(name: str, value: object) -> str | None:
    text = value.lower() if isinstance(value, str) else value
    if text is True or text in ("true", "1"):
        return "auto"
    if text is False or text in ("false", "0"):
        return None
    return _one_of(_RESUMES)(name, value)


def _reinit(name: str, value: object) -> str | bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false", "1", "0"):
        return value.lower() in ("true", "1")
    return _one_of(_REINITS)(name, value)


def _tags(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return check_tags(name, (value,))
    try:
        return check_tags(name, tuple(value))  # type: ignore[arg-type]  # any iterable
    except TypeError:
        raise ValidationError(name, "Input should be a valid tuple", value) from None


def check_tags(name: str, tags: tuple[object, ...]) -> tuple[str, ...]:
    """Return `tags` when each is 1 to 64 characters long; ValidationError if not."""
    for tag in tags:
        if not isinstance(tag, str):
            raise ValidationError(name, "Input should be a valid string", tag)
        if not 1 <= len(tag) <= 64:
            raise ValidationError(
                name, f"Tag {tag!r} is {len(tag)} characters. Tags must be 1 to 64 characters.", tag
            )
    return tuple(str(tag) for tag in tags)


def _moment(name: str, value: object) -> RunMoment:
    return value if isinstance(value, RunMoment) else RunMoment.parse(name, _text(name, value))


CHECKS: dict[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(
        (
            "run_group",
            "run_job_type",
            "run_name",
            "run_notes",
            "base_url",
            "api_key",
            "redis_url",
            "root_dir",
        ),
        _text,
    ),
    **dict.fromkeys(("runfold_dir", "host", "program", "x_label"), _text),
    **dict.fromkeys(
        ("silent", "quiet", "disabled", "allow_val_change", "x_primary", "x_update_finish_state"), _truth
    ),
    **dict.fromkeys(
        ("finish_timeout_raises", "x_record_signals", "x_join_ranks", "x_offline", "x_stacks"), _truth
    ),
    **dict.fromkeys(("x_disable_stats", "x_disable_meta", "disable_git"), _truth),
    "sweep_id": _sweep_id,
    "sweep_url": _text,
    **dict.fromkeys(("init_timeout", "finish_timeout", "x_stats_sampling_interval"), _seconds),
    "run_tags": _tags,
    "run_id": lambda name, value: check_run_id(_text(name, value)),
    "project": lambda name, value: check_project(_text(name, value)),
    "entity": lambda name, value: check_entity(_text(name, value)),
    "mode": _one_of(_MODES),
    "console": _one_of(_CONSOLES),
    "resume": _resume,
    "reinit": _reinit,
    "fork_from": _moment,
    "resume_from": _moment,
}
