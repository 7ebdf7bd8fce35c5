"""Rules in force: the runs that each looks at, what it needs to know, what it tells."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from runfold_coordinator.alerts.conditions import Cause, RunFacts, RunFilter
from runfold_coordinator.alerts.config import Rule
from runfold_coordinator.alerts.facts_reader import Needs
from runfold_coordinator.alerts.outbox import NewAlert
from runfold_coordinator.alerts.texts import fill


@dataclass(frozen=True, slots=True)
class WatchedRule:
    """A rule, its patterns compiled, and since when it is watched."""

    rule: Rule
    accepts: RunFilter
    since_unix_s: float

    def is_before(self, run: RunFacts) -> bool:
        """Tell whether the run was over before the rule was there: nobody wants to hear of it now."""
        return run.is_terminal and run.moved_unix_s < self.since_unix_s


def needs_of(rules: Sequence[Rule], run: RunFacts) -> Needs:
    """Return what else to read: ranks only where something can be wrong with one."""
    # A run that was stopped has no failure, but ranks that were killed.
    may_have_ended = run.first_failure is not None or run.is_terminal
    ranks = any(
        (rule.when.rank_state and (may_have_ended or not _are_ends(rule.when.rank_state)))
        or (rule.when.unreachable and run.unreachable)
        for rule in rules
    )
    return Needs(ranks=ranks, counts=any(rule.when.dead_letters or rule.when.gaps for rule in rules))


def _are_ends(states: Collection[str]) -> bool:
    """Tell whether these are ends that a run's first failure tells of."""
    return not {"running", "finished", "preempting"} & set(states)


def alert_of(run: RunFacts, rule: Rule, cause: Cause, now_unix_s: float) -> NewAlert:
    text = f"{run.path}: {cause.detail}"
    if rule.text is not None:
        text = fill(rule.text, _fields(run, rule, cause))
    return NewAlert(
        run_pk=run.run_pk,
        ident=f"rule:{run.run_pk}:{now_unix_s!r}:{cause.key}:{rule.name}",
        source=rule.name,
        title=rule.name,
        text=text,
        level=rule.level,
        wait_duration_s=rule.wait_duration_s,
        raised_unix_s=now_unix_s,
        receivers=rule.receivers,
    )


def _fields(run: RunFacts, rule: Rule, cause: Cause) -> dict[str, Any]:
    known = {
        "rule": rule.name,
        "level": rule.level,
        "entity": run.entity,
        "project": run.project,
        "run": run.run_id,
        "name": run.name,
        "group": run.group,
        "state": run.state,
        "reason": run.reason,
        "cause": cause.key,
        "detail": cause.detail,
    }
    return known | dict(cause.fields)
