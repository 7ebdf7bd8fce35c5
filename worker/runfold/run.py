"""Run: what a training process holds. Checks, stamps, appends; no network, no waiting but in finish().

Here is what is said of rows and metrics; the rest of Run is the classes that it is made of (`run_part.py`).
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, Self

from runfold import config_artifacts, terminal
from runfold.alerts import AlertLevel, check_level, check_text, fit_title, wait_seconds
from runfold.config import Config
from runfold.deprecated_names import DeprecatedNames
from runfold.joining import Membership
from runfold.metric import Metric, check_metric
from runfold.protocol.branching import RESUME
from runfold.protocol.records import AlertRecord, PreemptingRecord, RecordKind
from runfold.recorder import Recorder
from runfold.redact import redact_text, redact_value
from runfold.run_attributes import RunAttributes
from runfold.run_code import RunCode
from runfold.run_display import RunDisplay
from runfold.run_end import RunEnd
from runfold.run_facts import RunFacts
from runfold.run_files import RunFiles
from runfold.run_history import RunHistory
from runfold.run_media import RunMedia
from runfold.run_models import RunModels
from runfold.run_spool import RunSpool
from runfold.run_status import RunStatus
from runfold.run_timing import RunTiming
from runfold.run_watch import RunWatch
from runfold.settings import Settings
from runfold.summary import Summary


class Run(
    RunMedia,
    RunHistory,
    RunTiming,
    RunWatch,
    RunModels,
    RunCode,
    RunAttributes,
    RunFiles,
    RunDisplay,
    RunFacts,
    RunEnd,
    DeprecatedNames,
):
    """One process's part in a run. Made by `init`. Thread-safe, also in signal handlers.

    A fork's child may go on using it, and becomes a writer of its own.
    """

    def __init__(
        self,
        membership: Membership,
        settings: Settings,
        config: Mapping[str, Any],
        *,
        run_spool: RunSpool | None = None,
        on_finish: Callable[[Any, int | None], None] | None = None,
    ) -> None:
        """Open the spool. Use `init`, which finds out all of this.

        Args:
            run_spool: Given when another process made the run: then the spool is opened by the first record.
        """
        self._settings = settings
        self._on_finish = on_finish
        self._config = Config()
        config, artifacts = config_artifacts.split(config)
        self._config.update(config)
        initial = redact_value(self._config._as_dict())  # noqa: SLF001  # ours, with the reserved key
        self._membership = replace(membership, identity=replace(membership.identity, config=initial))
        inherited = self._membership.inherited
        self._config._inherit(inherited.config)  # noqa: SLF001  # ours
        object.__setattr__(self._config, "_on_change", self._record_config)
        object.__setattr__(self._config, "_allow_by_default", terminal.is_notebook())
        identity = self._membership.identity
        self._name = identity.name
        self._notes = identity.notes if identity.notes is not None else inherited.notes
        self._tags = identity.tags or inherited.tags
        #: The summary: what was logged last, or what define_metric() asked for.
        self.summary = Summary(self._read_summary, self._record_summary)
        self._begin_end()
        self._begin_files()
        self._spool = run_spool or RunSpool(self._membership, settings)
        self._spool.on_open = self._on_open
        self._recorder = Recorder(
            identity.run_id, self._spool.open, start_step=identity.start_step, is_lazy=run_spool is not None
        )
        self._recorder.on_media = self._take_media
        self._recorder.on_left_out = self._tell_left_out
        self._recorder.on_pickle = self.__reduce__
        self._log_row = self._recorder.log
        if type(self).log is _LOG:
            # Found on the run itself, log() saves a call: 5 % of it. Not where somebody put another one.
            self.__dict__["log"] = self._recorder.log
        self._is_made = True
        object.__setattr__(self._config, "_use_artifact", lambda one: self.use_artifact(one) or one)
        if artifacts:
            self._config.update(artifacts, allow_val_change=True)

    def __setattr__(self, name: str, value: Any) -> None:
        if "_is_made" in self.__dict__ and name not in self.__dict__ and not hasattr(type(self), name):
            raise Exception(f"Attribute {name} is not supported on Run object.")  # noqa: TRY002  # W&B's own class
        object.__setattr__(self, name, value)

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __copy__(self) -> Self:
        return self

    def __reduce__(self) -> Any:
        from runfold.attach import attach, pack_run

        return attach, (pack_run(self),)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path}>"

    # -- logging --

    def log(
        self,
        data: Mapping[str, Any],
        step: int | None = None,
        commit: bool | None = None,
        sync: bool | None = None,  # noqa: ARG002  # accepted for old scripts
    ) -> None:
        """Log one row, or a part of one. Returns in microseconds, whatever the network does.

        Args:
            data: Values by name: numbers, text, nested dicts, lists, NumPy arrays, torch tensors; images and
                other media, figures: their row is said now, and they follow from a thread. A dict inside
                makes dotted names. An array of more than 32 elements is kept as a histogram.
            step: The row's step; without it the next one. A step that was passed already merges into its row.
            commit: Whether the row is complete. By default it is when `step` is not given.
            sync: Accepted for old scripts; does nothing.

        Raises:
            TypeError, ValueError: Wrong argument: nothing was stored, and the step did not move. A value that
                is merely too large is left out of its row instead, with a warning and an alert.
            UsageError: The run is finished.
        """
        self._log_row(data, step, commit)

    def define_metric(  # noqa: PLR0917  # W&B's signature
        self,
        name: str,
        step_metric: str | Metric | None = None,
        step_sync: bool | None = None,
        hidden: bool | None = None,
        summary: str | None = None,
        overwrite: bool | None = None,
        *,
        goal: str | None = None,
        reduce: str | None = None,
        weight: str | None = None,
        expect: str | None = None,
        rtol: float | None = None,
        atol: float | None = None,
    ) -> Metric:
        """Say how a metric is to be summarised, and against what it is drawn.

        Args:
            name: A metric, or a prefix and one `*`. A dot separates nested keys, `\\.` is a dot in a key.
            step_metric: The metric for the x axis.
            step_sync: Insert the last `step_metric` into rows that lack it; by default when there is one.
            hidden: Leave it out of automatic charts.
            summary: One or more of min, max, mean, last, first, best, copy, none, separated by commas.
            overwrite: Forget earlier definitions instead of adding to them.
            goal: minimize or maximize, for `best`.
            reduce: How values of several ranks at one step become one: mean, sum, min, max, first, last,
                primary, none.
            weight: The metric that weighs the ranks of a mean.
            expect: "equal": all ranks of a shared run must log the same at each step. The first step at which
                they don't is told with the run (`Run.desync` of the public Api).
            rtol, atol: How far values may lie apart: atol + rtol * |median|; 0 by default.

        Raises:
            Error: An argument is of the wrong type or unknown; UsageError when the run is finished.
        """
        self._recorder.check_active("define_metric")
        metric = check_metric(
            name,
            step_metric=step_metric,
            step_sync=step_sync,
            hidden=hidden,
            summary=summary,
            goal=goal,
            overwrite=overwrite,
            reduce=reduce,
            weight=weight,
            expect=expect,
            rtol=rtol,
            atol=atol,
        )
        self._recorder.append(RecordKind.METRIC, metric.to_record().pack())
        return metric

    def alert(
        self,
        title: str,
        text: str,
        level: str | AlertLevel | None = None,
        wait_duration: float | datetime.timedelta | None = None,
    ) -> None:
        """Tell people. One alert with the same title at most every `wait_duration` seconds, 60 by default.

        Raises:
            ValueError: `level` is none of INFO, WARN, ERROR.
            TypeError: `title` or `text` is no str, or `wait_duration` no time.
        """
        self._recorder.check_active("alert")
        record = AlertRecord(
            fit_title(redact_text(check_text("title", title))),
            redact_text(check_text("text", text)),
            check_level(level),
            wait_seconds(wait_duration),
        )
        self._recorder.append(RecordKind.ALERT, record.pack())

    def mark_preempting(self) -> None:
        """Say that this process is about to be taken away."""
        self._recorder.check_active("mark_preempting")
        self._recorder.append(RecordKind.PREEMPTING, PreemptingRecord(source="mark_preempting").pack())

    @property
    def step(self) -> int:
        """The step that the next log() without `step` will use. Each process counts its own."""
        if self._recorder.is_ended:
            raise TimeoutError(f"run {self.id} is finished: it has no step any more")
        branch = self._membership.identity.branch
        if branch is not None and branch.kind != RESUME and not self._recorder.rows_count:
            return 0  # as W&B: a branched run shows its step with the first row
        return self._recorder.step

    def status(self) -> RunStatus:
        """Return how much was said, acknowledged and lost."""
        self._recorder.check_active("status")
        return RunStatus.of(self._recorder, self._spool, self._upload_counts())


_LOG: Final = Run.log
