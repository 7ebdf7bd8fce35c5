"""StepCounter: which step a log() call belongs to. In: step and commit as said. Out: the row's step."""

from __future__ import annotations


class StepCounter:
    """One writer's step, as W&B counts it, except that a late step keeps its place instead of being dropped.

    Not thread-safe: the caller holds the run's lock.
    """

    __slots__ = ("current",)

    def __init__(self, start: int = 0) -> None:
        #: The step that the next call without `step` will use.
        self.current = start

    def take(self, step: int | None = None, commit: bool | None = None) -> int:
        """Return the step of this call's row and move the counter.

        Args:
            step: What the caller said; below the current step the call is late and moves nothing.
            commit: What the caller said; None means committed exactly when no step was given.
        """
        if step is None:
            row = self.current
            if commit is not False:
                self.current = row + 1
            return row
        if step < self.current:
            return step
        self.current = step + 1 if commit else step
        return step
