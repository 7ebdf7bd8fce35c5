"""RunTiming: where a step's time goes, told with its row. Part of Run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from runfold.run_part import RunPart

if TYPE_CHECKING:
    from runfold.timers import Timer, Timers


class RunTiming(RunPart):
    """Timers of phases. Until the first of them is asked for, log() does nothing of this."""

    #: Made with the first timer: rows of scripts that use none stay as they are.
    _timers: Timers | None = None
    #: What log() does: the recorder's own, until there are timings to add.
    _log_row: Callable[..., None]

    def timer(self, name: str, *, collective: bool = False) -> Timer:
        """Return what counts the time of a phase: `with run.timer("data"): ...`, or a decorator.

        The next row that is committed carries `timing/<name>`, seconds since the row before, for each timer
        used meanwhile, and `timing/step`, seconds since that row. Of nested timers the innermost counts. Each
        thread has timers of its own; their times add up. At most 64 names a run.

        Args:
            name: Of the phase: data, forward, backward, checkpoint, ...; not step, collective or busy.
            collective: It is spent waiting for other ranks: counted in `timing/collective` too.

        Raises:
            TypeError, ValueError: No such name can be.
        """
        timers = self._timers
        if timers is None:
            timers = self._begin_timing()
        return timers.get(name, collective=collective)

    def tell_busy(self, tells: bool) -> None:
        """Have rows also say `timing/busy`, what is left of a step without its collectives; or no more."""
        timers = self._timers if self._timers is not None else self._begin_timing()
        timers.tells_busy = tells

    def _begin_timing(self) -> Timers:
        from runfold.timers import Timers

        timers = Timers(self._recorder.log, self._header_words)
        self._timers = timers
        self._log_row = timers.log
        if "log" in self.__dict__:
            self.__dict__["log"] = timers.log
        return timers

    def _header_words(self) -> memoryview | None:
        return getattr(self._recorder.spool, "header_words", None)

    def reset_after_fork(self) -> None:
        """This is the child of a fork: its timers begin anew."""
        super().reset_after_fork()
        if self._timers is not None:
            self._timers.reset_after_fork()
