"""Run: what a training process holds. Checks, stamps, appends; no network, no waiting but in finish()."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Self

from runfold import keep_up, terminal
from runfold.alerts import AlertLevel, check_level, fit_title, wait_seconds
from runfold.config import Config, ConfigStatic
from runfold.deprecated_names import DeprecatedNames
from runfold.errors import ValidationError
from runfold.joining import Membership
from runfold.metric import Metric, check_metric
from runfold.protocol.identity import Identity
from runfold.protocol.records import (
    AlertRecord,
    ConfigRecord,
    ConsoleRecord,
    PreemptingRecord,
    RecordKind,
    RunRecord,
    SummaryRecord,
)
from runfold.recorder import Recorder
from runfold.redact import redact_text, redact_value
from runfold.run_end import RunEnd
from runfold.run_facts import RunFacts
from runfold.run_spool import RunSpool
from runfold.setting_checks import check_tags
from runfold.settings import Settings
from runfold.summary import Summary

if TYPE_CHECKING:
    from runfold.live_fold import LiveFold
    from runfold.timers import Timer, Timers


@dataclass(frozen=True, slots=True)
class RunStatus:
    """How far the run's records are. Counts are of this process."""

    #: Records said so far, lost ones included.
    sync_items_total: int
    #: Of these, not acknowledged yet.
    sync_items_pending: int
    #: When the server acknowledged last, None before the first time.
    sync_time: datetime.datetime | None
    #: Calls of log().
    rows: int
    #: Records that the server has stored durably.
    acknowledged: int
    #: Records that could not be kept on disk.
    dropped: int


