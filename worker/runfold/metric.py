"""define_metric()'s arguments, checked by W&B's rules, and the Metric that it returns."""

from __future__ import annotations

import math
from dataclasses import dataclass

from runfold import terminal
from runfold.errors import Error
from runfold.protocol.history.reduce_rules import REDUCE_RULES
from runfold.protocol.records import MetricRecord

_SUMMARY_OPS = frozenset({"min", "max", "mean", "best", "last", "copy", "none", "first"})
_GOALS = frozenset({"minimize", "maximize"})


@dataclass(frozen=True, slots=True)
class Metric:
    """What one define_metric() call said."""

    name: str
    step_metric: str | None = None
    step_sync: bool | None = None
    hidden: bool | None = None
    summary: tuple[str, ...] | None = None
    goal: str | None = None
    overwrite: bool | None = None
    reduce: str | None = None
    weight: str | None = None
    expect: str | None = None
    rtol: float | None = None
    atol: float | None = None

    def _commit(self) -> None:
        """Do nothing: W&B's own code calls it, and what tells a Metric apart there."""

    def to_record(self) -> MetricRecord:
        """Return the record that tells the coordinator."""
        return MetricRecord(
            name=self.name,
            step_metric=self.step_metric,
            step_sync=self.step_sync,
            hidden=self.hidden,
            summary=self.summary,
            goal=self.goal,
            overwrite=self.overwrite,
            reduce=self.reduce,
            weight=self.weight,
            expect=self.expect,
            rtol=self.rtol,
            atol=self.atol,
        )


def check_metric(
    name: object,
    *,
    step_metric: object = None,
    step_sync: object = None,
    hidden: object = None,
    summary: object = None,
    goal: object = None,
    overwrite: object = None,
    reduce: object = None,
    weight: object = None,
    expect: object = None,
    rtol: object = None,
    atol: object = None,
) -> Metric:
    """Return the Metric that the arguments describe; Error, in W&B's words, if they don't."""
    if not name:
        raise Error("define_metric() requires non-empty name argument")
    if isinstance(step_metric, Metric):
        step_metric = step_metric.name
    checks = (
        ("name", name, str),
        ("step_metric", step_metric, str),
        ("step_sync", step_sync, bool),
        ("hidden", hidden, bool),
        ("summary", summary, str),
        ("goal", goal, str),
        ("overwrite", overwrite, bool),
        ("reduce", reduce, str),
        ("weight", weight, str),
        ("expect", expect, str),
    )
    for argument, value, wanted in checks:
        if value is not None and not isinstance(value, wanted):
            raise Error(f"Unhandled define_metric() arg: {argument} type: {type(value).__name__}")
    assert isinstance(name, str)
    stripped = name.removesuffix("*")
    if "*" in stripped:
        raise Error(f"Unhandled define_metric() arg: name (glob suffixes only): {name}")
    summary_ops = _summary_ops(summary) if summary else None  # "" says nothing
    goal_said = str(goal).lower() if goal else None
    if goal_said is not None and goal_said not in _GOALS:
        raise Error(f"Unhandled define_metric() arg: goal: {goal_said}")
    if reduce is not None and reduce not in REDUCE_RULES:
        raise Error(f"Unhandled define_metric() arg: reduce: {reduce}")
    if expect is not None and expect != "equal":
        raise Error(f"Unhandled define_metric() arg: expect: {expect}")
    if expect is None and (rtol is not None or atol is not None):
        raise Error('define_metric() args rtol and atol go with expect="equal"')
    tolerances = {name: _tolerance(name, value) for name, value in (("rtol", rtol), ("atol", atol))}
    if step_sync is None:
        step_sync = step_metric is not None
    return Metric(
        name=str(name),
        step_metric=None if step_metric is None else str(step_metric),
        step_sync=bool(step_sync),
        hidden=None if hidden is None else bool(hidden),
        summary=summary_ops,
        goal=goal_said,
        overwrite=None if overwrite is None else bool(overwrite),
        reduce=None if reduce is None else str(reduce),
        weight=None if weight is None else str(weight),
        expect=None if expect is None else str(expect),
        **tolerances,
    )


def _tolerance(name: str, value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Error(f"Unhandled define_metric() arg: {name} type: {type(value).__name__}")
    if not 0 <= value < math.inf:
        raise Error(f"Unhandled define_metric() arg: {name}: {value}")
    return float(value)


def _summary_ops(summary: object) -> tuple[str, ...]:
    assert isinstance(summary, str)
    ops = tuple(op.lower() for op in summary.split(","))
    for op in ops:
        if op not in _SUMMARY_OPS:
            raise Error(f"Unhandled define_metric() arg: summary op: {op}")
    if "copy" in ops:
        terminal.warn_once("define_metric(summary='copy') is deprecated and will be removed.")
    return ops
