"""The rules on metrics, run by run: what has come since the last look, and what has not come for too long."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from runfold_coordinator.alerts.conditions import Cause, RunFacts
from runfold_coordinator.alerts.config import Rule
from runfold_coordinator.alerts.metric_reader import LaneValues, MetricReader
from runfold_coordinator.alerts.metric_watch import Hit, MetricWatch
from runfold_coordinator.readers.run_lanes import RunLanes, load_lanes
from runfold_coordinator.store.store import Store

#: A run that was found to wait for data, and was not looked at, is found again after so long.
DEFER_S = 5.0
#: Runs that ended, remembered so that late records of theirs tell nothing twice.
ENDED_KEPT = 100_000
#: The key of all causes of metrics: a rule has one metric.
CAUSE = "metric"


@dataclass(slots=True)
class _Followed:
    """One rule on one run."""

    rule: Rule
    reader: MetricReader
    watch: MetricWatch
    #: When data last came, or the watch began; monotonic seconds.
    heard_s: float
    #: It has been found to be without data for too long, and none came since.
    is_silent: bool = False
    #: Nothing was read yet of a run that was there before: what is over in it is not told.
    has_past: bool = False


class MetricRules:
    """Not thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rules: dict[str, Rule] = {}
        #: By run_pk, then rule name.
        self._followed: dict[int, dict[str, _Followed]] = {}
        #: When a run's wait for data ends, by run_pk; monotonic seconds.
        self._deadlines: dict[int, float] = {}
        self._known: set[int] = set()
        #: Runs that were looked at after they had ended, newest last.
        self._ended: dict[int, None] = {}

    @property
    def has_timers(self) -> bool:
        """Whether something may become true though nothing comes."""
        return bool(self._deadlines)

    def take(self, rules: Sequence[Rule]) -> None:
        """Put these rules in force; of those that have changed, what was seen is forgotten."""
        found = {rule.name: rule for rule in rules if rule.when.metric is not None}
        stale = {name for name, rule in self._rules.items() if found.get(name) != rule}
        self._rules = found
        for run_pk in list(self._followed):
            for name in stale:
                self._followed[run_pk].pop(name, None)
            self._set_deadline(run_pk)

    def take_as_known(self, run_pks: Collection[int]) -> None:
        """Take that these runs began before the rules, or the server: a spike in their past is no news."""
        self._known.update(run_pks)

    def due(self, now_s: float) -> set[int]:
        """Return the runs that waited for data for as long as a rule says."""
        found = {run_pk for run_pk, at_s in self._deadlines.items() if now_s >= at_s}
        # Whoever looks at them sets it anew; until then they need no second look.
        self._deadlines |= dict.fromkeys(found, now_s + DEFER_S)
        return found

    def forget(self, run_pk: int) -> None:
        """Drop a run that has ended: what was seen of it is not told again, even if it goes on."""
        self._ended[run_pk] = None
        if len(self._ended) > ENDED_KEPT:
            del self._ended[next(iter(self._ended))]
        self._followed.pop(run_pk, None)
        self._deadlines.pop(run_pk, None)
        self._known.discard(run_pk)

    def load(self, run_pk: int) -> RunLanes | None:
        """Return the run's writers and keys, which all its rules on metrics share."""
        row = self._store.get_run(run_pk)
        return None if row is None else load_lanes(self._store, row)

    def causes(
        self, rule: Rule, run: RunFacts, lanes: RunLanes | None, now_s: float
    ) -> tuple[list[Cause], bool]:
        """Return what makes the rule true, and whether it still is (it may have been so in between only)."""
        if run.is_terminal and run.run_pk in self._ended:
            return [], False
        rules = self._followed.setdefault(run.run_pk, {})
        followed = rules.get(rule.name)
        if followed is None:
            assert rule.when.metric is not None, "only rules on metrics come here"
            # Of whatever rank: one that went silent hides behind the others.
            each_rank = rule.when.each_rank or rule.when.no_data_s is not None
            reader = MetricReader(self._store, rule.when.metric, each_rank=each_rank)
            has_past = run.run_pk in self._known or run.run_pk in self._ended
            followed = rules[rule.name] = _Followed(
                rule, reader, MetricWatch(rule.when), now_s, has_past=has_past
            )
        found = [] if lanes is None else _read(followed, lanes, now_s)
        if rule.when.no_data_s is not None:
            return self._silence(followed, run, now_s), True
        hits = [hit for values in found if (hit := _feed(followed.watch, values)) is not None]
        lasts, has_past = followed.watch.is_true, followed.has_past
        followed.has_past = False
        if has_past and not lasts:
            return [], False
        if lasts and not hits:
            return [Cause(CAUSE, f"{rule.when.metric} is still so", {"metric": rule.when.metric})], True
        return ([_cause_of(rule, hits)] if hits else []), lasts

    def _silence(self, followed: _Followed, run: RunFacts, now_s: float) -> list[Cause]:
        when = followed.rule.when
        assert when.no_data_s is not None, "asked only of such rules"
        silent_s = now_s - followed.heard_s
        followed.is_silent = not run.is_terminal and silent_s >= when.no_data_s
        self._set_deadline(run.run_pk)
        if not followed.is_silent:
            return []
        fields = {"metric": when.metric, "value": round(silent_s, 1)}
        return [Cause(CAUSE, f"no value of {when.metric} for {when.no_data_s:g} s", fields)]

    def _set_deadline(self, run_pk: int) -> None:
        ends = [
            each.heard_s + each.rule.when.no_data_s
            for each in self._followed.get(run_pk, {}).values()
            if each.rule.when.no_data_s is not None and not each.is_silent
        ]
        if ends:
            self._deadlines[run_pk] = min(ends)
        else:
            self._deadlines.pop(run_pk, None)


def _read(followed: _Followed, lanes: RunLanes, now_s: float) -> list[LaneValues]:
    found, is_new_attempt = followed.reader.read(lanes, now_s)
    if is_new_attempt:
        followed.watch = MetricWatch(followed.rule.when)
    if found or is_new_attempt:
        followed.heard_s, followed.is_silent = now_s, False
    return found


def _feed(watch: MetricWatch, values: LaneValues) -> Hit | None:
    return watch.feed(values.lane, values.step, values.t_unix_s, values.value)


def _cause_of(rule: Rule, hits: Sequence[Hit]) -> Cause:
    first = min(hits, key=lambda hit: hit.step)
    metric, value = rule.when.metric, first.value
    where = "" if first.lane is None else f" of {_lane_name(first.lane)}"
    others = f", and of {len(hits) - 1} more" if len(hits) > 1 else ""
    held = f" for {rule.when.for_steps} values" if rule.when.for_steps > 1 else ""
    held += f" for {rule.when.for_s:g} s" if rule.when.for_s else ""
    limit = "" if rule.when.op is None else f" ({rule.when.op} {rule.when.value:g})"
    detail = f"{metric}{where}{others} is {value:g} at step {first.step}{limit}{held}"
    rank = first.lane if isinstance(first.lane, int) else None
    return Cause(CAUSE, detail, {"metric": metric, "value": value, "step": first.step, "rank": rank})


def _lane_name(lane: int | str) -> str:
    return f"rank {lane}" if isinstance(lane, int) else f"writer {lane}"