class Run(RunEnd, RunFacts, DeprecatedNames):
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
        self._config.update(config)
        initial = redact_value(self._config._as_dict())  # noqa: SLF001  # ours, with the reserved key
        self._membership = replace(membership, identity=replace(membership.identity, config=initial))
        object.__setattr__(self._config, "_on_change", self._record_config)
        object.__setattr__(self._config, "_allow_by_default", terminal.is_notebook())
        identity = self._membership.identity
        self._name = identity.name
        self._notes = identity.notes
        self._tags = identity.tags
        self._console_lines_count = 0
        self._live: LiveFold | None = None
        #: Made with the first timer: rows of scripts that use none stay as they are.
        self._timers: Timers | None = None
        self._is_over = threading.Event()
        #: The summary: what was logged last, or what define_metric() asked for.
        self.summary = Summary(self._read_summary, self._record_summary)
        self._begin_end()
        self._spool = run_spool or RunSpool(self._membership, settings)
        self._spool.on_open = self._on_open
        self._recorder = Recorder(
            identity.run_id, self._spool.open, start_step=identity.start_step, is_lazy=run_spool is not None
        )
        #: What log() does: the recorder's own, until there are timings to add.
        self._log_row: Callable[..., None] = self._recorder.log
        if type(self).log is _LOG:
            # Found on the run itself, log() saves a call: 5 % of it. Not where somebody put another one.
            self.__dict__["log"] = self._recorder.log
        self._is_made = True

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
            data: Values by name: numbers, text, nested dicts, lists, NumPy arrays, torch tensors. A dict
            inside
                makes dotted names. An array of more than 32 elements is kept as a histogram.
            step: The row's step; without it the next one. A step that was passed already merges into its row.
            commit: Whether the row is complete. By default it is when `step` is not given.
            sync: Accepted for old scripts; does nothing.

        Raises:
            TypeError, ValueError: Wrong argument: nothing was stored, and the step did not move.
            UsageError: The run is finished.
        """
        self._log_row(data, step, commit)

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
        """
        self._recorder.check_active("alert")
        record = AlertRecord(
            fit_title(redact_text(str(title))),
            redact_text(str(text)),
            check_level(level),
            wait_seconds(wait_duration),
        )
        self._recorder.append(RecordKind.ALERT, record.pack())

    def mark_preempting(self) -> None:
        """Say that this process is about to be taken away."""
        self._recorder.check_active("mark_preempting")
        self._recorder.append(RecordKind.PREEMPTING, PreemptingRecord(source="mark_preempting").pack())

    def pin_config_keys(self, keys: Iterable[str] = ()) -> None:
        """Say which config keys are to be shown first; a later call replaces an earlier one."""
        self._recorder.check_active("pin_config_keys")
        self._config._pin("pinned_keys", [str(key) for key in keys])  # noqa: SLF001  # ours, the reserved key

    def write_logs(self, text: str) -> None:
        """Add text to the run's console output; ignored when the run is finished."""
        if self._recorder.is_ended:
            return
        lines = tuple(redact_text(line) for line in text.rstrip("\n").split("\n"))
        first, self._console_lines_count = self._console_lines_count, self._console_lines_count + len(lines)
        record = ConsoleRecord(stream="logger", first_line=first, lines=lines)
        self._recorder.append(RecordKind.CONSOLE, record.pack())

    def save(self, glob_str: str | None = None, *_: Any, **__: Any) -> list[str]:
        """Without arguments: nothing, as ever. Files are not kept yet: says so and returns []."""
        self._recorder.check_active("save")
        if glob_str is not None:
            terminal.warn_once("Run.save(): this version of runfold keeps no files; nothing was saved")
        return []

    # -- what can be changed --

    @property
    def step(self) -> int:
        """The step that the next log() without `step` will use. Each process counts its own."""
        if self._recorder.is_ended:
            raise TimeoutError(f"run {self.id} is finished: it has no step any more")
        if self.starting_step and not self._recorder.rows_count:
            return 0  # as W&B: a branched run shows its step with the first row
        return self._recorder.step

    @property
    def name(self) -> str | None:
        """The display name; may be set."""
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        self._recorder.check_active("name")
        self._name = str(name)
        self._recorder.append(RecordKind.RUN, RunRecord(name=self._name).pack())

    @property
    def notes(self) -> str | None:
        """Free text, Markdown; may be set."""
        return self._notes

    @notes.setter
    def notes(self, notes: str) -> None:
        self._recorder.check_active("notes")
        self._notes = str(notes)
        self._recorder.append(RecordKind.RUN, RunRecord(notes=self._notes).pack())

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags; may be set from any iterable. A tag that is empty or longer than 64 changes nothing."""
        return self._tags

    @tags.setter
    def tags(self, tags: Iterable[str]) -> None:
        self._recorder.check_active("tags")
        try:
            self._tags = check_tags("run_tags", tuple(tags))
        except ValidationError as error:
            terminal.warn(f"tags were not changed: {str(error).splitlines()[-1].strip()}")
            return
        self._recorder.append(RecordKind.RUN, RunRecord(tags=self._tags).pack())

    @property
    def config(self) -> Config:
        """The settings of the training, by name."""
        return self._config

    @property
    def config_static(self) -> ConfigStatic:
        """A read-only copy of `config` as it is now."""
        return ConfigStatic(self._config)

    @property
    def history(self) -> list[dict[str, Any]]:
        """The rows that this process committed so far, one a step, as nested dicts."""
        live = self._live_fold()
        rows = live.rows() if live is not None else []
        self._tell_if_released()
        return rows

    def status(self) -> RunStatus:
        """Return how much was said, acknowledged and lost."""
        self._recorder.check_active("status")
        spool = self._recorder.spool
        total = spool.last_seq if spool is not None else 0
        dropped = spool.dropped_count if spool is not None else 0
        acked = min(self._spool.acked_seq(), total)
        return RunStatus(
            sync_items_total=total,
            sync_items_pending=max(total - acked, 0),
            sync_time=self._spool.acked_at() if acked else None,
            rows=self._recorder.rows_count,
            acknowledged=acked,
            dropped=dropped,
        )

    # -- reading back and setting by hand --

    def _on_open(self, _: Identity) -> None:
        """A spool was opened: at the beginning, and in each child that goes on with the run."""
        self._live = None
        self._watch_process()

    def reset_after_fork(self) -> None:
        """This is the child of a fork: it becomes a writer of its own when it says something."""
        super().reset_after_fork()
        # The parent's other threads may have held locks of these, and did not come along.
        self._live = None
        if self._timers is not None:
            self._timers.reset_after_fork()
        self._is_over = threading.Event()

    def _leave(self, code: int | None = 0) -> None:
        super()._leave(code)
        if self._live is not None:
            self._live.close()

    def _live_fold(self) -> LiveFold | None:
        if self._live is None and self._spool.directory is not None:
            from runfold.live_fold import LiveFold

            self._live = LiveFold(self._spool.directory, self._spool.identity.started_unix_ns)
            if not self._recorder.is_ended:
                keep_up.start(self._live, self._is_over)
        return self._live

    def _tell_if_released(self) -> None:
        if self._live is not None and not self._live.is_whole:
            terminal.warn_once(
                f"run {self.id}: its first rows were delivered and are no longer on this machine, so that "
                "run.summary and run.history lack them here; runfold.Api has all of them"
            )

    def _read_summary(self) -> dict[str, Any]:
        if self._recorder.is_ended:
            terminal.warn("Summary data not available in finished run")
            return {}
        live = self._live_fold()
        summary = live.summary() if live is not None else {}
        self._tell_if_released()
        return summary

    def _record_summary(self, record: SummaryRecord) -> None:
        self._recorder.check_active("_summary_update_callback")
        self._recorder.append(RecordKind.SUMMARY, record.pack())

    def _record_config(self, changed: dict[str, Any]) -> None:
        self._recorder.check_active("_config_callback")
        if changed:
            self._recorder.append(RecordKind.CONFIG, ConfigRecord(set=redact_value(changed)).pack())


_LOG: Final = Run.log
