"""The public `Run`: a stored run read back over HTTP, with the names of W&B's public API and ours."""

from __future__ import annotations

import getpass
import json
import math
import operator
import os
import socket
import time
from typing import Any
from urllib.parse import quote

from runfold.api.columns import frame_of, load_pandas, rows_of
from runfold.api.connection import Connection
from runfold.api.console_logs import ConsoleLogs
from runfold.api.errors import RequestError
from runfold.api.history_scan import HistoryScan, check_scan_arguments
from runfold.api.paths import route
from runfold.api.said import Said
from runfold.api.summary import RunSummary
from runfold.api.verdicts import Verdicts
from runfold.errors import UnsupportedError
from runfold.terminal import warn

TERMINAL_STATES = frozenset({"finished", "failed", "killed", "crashed", "preempted"})


class Run(Verdicts):
    """One run. What was loaded stays as it was until `load(force=True)`. Not thread-safe.

    Attributes come with the run; `config`, `summary` and `history_keys` are fetched when first read if the
    run came from a list. Whatever asks the server raises CommError when no answer comes; of its subclasses
    AuthenticationError for a wrong key, RunNotFoundError for a run that is gone, RequestError (a ValueError
    too) for a wrong argument.
    """

    state = Said[str]("running, finished, failed, killed, crashed, preempting or preempted.")
    reason = Said[str]("Why it is in this state; never empty on a terminal one.")
    confidence = Said[str]('How sure the state is: "certain", "said", "inferred"; "" while it goes on.')
    first_failure = Said["dict[str, Any] | None"](
        "The first primary failure: rank, label, host, reason, traceback, console, signal, exit_code, ..."
    )
    unreachable = Said[bool]("No heartbeat for some seconds, though nothing says that it ended.")
    mode = Said[str]('"grouped": one process, "shared": many.')
    group = Said["str | None"]("The group it belongs to.")
    job_type = Said["str | None"]("What it does in its group.")
    fold = Said[Any]("As given to init(fold=).")
    notes = Said["str | None"]("A longer text.")
    host = Said["str | None"]("Where its primary process runs.")
    created_at = Said[str]("When its first process started, ISO 8601 in UTC.")
    heartbeat_at = Said[str]("When the server last heard of it, ISO 8601 in UTC.")
    ended_at = Said["str | None"]("When it ended, ISO 8601 in UTC; None while it goes on.")
    config_conflicts = Said["dict[str, Any]"]("Config keys for which writers said different values.")
    version = Said[int]("Grows with every change: equal versions mean equal content.")
    read_only = True
    #: W&B's, which we have not: the names exist so that scripts read None instead of failing.
    commit: str | None = None
    description: str | None = None
    metadata: dict[str, Any] | None = None
    sweep: object = None
    sweep_name: str | None = None

    def __init__(self, connection: Connection, document: dict[str, Any]) -> None:
        self._connection = connection
        self._document = document
        self._entity: str = document["entity"]
        self._project: str = document["project"]
        self._id: str = document["id"]

    def __repr__(self) -> str:
        return f"<Run {'/'.join(self.path)} ({self._document['state']})>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and self._route() == other._route()

    def __hash__(self) -> int:
        return hash(self._route())

    # who it is

    @property
    def id(self) -> str:
        """The run id, unique in its project."""
        return self._id

    @property
    def name(self) -> str:
        """The display name; the id where there is none."""
        return self._document["name"] or self._id

    @property
    def display_name(self) -> str:
        """The same as `name`."""
        return self.name

    @property
    def entity(self) -> str:
        """Whose it is; "local" on a server without users."""
        return self._entity

    @property
    def username(self) -> str:
        """The same as `entity` (W&B's deprecated name)."""
        return self._entity

    @property
    def user(self) -> None:
        """None: servers have no users yet."""
        return

    @property
    def project(self) -> str:
        """Its project."""
        return self._project

    @property
    def path(self) -> list[str]:
        """[entity, project, id], each quoted for an address."""
        return [quote(part, safe="") for part in (self._entity, self._project, self._id)]

    @property
    def url(self) -> str:
        """Address of the run's page."""
        return f"{self._connection.url}/{'/'.join([*self.path[:2], 'runs', self.path[2]])}"

    @property
    def storage_id(self) -> str:
        """An id unique on the server."""
        return "/".join((self._entity, self._project, self._id))

    @property
    def tags(self) -> list[str]:
        """Its tags."""
        return list(self._document["tags"])

    # what was logged

    @property
    def config(self) -> dict[str, Any]:
        """The config as it was set; keys that begin with "_" are in `rawconfig` only."""
        return {key: value for key, value in self.rawconfig.items() if not key.startswith("_")}

    @property
    def rawconfig(self) -> dict[str, Any]:
        """The whole config."""
        config: dict[str, Any] = self._loaded("config")
        return config

    @property
    def json_config(self) -> str:
        """The config as JSON, each value as {"value": ...}, as W&B stores it."""
        return json.dumps({key: {"value": value} for key, value in self.rawconfig.items()}, default=str)

    @property
    def summary(self) -> RunSummary:
        """The summary by `define_metric`, over all points, as of loading."""
        return RunSummary(self._loaded("summary"))

    @property
    def summary_metrics(self) -> dict[str, Any]:
        """The summary as a plain dict."""
        return dict(self._loaded("summary"))

    @property
    def system_metrics(self) -> dict[str, Any]:
        """The newest system metrics, {"system.cpu": 12.5, ...}, as of now; {} where none are collected."""
        found: dict[str, Any] = self._connection.get(self._route("system"))["system"]
        return found

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

    # who wrote it and how it went

    def writers(self) -> list[dict[str, Any]]:
        """Return the processes that write the run, as of now, a dict each.

        writer (its id, 32 hex digits), label, rank, local_rank, world_size, node_rank, attempt, host, pid;
        state, reason, confidence, unreachable, stalled, stopped (it lives and does not run), traceback; phase
        and phase_s (the run.timer() it is in), silent_s (since a heartbeat); last_step (None: no row);
        last_seen, started_at and ended_at (unix s); last_seq (records stored), head_seq (records said),
        row_count, declared_gaps and dead_letters; launcher (torchrun, slurm, ...), gpus (index, uuid and
        name of each device that it uses, or may use), console (whether its output is kept).
        What a launcher did not say is None.
        """
        found: list[dict[str, Any]] = self._connection.get(self._route("writers"))["writers"]
        return found

    def live(self, *, every_attempt: bool = False) -> dict[str, Any]:
        """Return how the job stands now, in one answer that is cheap to ask for again.

        unix_s: the server's clock. run: its document with attempt (the newest), states (processes in each),
        elapsed_s, steps_per_s and goodput_ratio (some seconds old). writers: a dict a process of the newest
        attempt, in order of rank, with writer, rank, label, host, pid, attempt; state, reason, confidence,
        unreachable, stalled, stopped; phase and phase_s (the run.timer() it is in); silent_s (since a
        heartbeat), log_age_s (since its newest record); last_step, step_lag (behind the foremost rank),
        step_s (median time of its newest steps); spool_lag (records not yet stored); gpus (a dict each:
        index, uuid, name, util_percent, memory_used_bytes, memory_total_bytes, temperature_celsius,
        power_watts), cpu_percent (of the processors that it may use) and rss_bytes of the process and its
        children. nodes: host, boot_id, sampled_at (unix s, the node's clock), cpu_percent, memory_percent,
        gpus. What is not known is None.

        Args:
            every_attempt: Also the processes of earlier attempts.
        """
        found: dict[str, Any] = self._connection.get(self._route("live"), {"every_attempt": every_attempt})
        return found

    def accounting(self) -> dict[str, int]:
        """Return how many records were acknowledged and what became of them, as of now.

        acknowledged = stored + declared_gaps + dead_letters + pending.
        """
        counts: dict[str, int] = self._connection.get(self._route("accounting"))
        return counts

    def attempts(self) -> list[dict[str, Any]]:
        """Return the generations of the job's processes, as of now, first to last, a dict each.

        attempt (from 1), started_unix_s, ended_unix_s (newest word of it), writers (how many), states (how
        many in each), first_step and last_step (None without rows). cut_step: from here on its steps are
        superseded by a later attempt (None: none are), lost_steps: how many those are. restart_s: seconds
        from the end of the attempt before to the start of this one (None for the first). state and reason:
        how it stands or why it ended, first_failure: as a run's, failures: processes that did not finish.
        """
        found: list[dict[str, Any]] = self._connection.get(self._route("attempts"))["attempts"]
        return found

    def goodput(self) -> dict[str, Any]:
        """Return what the run's wall clock was spent on, as of now.

        wall_s = productive_s (time that brought steps which still count) + lost_s (steps that a later attempt
        did again) + startup_s (start of an attempt to its first row) + restart_s (between attempts) +
        stalled_s + other_s. ratio = productive_s / wall_s, None where wall_s is 0. lost_steps. failures:
        attempts of which a process failed, was killed, crashed or was preempted.
        mean_time_between_failures_s: time that attempts ran / failures, None without a failure.
        started_unix_s, ended_unix_s, as_of_unix_s; per_attempt: the same of each attempt.
        """
        report: dict[str, Any] = self._connection.get(self._route("goodput"))
        return report

    def alerts(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return the newest alerts of the run, newest first, a dict each.

        title, text, level (INFO, WARN, ERROR), source ("run": its own alert(); else the rule of the server),
        raised_unix_s, suppressed (one with its title was within wait_duration: not delivered), rank and label
        (who raised it), run (its path), deliveries: receiver, state (waiting, delivered, given_up), attempts,
        error (of the last attempt that failed), delivered_unix_s.

        Args:
            limit: 1 to 1000.
        """
        found: list[dict[str, Any]] = self._connection.get(self._route("alerts"), {"limit": limit})["alerts"]
        return found

    def definitions(self) -> list[dict[str, Any]]:
        """Return what `define_metric` said, in the order in which it applies; None for what was not said."""
        found: list[dict[str, Any]] = self._connection.get(self._route("definitions"))["definitions"]
        return found

    def stop(self, grace_s: float = 30.0, *, ranks: list[int] | None = None) -> dict[str, Any]:
        """Ask the run's processes to end: SIGTERM now, SIGKILL after `grace_s`. Returns without waiting.

        The node's agent sends the signals. A launcher that would start the processes again (torchrun) gets
        SIGTERM first and passes it on. Asking again with a shorter grace shortens it; a longer one changes
        nothing. Then the run reads killed, and by whom.

        Args:
            grace_s: 0 (SIGKILL at once) to 86,400 seconds.
            ranks: Only processes of these ranks; a launcher may start them again.

        Returns:
            request (its id), by, grace_s, is_new (False: it was asked for before), writers (a dict each of
            writer, rank, label, host) that were asked.

        Raises:
            RunEndedError: All of them have ended.
            RequestError: (a ValueError) `grace_s` or `ranks` is not what it should be.
        """
        body: dict[str, Any] = {"grace_s": _seconds(grace_s), "by": _me()}
        if ranks is not None:
            body["ranks"] = [operator.index(rank) for rank in ranks]
        found: dict[str, Any] = self._connection.post(self._route("stop"), body)
        return found

    def stop_requests(self) -> list[dict[str, Any]]:
        """Return what was asked of the run's processes, as of now, oldest first, a dict each.

        request, by, grace_s, whole (all of the run), asked_unix_s; writers: a dict each of writer, rank,
        label, host, state, signals (signum, to, unix_s: what their agent sent) and refused (why it did not,
        or None).
        """
        found: list[dict[str, Any]] = self._connection.get(self._route("stop"))["requests"]
        return found

    def load(self, force: bool = False) -> dict[str, Any]:
        """Return the run's document, read again when `force`."""
        if force or "summary" not in self._document:
            self._document = self._connection.get(self._route(), {"include": ["config", "summary"]})
        return self._document

    def to_dict(self) -> dict[str, Any]:
        """Return what is loaded of the run, as the HTTP API said it."""
        return dict(self._document)

    def wait_until_finished(self, *, timeout_s: float | None = None, poll_interval_s: float = 1.0) -> None:
        """Return when the run has ended, in whatever way; then everything is loaded anew.

        Raises:
            CommError: The server did not answer, after some patience.
            TimeoutError: It goes on after `timeout_s` seconds.
        """
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        while self._connection.get(self._route())["state"] not in TERMINAL_STATES:
            if deadline_s is not None and time.monotonic() >= deadline_s:
                raise TimeoutError(f"{'/'.join(self.path)} has not ended within {timeout_s:g} s")
            time.sleep(poll_interval_s)
        self.load(force=True)

    # later

    def update(self) -> None:
        """Raise: a stored run is read-only at present."""
        raise UnsupportedError("a stored run can't be changed through Api yet")

    save = delete = update

    # inside

    def _route(self, *rest: str) -> str:
        return route("runs", self._entity, self._project, self._id, *rest)

    def _loaded(self, part: str) -> Any:
        """Return a part of the document that lists leave out."""
        if part == "keys" and part not in self._document:
            self._document["keys"] = self._all_keys()
        elif part not in self._document:
            self.load()
        return self._document[part]

    def _all_keys(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        cursor = None
        while True:
            answer = self._connection.get(self._route("keys"), {"cursor": cursor})
            found.extend(answer["keys"])
            cursor = answer["next_cursor"]
            if cursor is None:
                return found


def _me() -> str:
    """Return user@host of this process; where it has no name, its number."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _seconds(value: float) -> float:
    """Return a JSON number. Raises RequestError for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RequestError(f"grace_s is {value!r}; it should be a number of seconds", field="grace_s")
    return value


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


def shaped(table: dict[str, Any], *, pandas: bool) -> Any:
    """Return a table as a DataFrame if asked for and possible, else as a list of dicts."""
    module = load_pandas() if pandas else None
    if pandas and module is None:
        warn("pandas is not installed: history() returns a list of dicts; pip install pandas for a DataFrame")
    return rows_of(table) if module is None else frame_of(table, module)
