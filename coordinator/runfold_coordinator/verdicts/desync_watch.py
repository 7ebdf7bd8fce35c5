"""Metrics of one run that must be equal: what is expected, what was compared, what is to be read. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runfold.protocol.keypath import KeyPath, display_name
from runfold_coordinator.ingest.writer_batch import WriterBatch
from runfold_coordinator.store.model import I64
from runfold_coordinator.verdicts.catalogue import Known
from runfold_coordinator.verdicts.desync import Desync, Difference, Expectations
from runfold_coordinator.verdicts.observe import Values, equal_of
from runfold_coordinator.verdicts.writer_watch import WriterWatch, who_is

#: Before any step.
FIRST_STEP = -(2**62)


class DesyncWatch:
    """One run. Steps are the run's. Not thread-safe."""

    def __init__(self, verdicts: Mapping[str, Any]) -> None:
        """Go on from the verdicts that are in the catalogue."""
        self.expected = Expectations()
        #: First step of which stored values are to be read once more.
        self.recheck: int | None = None
        self._desync = Desync([str(found.get("metric")) for found in verdicts.get("desync") or ()])
        checked = verdicts.get("checked") or {}
        #: Up to which step of which attempt values were compared; what is stored beyond is read once more.
        self._checked = int(checked.get("step", FIRST_STEP))
        self._attempt = int(checked.get("attempt", 0))
        self._is_placed = False

    @property
    def is_ready(self) -> bool:
        """Whether values are compared as they come: their attempt is known, and nothing is to be read."""
        return bool(self.expected) and self.recheck is None and self._is_placed

    @property
    def is_full(self) -> bool:
        """Whether so much waits that it is to be compared now."""
        return self._desync.is_full

    def begin_attempt(self, attempt: int) -> None:
        """Take which attempt is the newest."""
        if self._is_placed and attempt == self._attempt:
            return
        # What came before this was known is of another attempt, or has other steps.
        self._desync.drop()
        if attempt != self._attempt:
            self._checked = FIRST_STEP
        self._attempt, self._is_placed = attempt, True
        if self.expected:
            self.recheck = self._checked + 1

    def note(self, writer: WriterWatch, work: WriterBatch) -> None:
        """Rows of a writer were stored."""
        for found in equal_of(work.blocks, work.maps, self.expected):
            self.add(found.path, writer.writer_id, found.steps + writer.placement.step_offset, found.values)

    def add(self, key_path: KeyPath, writer_id: str, steps: I64, values: Values) -> None:
        """Take values of a writer: as they come, or as they were stored before this coordinator was there."""
        tolerance = self.expected.of(key_path)
        if tolerance is not None:
            self._desync.add(display_name(key_path), tolerance, writer_id, steps, values)

    def settle(self, upto: int) -> dict[str, Difference]:
        """Compare what waits, up to this step; return what was found, by metric."""
        return self._desync.settle(upto)

    def note_checked(self, step: int) -> None:
        """All up to this step was compared."""
        self._checked = max(self._checked, step)

    @property
    def checked(self) -> dict[str, int] | None:
        """What the coordinator's next start has to know; None while there is nothing new to say."""
        return {"attempt": self._attempt, "step": self._checked} if self.is_ready else None


def told_difference(metric: str, found: Difference, known: Mapping[str, Known]) -> dict[str, Any]:
    """Return a finding as readers see it."""
    whose = [who_is(name, known.get(name)) for name in found.writers]
    return {
        "metric": metric,
        "step": found.step,
        "ranks": [who.get("rank") for who in whose],
        "labels": [who.get("label") for who in whose],
        "values": list(found.values),
        "expected": found.expected,
    }
