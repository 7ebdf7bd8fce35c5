"""RunHistory: what was logged so far by this process, and by those with which it shares the run by fork or
pickle; read back from their spools. Part of Run.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runfold import keep_up, terminal
from runfold.protocol.identity import Identity
from runfold.protocol.records import RecordKind, SummaryRecord
from runfold.run_part import RunPart

if TYPE_CHECKING:
    from runfold.live_fold import LiveFold


class RunHistory(RunPart):
    """Rows and summary. They are folded when first asked for, and kept up from then on."""

    _live: LiveFold | None = None
    _inherited_summary: dict[str, Any] | None = None

    @property
    def history(self) -> list[dict[str, Any]]:
        """The rows committed so far, one a step, as nested dicts: of this process, and of those that share
        the run with it by fork or pickle.
        """
        live = self._live_fold()
        rows = live.rows() if live is not None else []
        self._tell_if_released()
        return rows

    def _live_fold(self) -> LiveFold | None:
        family = self._spool.family or self._spool.directory
        if self._live is None and family is not None:
            from runfold.live_fold import LiveFold

            # A child's time of start is not the run's.
            shared = self._membership.identity if self._spool.family is not None else self._spool.identity
            own = self._spool.directory or family
            self._live = LiveFold(own, shared.zero_unix_ns, family=family)
            if not self._recorder.is_ended:
                keep_up.start(self._live, self._is_over)
        return self._live

    def _tell_if_released(self) -> None:
        if self._live is not None and not self._live.is_whole:
            run_id = self._membership.identity.run_id
            terminal.warn_once(
                f"run {run_id}: its first rows were delivered and are no longer on this machine, so that "
                "run.summary and run.history lack them here; runfold.Api has all of them"
            )

    def _read_summary(self) -> dict[str, Any]:
        if self._recorder.is_ended:
            terminal.warn("Summary data not available in finished run")
            return {}
        live = self._live_fold()
        summary = live.summary() if live is not None else {}
        self._tell_if_released()
        before = self._summary_before
        return summary if not before else laid_over(before, summary)

    @property
    def _summary_before(self) -> dict[str, Any]:
        """What the run had in its summary when it was resumed, and this process did not set or delete."""
        if self._inherited_summary is None:
            self._inherited_summary = copy.deepcopy(dict(self._membership.inherited.summary))
        return self._inherited_summary

    def _record_summary(self, record: SummaryRecord) -> None:
        self._recorder.check_active("_summary_update_callback")
        if self._summary_before:
            for change in record.changes:
                drop_path(self._summary_before, change[1])
        self._recorder.append(RecordKind.SUMMARY, record.pack())

    def _on_open(self, identity: Identity) -> None:
        if self._spool.family is None:
            self._live = None
        super()._on_open(identity)

    def reset_after_fork(self) -> None:
        """This is the child of a fork: the parent's fold may have been in the middle of a read."""
        super().reset_after_fork()
        self._live = None

    def _leave(self, code: int | None = 0) -> None:
        super()._leave(code)
        if self._live is not None:
            self._live.close()


def laid_over(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return two nested dicts as one; where both have a value, `now` has it."""
    merged = dict(before)
    for key, value in now.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            value = laid_over(below, value)  # noqa: PLW2901 - the same value, whole
        merged[key] = value
    return merged


def drop_path(tree: dict[str, Any], path: Sequence[str]) -> None:
    """Take what is at a path, or in its way, out of nested dicts; harmless where there is nothing."""
    at: Any = tree
    for part in path[:-1]:
        below = at.get(part)
        if not isinstance(below, dict):
            at.pop(part, None)
            return
        at = below
    at.pop(path[-1], None)
