"""Who of a run's writers is slow, looked for now and then. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runfold_coordinator.verdicts.stragglers import STEPS, find_behind, find_slow
from runfold_coordinator.verdicts.timings import side_by_side
from runfold_coordinator.verdicts.writer_watch import WriterWatch

#: Workers without timings are called slow after so many looks in a row that say so.
LOOKS = 3


class StragglerWatch:
    """One run. Remembers what its last looks saw. Not thread-safe."""

    def __init__(self) -> None:
        self._behind_looks: dict[str, int] = {}
        #: Steps seen with timings at the last look.
        self._judged_step = -1

    def look(self, live: Sequence[WriterWatch], *, is_last: bool) -> list[dict[str, Any]] | None:
        """Return the slow ones, worst first, as readers see them; None: there is nothing new to judge.

        Args:
            live: Those of the newest attempt that go on; at the last look all of it.
        """
        timed = [writer for writer in live if writer.timings is not None]
        if len(timed) >= 2:
            table = side_by_side([w.timings for w in timed if w.timings is not None], STEPS)
            reached = int(table.steps[-1]) if len(table.steps) else -1
            if reached == self._judged_step:
                return None
            self._judged_step = reached
            return [{**timed[table.members[slow.at]].who(), **slow.to_map()} for slow in find_slow(table)]
        if is_last:  # of workers that end one after another, the last is not slow for that
            return None
        return self._behind(live)

    def _behind(self, live: Sequence[WriterWatch]) -> list[dict[str, Any]]:
        ranked = [writer for writer in live if writer.rank is not None and not writer.is_flagged]
        paced = [(w, pace, w.step or 0) for w in ranked if (pace := w.progress.pace()) is not None]
        behind = [
            (paced[slow.at][0], slow) for slow in find_behind([(pace, step) for _, pace, step in paced])
        ]
        self._behind_looks = {w.writer_id: self._behind_looks.get(w.writer_id, 0) + 1 for w, _ in behind}
        return [
            {**writer.who(), **slow.to_map()}
            for writer, slow in behind
            if self._behind_looks[writer.writer_id] >= LOOKS
        ]


def are_news(before: Sequence[Mapping[str, Any]], slows: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether these are others, slow elsewhere, or by another amount worth telling."""
    return _who_and_where(before) != _who_and_where(slows) or any(
        _moved(told, found) for told, found in zip(before, slows, strict=True)
    )


def _who_and_where(slows: Sequence[Mapping[str, Any]]) -> list[tuple[Any, Any]]:
    return [(slow.get("writer"), slow.get("timer")) for slow in slows]


def _moved(told: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    return abs(float(found["excess_s"]) - float(told["excess_s"])) > 0.25 * float(told["excess_s"])
