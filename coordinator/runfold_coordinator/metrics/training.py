"""The families of runs: state, step, lag, ages, goodput, reduced metrics, GPUs. In: live views. Out: gauges.

Labels follow Ray's (run_name, run_id, world_rank) and DCGM exporter's (gpu, UUID, Hostname), so that what
several exporters say can be joined. Names of users are values of labels only, under caps; what the caps leave
out is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from runfold_coordinator.clock import Clock
from runfold_coordinator.metrics.run_values import RunValues
from runfold_coordinator.metrics.text import GaugeText, escaped, label_text, sample
from runfold_coordinator.readers.live_reader import LiveReader, LiveView, LiveWriter, is_fresh
from runfold_coordinator.readers.nodes_now import NodeNow
from runfold_coordinator.states import TERMINAL
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.model import RunRow
from runfold_coordinator.store.store import Store

#: A run that ended is shown for so long, seconds: longer than two scrapes of anybody.
SHOWN_AFTER_END_S = 15 * 60.0


@dataclass(frozen=True, slots=True)
class Caps:
    """Most of each in one answer."""

    runs: int = 200
    ranks: int = 256
    metrics: int = 64
    gpus: int = 2048


@dataclass(slots=True)
class LeftOut:
    """What the caps left out."""

    runs: int = 0
    ranks: int = 0
    metrics: int = 0
    gpus: int = 0


class TrainingMetrics:
    """Writes the families of runs. Thread-safe."""

    def __init__(self, store: Store, clock: Clock, live: LiveReader, values: RunValues, caps: Caps) -> None:
        self._store = store
        self._clock = clock
        self._live = live
        self._values = values
        self._caps = caps

    def write(self, text: GaugeText) -> LeftOut:
        """Add the families of the runs that go on, or ended some minutes ago, newest first."""
        where = shown_now(self._clock.unix_s())
        runs = self._store.list_runs(where=where, limit=self._caps.runs)
        left_out = LeftOut()
        if len(runs) == self._caps.runs:
            left_out.runs = self._store.count_runs(where=where) - len(runs)
        self._values.keep_up(runs)
        views = self._live.look_at_all(runs)
        for view in views:
            self._write_run(text, view, left_out)
        nodes = views[0].nodes if views else ()
        _write_gpus(text, _fresh_gpus(nodes, views[0].unix_s if views else 0.0), self._caps, left_out)
        return left_out

    def _write_run(self, text: GaugeText, view: LiveView, left_out: LeftOut) -> None:
        run = view.run
        labels = run_labels(run)
        add = _Adder(text, labels)
        facts = {"group": run.group, "job_type": run.job_type, "mode": run.mode, "host": run.host}
        add("runfold_run", 1, facts, suffix="_info")
        add("runfold_run_state", 1, {"state": run.state})
        add("runfold_run_step", run.last_step)
        add("runfold_run_attempts", view.attempt)
        add("runfold_run_stalled", run.stalled)
        add("runfold_run_unreachable", run.unreachable)
        add("runfold_run_start_time_seconds", run.started_unix_ns / 1e9)
        add("runfold_run_steps_per_second", view.steps_per_s)
        add("runfold_run_goodput_ratio", view.goodput_ratio)
        for state, count in sorted(view.states.items()):
            add("runfold_run_ranks", count, {"state": state})
        add("runfold_run_stragglers", _length(run.verdicts.get("stragglers")))
        add("runfold_run_desyncs", _length(run.verdicts.get("desync")))
        self._write_ranks(text, labels, view, left_out)
        found = self._values.of(run.run_pk)
        if found is not None:
            left_out.metrics += found.left_out
            add("runfold_run_settled_step", found.step)
            for name, value in sorted(found.values.items()):
                add("runfold_run_metric", value, {"name": name})

    def _write_ranks(self, text: GaugeText, labels: str, view: LiveView, left_out: LeftOut) -> None:
        seen: set[str] = set()
        for found in view.writers:
            if found.writer.state in TERMINAL:
                continue
            rank = world_rank(found)
            if len(seen) >= self._caps.ranks or rank in seen:
                left_out.ranks += 1
                continue
            seen.add(rank)
            add = _Adder(text, f'{labels},world_rank="{escaped(rank)}"')
            add("runfold_run_step_lag", found.step_lag)
            add("runfold_rank_last_log_age_seconds", found.log_age_s)
            add("runfold_rank_step_seconds", found.step_s)
            add("runfold_rank_stalled", found.writer.stalled)
            if found.live is not None:
                add("runfold_rank_heartbeat_age_seconds", found.live.silent_s)
            for gpu in found.gpus:
                device = {"gpu": gpu.index, "UUID": gpu.uuid, "Hostname": found.writer.host}
                add("runfold_rank_gpu", 1, device, suffix="_info")


def shown_now(unix_s: float) -> sa.ColumnElement[bool]:
    """Return the condition for runs that go on, or ended a short while ago."""
    c = t.runs.c
    since_ns = int((unix_s - SHOWN_AFTER_END_S) * 1e9)
    return sa.or_(c.state.in_(("running", "preempting")), c.ended_unix_ns >= since_ns)


def run_labels(run: RunRow) -> str:
    """Return the labels that every sample of a run has."""
    return label_text(
        {"entity": run.entity, "project": run.project, "run_id": run.run_id, "run_name": run.name}
    )


def world_rank(found: LiveWriter) -> str:
    """Return the rank; for a process without one its label, else the beginning of its id."""
    writer = found.writer
    return str(writer.rank) if writer.rank is not None else writer.label or writer.writer_id[:8]


#: Every family: what it means, and its unit.
FAMILIES: Mapping[str, tuple[str, str]] = {
    "runfold_run": ("A run that goes on, or ended within 15 minutes.", ""),
    "runfold_run_state": ("1 for the state that the run is in.", ""),
    "runfold_run_step": ("Highest step stored, -1 before the first.", ""),
    "runfold_run_attempts": ("Generations of the job's processes so far.", ""),
    "runfold_run_stalled": ("1 while the run is alive and does not progress.", ""),
    "runfold_run_unreachable": ("1 while a node of the run is silent.", ""),
    "runfold_run_start_time_seconds": ("When its first process started, unix time.", "seconds"),
    "runfold_run_steps_per_second": ("By the median of the ranks' newest step times.", ""),
    "runfold_run_goodput_ratio": ("Time that brought steps which still count, over wall time.", "ratio"),
    "runfold_run_ranks": ("Processes of all attempts by state.", ""),
    "runfold_run_stragglers": ("Ranks that hold the others up.", ""),
    "runfold_run_desyncs": ("Metrics that should be equal on all ranks and are not.", ""),
    "runfold_run_settled_step": ("Step up to which runfold_run_metric was read.", ""),
    "runfold_run_metric": ("Newest settled value of a metric, reduced over ranks.", ""),
    "runfold_run_step_lag": ("Steps that a rank is behind the foremost one.", ""),
    "runfold_rank_last_log_age_seconds": ("Since the rank's newest record.", "seconds"),
    "runfold_rank_step_seconds": ("Median time of the rank's newest steps.", "seconds"),
    "runfold_rank_stalled": ("1 for a rank that the others wait for, or that does not progress.", ""),
    "runfold_rank_heartbeat_age_seconds": ("Since the rank was heard of, by whatever way.", "seconds"),
    "runfold_rank_gpu": ("A device that the rank uses, or may use.", ""),
    "runfold_gpu_utilization_ratio": ("Share of time in which a kernel ran.", "ratio"),
    "runfold_gpu_memory_used_bytes": ("Memory in use on the device.", "bytes"),
    "runfold_gpu_memory_total_bytes": ("Memory of the device.", "bytes"),
    "runfold_gpu_temperature_celsius": ("Temperature of the device.", "celsius"),
    "runfold_gpu_power_watts": ("Power that the device draws.", "watts"),
}


class _Adder:
    """Adds samples with the same first labels."""

    def __init__(self, text: GaugeText, labels: str) -> None:
        self._text = text
        self._labels = labels

    def __call__(
        self, name: str, value: float | None, more: Mapping[str, object] | None = None, *, suffix: str = ""
    ) -> None:
        """Add a sample; None is no sample."""
        if value is None:
            return
        help_text, unit = FAMILIES[name]
        lines = self._text.family(name, help_text, unit=unit, kind="info" if suffix else "gauge")
        labels = self._labels
        if more:
            labels = f"{labels},{label_text(more)}" if labels else label_text(more)
        lines.append(sample(name + suffix, labels, value))


def _fresh_gpus(nodes: Iterable[NodeNow], unix_s: float) -> Iterator[tuple[str, dict[str, float | None]]]:
    """Yield (labels, values by family) of each device once."""
    seen: set[str] = set()
    for node in nodes:
        for gpu in node.gpus if is_fresh(node, unix_s) else ():
            if gpu.uuid in seen:
                continue
            seen.add(gpu.uuid)
            labels = label_text(
                {"gpu": gpu.index, "UUID": gpu.uuid, "modelName": gpu.name, "Hostname": node.host}
            )
            yield (
                labels,
                {
                    "runfold_gpu_utilization_ratio": (
                        None if gpu.util_percent is None else gpu.util_percent / 100
                    ),
                    "runfold_gpu_memory_used_bytes": gpu.memory_used_bytes,
                    "runfold_gpu_memory_total_bytes": gpu.memory_total_bytes,
                    "runfold_gpu_temperature_celsius": gpu.temperature_celsius,
                    "runfold_gpu_power_watts": gpu.power_watts,
                },
            )


def _write_gpus(
    text: GaugeText, gpus: Iterable[tuple[str, dict[str, float | None]]], caps: Caps, left_out: LeftOut
) -> None:
    for at, (labels, values) in enumerate(gpus):
        if at >= caps.gpus:
            left_out.gpus += 1
            continue
        add = _Adder(text, labels)
        for name, value in values.items():
            add(name, value)


def _length(value: object) -> int:
    return len(value) if isinstance(value, list | tuple) else 0
