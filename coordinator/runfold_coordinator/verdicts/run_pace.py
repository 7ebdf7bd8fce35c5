"""The pace of a run as the verdicts keep it, for the coordinator's next start. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from runfold_coordinator.verdicts.progress import Pace
from runfold_coordinator.verdicts.writer_watch import WriterWatch

#: Writers that log so much more seldom than the run's others (once an epoch) are remembered as such.
SLOW_RATIO = 3.0
KEPT_SLOW = 200
#: Writers of which the run's pace is the middle one.
ASKED_WRITERS = 64


class RunPace:
    """One run. `longest_s`: the longest pause of any of its writers. Not thread-safe."""

    def __init__(self, verdicts: Mapping[str, Any]) -> None:
        """Go on from the verdicts that are in the catalogue."""
        self.pace = Pace.from_map(verdicts.get("pace"))
        self.longest_s = 0.0 if self.pace is None else self.pace.longest_s
        self._slow: dict[str, Any] = verdicts.get("slow") or {}

    def usual_s(self, writer_id: str) -> float | None:
        """Return what a row takes a writer that was there before this coordinator; None: unknown."""
        if self.pace is None:
            return None
        return float(self._slow[writer_id]) or None if writer_id in self._slow else self.pace.step_s

    def learn(self, writers: Collection[WriterWatch]) -> dict[str, Any]:
        """Return what changes in the verdicts; {}: nothing."""
        paces = [
            pace for writer in islice(writers, ASKED_WRITERS) if (pace := writer.progress.pace()) is not None
        ]
        if not paces:
            return {}
        paces.sort(key=lambda pace: pace.step_s)
        found = replace(paces[len(paces) // 2], longest_s=self.longest_s)
        changes: dict[str, Any] = {}
        slow = _slow_ones(writers, found.step_s)
        if slow.keys() != self._slow.keys():
            changes["slow"] = self._slow = slow
        told = self.pace
        if told is None or _differs(told.step_s, found.step_s) or _differs(told.longest_s, found.longest_s):
            self.pace = found
            changes["pace"] = found.to_map()
        return changes


def _slow_ones(writers: Collection[WriterWatch], usual_s: float) -> dict[str, float]:
    """Return what a row takes those that log seldom, 0.0 where that is not known."""
    slow: dict[str, float] = {}
    for writer in writers:
        step_s = writer.progress.step_s
        if not writer.has_ended and (step_s is None or step_s > SLOW_RATIO * usual_s):
            slow[writer.writer_id] = step_s or 0.0
    return dict(islice(slow.items(), KEPT_SLOW))


def _differs(told: float, found: float) -> bool:
    return abs(found - told) > 0.5 * told + 1e-6
