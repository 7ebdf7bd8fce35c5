"""RunHistory: the rows that were logged to a stored run, and the lines that were printed. Part of Run."""

from __future__ import annotations

from typing import Any

from runfold.api.columns import shaped
from runfold.api.console_logs import ConsoleLogs
from runfold.api.errors import RequestError
from runfold.api.history_scan import HistoryScan, check_scan_arguments
from runfold.api.run_document import RunDocument
from runfold.terminal import warn


class RunHistory(RunDocument):
    """Read as of now; `history_keys`, `lastHistoryStep` and `history_line_count` as of loading."""

    @property
    def history_keys(self) -> dict[str, Any]:
        """{"keys": {name: {"typeCounts": [{"type"}]}}, "lastStep"}, in W&B's shape."""
        kinds = {"d": "number", "q": "number", "?": "boolean", "o": "object"}
        keys = {
            entry["name"]: {"typeCounts": [{"type": kinds[kind]} for kind in entry["kinds"]]}
            for entry in self._loaded("keys")
        }
        return {"keys": keys, "lastStep": self.lastHistoryStep}

    @property
    def lastHistoryStep(self) -> int:  # noqa: N802 - W&B's name
        """Highest step logged, -1 where nothing was."""
        return int(self._document["last_step"])

    @property
    def history_line_count(self) -> int:
        """Number of `log()` calls stored, over all writers."""
        return int(self._document["row_count"])

    def history(
        self,
        samples: int = 500,
        keys: list[str] | None = None,
        x_axis: str = "_step",
        pandas: bool = True,
        stream: str = "default",
        *,
        stats: bool = False,
        rank: int | None = None,
        label: str | None = None,
        attempt: int | None = None,
    ) -> Any:
        """Return at most about `samples` rows; extremes survive the sampling.

        Args:
            samples: 1 to 1,000,000; more than the run has gives every row. With columns, at most 12 million
                cells in one answer.
            keys: Only rows that have all of these, with `x_axis`; None: all keys.
            x_axis: First column: "_step", "_timestamp", "_runtime" or a metric. Rows are in order of step.
            pandas: A DataFrame where pandas is installed, else a list of dicts.
            stream: "default", or "system" for what the run's nodes did meanwhile: rows by time, with
                `_timestamp`, `_runtime` and "system.<name>" (docs/system_metrics.md), of `samples`, `rank`
                and `label` only.
            stats: For each numeric key k also k:mean, k:std, k:min, k:max, k:count, k:argmin and k:argmax
                over the writers (std with n-1, NaN for one writer; argmin and argmax are ranks, labels where
                writers have no rank).
            rank: Only what writers of this rank logged; `label` and `attempt` likewise.

        Returns:
            A DataFrame, the x axis first, `_step` int64. Without `keys` also `_timestamp` (unix s) and
            `_runtime` (s since the run began), float64. A metric is float64, int64 or bool as logged; where
            rows lack it, numbers are float64 with NaN, the rest object with None. k:count is int64, k:argmin
            and k:argmax int64 ranks or texts, the other statistics float64. Nested keys are dotted ("a.b").
            A list of dicts lacks what a row lacks. [] with a warning where an argument is wrong in a way that
            W&B warns of.

        Raises:
            RequestError: (a ValueError) `samples` or the size of the answer is over its limit.
        """
        complaint = _history_complaint(keys, stream)
        if complaint is not None:
            warn(complaint)
            return []
        parameters: dict[str, Any] = {"keys": keys, "samples": samples, "x_axis": x_axis, "stats": stats}
        parameters |= {"stream": stream, "rank": rank, "label": label, "attempt": attempt}
        return shaped(self._connection.get(self._route("series"), parameters), pandas=pandas)

    def scan_history(
        self,
        keys: list[str] | None = None,
        page_size: int = 1000,
        min_step: int | None = None,
        max_step: int | None = None,
        use_cache: bool = True,
        *,
        per_writer: bool = False,
        rank: int | None = None,
        label: str | None = None,
        attempt: int | None = None,
        superseded: bool = False,
    ) -> HistoryScan:
        """Return an iterator over every row with min_step <= step < max_step, in order of step.

        A row is a dict, nested as logged, with `_step` (int), `_timestamp` (float, unix s, of the row's last
        call) and `_runtime` (float, s since the run began). Ints stay ints, NaN and infinities floats. Rows
        that arrive while it iterates are seen if their steps still lie ahead.

        Args:
            keys: Only rows that have all of these, and only these keys of them.
            page_size: Rows of the first request; a scan that goes on asks for up to ten times as many.
            use_cache: Accepted for W&B's scripts; nothing is cached.
            per_writer: Rows as each writer logged them, with _label, _rank, _attempt, _writer and _seq;
                else one row per step, reduced over writers.
            rank: Only rows of writers of this rank; `label` and `attempt` likewise.
            superseded: Also rows that a later attempt has overtaken.

        Raises:
            RequestError: (a ValueError) An argument is not what it should be.
        """
        del use_cache
        check_scan_arguments(keys, page_size, min_step, max_step)
        parameters: dict[str, Any] = {"keys": keys, "min_step": min_step, "max_step": max_step}
        parameters |= {"rank": rank, "label": label, "attempt": attempt}
        parameters |= {"per_writer": per_writer, "superseded": superseded}
        return HistoryScan(self._connection, self._route("history"), page_size, parameters)

    beta_scan_history = scan_history

    def console_logs(
        self,
        per_page: int = 1000,
        last: int | None = None,
        *,
        rank: int | list[int] | None = None,
        label: str | None = None,
        writer: str | None = None,
        stream: str | None = None,
        follow: bool = False,
    ) -> ConsoleLogs:
        """Return an iterator over what the run's processes printed, oldest first, merged by time.

        A line is a ConsoleLogLine: number, timestamp, level, label and content as W&B has them, and rank,
        writer, stream, dropped, is_open.

        Args:
            per_page: Lines fetched at a time, at most 10,000.
            last: Only the newest so many lines, at most 10,000: fast, however long the run is.
            rank: Only of this rank, or of these; `label` and `writer` (a writer id) likewise.
            stream: Only "stdout", "stderr", "output" (both in one) or "logger" (Run.write_logs).
            follow: Go on with lines as they come, until the run has ended.

        Raises:
            RequestError: (a ValueError) An argument is not what it should be.
        """
        parameters = {"rank": rank if rank is None or isinstance(rank, list) else [rank], "label": label}
        return ConsoleLogs(
            self._connection,
            self._route(),
            per_page=per_page,
            last=last,
            follow=follow,
            parameters={**parameters, "writer": writer, "stream": stream},
        )


def _history_complaint(keys: object, stream: str) -> str | None:
    if keys is not None and not isinstance(keys, list):
        return "keys must be specified in a list"
    if keys and not all(isinstance(key, str) for key in keys):
        return "keys argument must be a list of strings"
    if keys and stream != "default":
        return "stream must be default when specifying keys"
    if stream not in ("default", "system"):
        raise RequestError(f"stream is {stream!r}", field="stream", hint='"default" or "system"')
    return None
