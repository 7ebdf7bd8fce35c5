"""RunReports: what the server finds out about a run, asked anew at each call. Part of Run."""

from __future__ import annotations

from typing import Any

from runfold.api.run_document import RunDocument


class RunReports(RunDocument):
    """Its processes and nodes, its attempts, its records, its alerts: all as of now."""

    @property
    def system_metrics(self) -> dict[str, Any]:
        """The newest system metrics, {"system.cpu": 12.5, ...}, as of now; {} where none are collected."""
        found: dict[str, Any] = self._connection.get(self._route("system"))["system"]
        return found

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
        branch: where it resumed or rewound the run: kind ("resume", "rewind") and step (the last before it);
        None where it did not.
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
