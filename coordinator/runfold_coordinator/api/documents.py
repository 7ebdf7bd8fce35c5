"""Rows of the catalogue -> the documents of the API: names, units and shapes that clients rely on. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Sequence
from typing import Any

from runfold_coordinator.live_facts import Live
from runfold_coordinator.readers.group_failure import GroupFailure, runs_that_count
from runfold_coordinator.readers.live_reader import LiveView, LiveWriter, is_fresh
from runfold_coordinator.readers.nodes_now import GpuNow, NodeNow
from runfold_coordinator.states import TERMINAL
from runfold_coordinator.store.model import RunRow, WriterRow

#: Worst first: what the state of a group is when none of its runs goes on.
_GROUP_ORDER = ("running", "preempting", "pending", "failed", "crashed", "killed", "preempted", "finished")


def run_document(run: RunRow) -> dict[str, Any]:
    """Return a run without its config and summary."""
    return {
        "id": run.run_id,
        "entity": run.entity,
        "project": run.project,
        "name": run.name,
        "state": run.state,
        "reason": run.reason,
        "confidence": run.confidence,
        "first_failure": run.first_failure,
        "unreachable": run.unreachable,
        "stalled": run.stalled,
        "verdicts": run.verdicts,
        "mode": run.mode,
        "group": run.group,
        "job_type": run.job_type,
        "sweep": run.sweep,
        "fold": run.fold,
        "notes": run.notes,
        "tags": list(run.tags),
        "host": run.host,
        "created_at": iso_time(run.started_unix_ns / 1e9),
        "heartbeat_at": iso_time(run.updated_unix_s),
        "ended_at": None if run.ended_unix_ns is None else iso_time(run.ended_unix_ns / 1e9),
        "duration_s": duration_s(run),
        "last_step": run.last_step,
        "row_count": run.row_count,
        "config_conflicts": run.config_conflicts,
        "forked_from": None if run.fork is None else {key: run.fork[key] for key in ("run_id", "step")},
        "branch_points": [_branch_point(point) for point in run.branches],
        "version": run.version,
    }


def _branch_point(point: dict[str, Any]) -> dict[str, Any]:
    return {key: point[key] for key in ("kind", "run_id", "step")} | {
        "at_unix_s": point["begins_unix_ns"] / 1e9
    }


def writer_document(
    writer: WriterRow,
    attempt: int | None,
    live: Live | None = None,
    *,
    gpus: Sequence[dict[str, Any]] = (),
    has_console: bool = False,
) -> dict[str, Any]:
    """Return a writer: who it is, how it goes, how far it came.

    Args:
        live: What was heard of it last; None: nothing since the coordinator began.
        gpus: The devices that it uses or may use: index, uuid, name.
        has_console: Its output is kept.
    """
    return {
        "writer": writer.writer_id,
        "label": writer.label,
        "rank": writer.rank,
        "local_rank": writer.local_rank,
        "world_size": writer.world_size,
        "node_rank": writer.node_rank,
        "attempt": attempt,
        "host": writer.host,
        "pid": writer.pid,
        "state": writer.state,
        "reason": writer.reason,
        "confidence": writer.confidence,
        "unreachable": writer.unreachable,
        "stalled": writer.stalled,
        **_live_fields(writer, live),
        "last_step": writer.step_max,
        "last_seen": writer.last_seen_unix_s,
        "started_at": writer.started_unix_ns / 1e9,
        "ended_at": None if writer.ended_unix_ns is None else writer.ended_unix_ns / 1e9,
        "last_seq": writer.last_seq,
        "head_seq": max(writer.head_seq, writer.last_seq),
        "row_count": writer.row_count,
        "declared_gaps": writer.gap_count,
        "dead_letters": writer.dead_letter_count,
        "traceback": (writer.exit or {}).get("traceback"),
        "launcher": writer.launcher.get("source"),
        "gpus": list(gpus),
        "console": has_console,
    }


def live_document(view: LiveView) -> dict[str, Any]:
    """Return a run as it stands now: its head, a row a process, its nodes."""
    return {
        "unix_s": view.unix_s,
        "run": run_document(view.run)
        | {"attempt": view.attempt, "states": dict(view.states), "steps_per_s": view.steps_per_s}
        | {"goodput_ratio": view.goodput_ratio, "elapsed_s": _elapsed_s(view)},
        "writers": [_live_writer(each) for each in view.writers],
        "nodes": [_live_node(each, view.unix_s) for each in view.nodes],
    }


def _elapsed_s(view: LiveView) -> float:
    """Return for how long the run has gone on, by our clock, or how long it took."""
    if view.run.state in TERMINAL:
        return duration_s(view.run)
    return max(0.0, view.unix_s - view.run.started_unix_ns / 1e9)


def _live_writer(found: LiveWriter) -> dict[str, Any]:
    writer = found.writer
    return {
        "writer": writer.writer_id,
        "rank": writer.rank,
        "label": writer.label,
        "host": writer.host,
        "pid": writer.pid,
        "attempt": found.attempt,
        "state": writer.state,
        "reason": writer.reason,
        "confidence": writer.confidence,
        "unreachable": writer.unreachable,
        "stalled": writer.stalled,
        **_live_fields(writer, found.live),
        "last_step": found.step,
        "step_lag": found.step_lag,
        "step_s": found.step_s,
        "log_age_s": found.log_age_s,
        "spool_lag": max(0, writer.head_seq - writer.last_seq),
        "gpus": [_gpu(each) for each in found.gpus],
        "cpu_percent": found.use.cpu_percent,
        "rss_bytes": found.use.rss_bytes,
    }


def _live_node(node: NodeNow, unix_s: float) -> dict[str, Any]:
    fresh = is_fresh(node, unix_s)
    return {
        "host": node.host,
        "boot_id": node.boot_id,
        "sampled_at": node.sampled_unix_s,
        "cpu_percent": node.cpu_percent if fresh else None,
        "memory_percent": node.memory_percent if fresh else None,
        "gpus": [_gpu(each) for each in node.gpus] if fresh else [],
    }


def _gpu(gpu: GpuNow) -> dict[str, Any]:
    return {
        "index": gpu.index,
        "uuid": gpu.uuid,
        "name": gpu.name,
        "util_percent": gpu.util_percent,
        "memory_used_bytes": gpu.memory_used_bytes,
        "memory_total_bytes": gpu.memory_total_bytes,
        "temperature_celsius": gpu.temperature_celsius,
        "power_watts": gpu.power_watts,
    }


def _live_fields(writer: WriterRow, live: Live | None) -> dict[str, Any]:
    """Return what is known of a process that goes on; of one that ended, nothing of it holds any more."""
    if live is None or writer.state in TERMINAL:
        return {"stopped": False, "phase": None, "phase_s": None, "silent_s": None}
    return {
        "stopped": live.is_stopped,
        "phase": live.phase,
        "phase_s": live.phase_s,
        "silent_s": live.silent_s,
    }


def group_document(
    entity: str, project: str, name: str, runs: list[RunRow], failure: GroupFailure
) -> dict[str, Any]:
    """Return a group: how many runs, in which states, the one state of the whole, the first failure."""
    states: dict[str, int] = {}
    for run in runs:
        states[run.state] = states.get(run.state, 0) + 1
    return {
        "entity": entity,
        "project": project,
        "name": name,
        "run_count": len(runs),
        "states": states,
        "state": group_state(runs, failure.induced_run_pks),
        "first_failure": failure.first,
        "created_at": iso_time(min(run.started_unix_ns for run in runs) / 1e9),
    }


def group_state(runs: list[RunRow], induced_run_pks: Collection[int] = ()) -> str:
    """Return running while one runs; else the worst end, where a fold that was run again counts once.

    Args:
        induced_run_pks: Runs whose end was the consequence of another's: they are left out.
    """
    counted = runs_that_count(runs)
    states = {run.state for run in counted if run.run_pk not in induced_run_pks}
    return next((state for state in _GROUP_ORDER if state in states), "running")


def duration_s(run: RunRow) -> float:
    """Return how long it ran, or has run as far as its records tell."""
    end_ns = run.ended_unix_ns or max(run.last_record_unix_ns, run.started_unix_ns)
    return max(0.0, (end_ns - run.started_unix_ns) / 1e9)


def iso_time(unix_s: float) -> str:
    """Return ISO 8601 in UTC, to the microsecond; what lies outside the calendar is shown as its edge."""
    clamped = min(max(unix_s, 0.0), 253402300799.0)
    moment = datetime.datetime.fromtimestamp(clamped, tz=datetime.UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
