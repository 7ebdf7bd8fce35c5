"""A stall as the verdicts tell it: while it goes on, and when it is over. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runfold_coordinator.verdicts.stall import Waited
from runfold_coordinator.verdicts.writer_watch import WriterWatch

#: Stalls that ended which are listed; all are counted.
KEPT_STALLS = 20
#: Stacks kept in a verdict, and characters of each.
KEPT_STACKS = 8
STACK_TEXT = 8000


def told_stall(
    before: Mapping[str, Any] | None,
    stalled: Sequence[WriterWatch],
    waited: Sequence[Waited],
    writers: Iterable[WriterWatch],
) -> dict[str, Any]:
    """Return the stall that goes on.

    Args:
        before: As it was told last; None: it is new.
        stalled: Who makes no progress, at least one.
        waited: Whom they wait for.
        writers: All, for their stacks.
    """
    steps = [writer.step for writer in stalled if writer.step is not None]
    names = {found.member.writer for found in waited}
    since_s = (before or {}).get("since_unix_s")
    return {
        "since_unix_s": since_s or max(writer.progress.progress_unix_s for writer in stalled),
        "step": max(steps, default=None),
        "waiting_for": [found.to_map() for found in waited],
        "others": sum(writer.writer_id not in names for writer in stalled),
        "stacks": _stacks(writers, names),
    }


def is_news(before: Mapping[str, Any] | None, stall: Mapping[str, Any]) -> bool:
    """Return whether it is another stall for its readers.

    How long a phase lasts is told as it was when it was judged: it changes by the second.
    """
    return before is None or _gist(before) != _gist(stall)


def lasted_to_the_end(before: Mapping[str, Any], now_unix_s: float) -> dict[str, Any] | None:
    """Return what changes in the verdicts as the run ends in its stall; None: nothing, it was told before."""
    return None if "until_unix_s" in before else {"stall": {**before, "until_unix_s": now_unix_s}}


def got_over(verdicts: Mapping[str, Any], before: Mapping[str, Any], now_unix_s: float) -> dict[str, Any]:
    """Return what changes in the verdicts as the run goes on after a stall."""
    until_s = before.get("until_unix_s") or now_unix_s
    since_s = before.get("since_unix_s") or until_s
    ended = {"since_unix_s": since_s, "until_unix_s": until_s, "step": before.get("step")}
    return {
        "stall": None,
        "stalls": [*(verdicts.get("stalls") or ()), ended][-KEPT_STALLS:],
        "stall_count": int(verdicts.get("stall_count") or 0) + 1,
        "stalled_s": float(verdicts.get("stalled_s") or 0.0) + max(0.0, until_s - since_s),
    }


def _stacks(writers: Iterable[WriterWatch], names: set[str]) -> list[dict[str, Any]]:
    """Return the stacks at hand, of those that are waited for first."""
    found = [writer for writer in writers if writer.stack is not None]
    found.sort(key=lambda writer: (writer.writer_id not in names, writer.rank or 0, writer.writer_id))
    return [
        {**writer.who(), "tool": writer.stack[2], "text": writer.stack[3][:STACK_TEXT]}
        for writer in found[:KEPT_STACKS]
        if writer.stack is not None
    ]


def _gist(stall: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what makes a stall another one for its readers."""
    waiting = [(found.get("writer"), found.get("kind")) for found in stall.get("waiting_for") or ()]
    stacks = [found.get("writer") for found in stall.get("stacks") or ()]
    return waiting, stall.get("others"), stall.get("step"), stacks
