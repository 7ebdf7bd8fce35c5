"""Looks at runs that changed and raises what rules and processes have to tell; never in ingest's thread.

Which runs changed is told by commits (Writing.on_touched); a run at rest costs nothing. What made a rule
true is kept (alert_causes) in the transaction that raises the alert, so that it is told once, whatever is
restarted or tried again.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa

from runfold_coordinator.alerts.conditions import Cause, RunFacts, RunFilter, causes_of
from runfold_coordinator.alerts.config_file import ConfigFile
from runfold_coordinator.alerts.facts_reader import FactsReader
from runfold_coordinator.alerts.metric_rules import MetricRules
from runfold_coordinator.alerts.outbox import NewAlert, raise_alert
from runfold_coordinator.alerts.rules import WatchedRule, alert_of, needs_of
from runfold_coordinator.alerts.run_alerts import RunAlerts
from runfold_coordinator.clock import Clock
from runfold_coordinator.readers.run_lanes import RunLanes
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.errors import StoreError
from runfold_coordinator.store.store import Store
from runfold_coordinator.store.writes import Transaction

logger = logging.getLogger(__name__)

#: A run that changes all the time is looked at this often.
LOOK_EVERY_S = 1.0
#: A look that took long is followed by a rest of so many times as long: ingest needs the machine more.
REST_RATIO = 20.0
CONFIG_EVERY_S = 2.0
#: How often the moment up to which runs were looked at is kept, when any was.
MARK_EVERY_S = 60.0
#: At a start, runs that moved this long before that moment are looked at again.
OVERLAP_S = 60.0


@dataclass(slots=True)
class _Changes:
    """What a look at some runs came to."""

    #: An alert, and the cause to be kept as open; None where it is over already.
    opened: list[tuple[NewAlert, Cause | None]] = field(default_factory=list)
    closed: list[tuple[int, str, str]] = field(default_factory=list)


class AlertBoard:
    """Not thread-safe but for note(); `turn()` is called by one thread."""

    def __init__(self, store: Store, clock: Clock, config_file: ConfigFile) -> None:
        self._store = store
        self._clock = clock
        self._file = config_file
        self._facts = FactsReader(store)
        self._metrics = MetricRules(store)
        self._run_alerts = RunAlerts(store, clock, config_file)
        self._lock = threading.Lock()
        self._touched: dict[int, bool] = {}
        self._pending: set[int] = set()
        self._looked_s: dict[int, float] = {}
        self._pace_s = LOOK_EVERY_S
        #: Of a look whose transaction failed: what metrics did is read once.
        self._unwritten = _Changes()
        self._rules: list[WatchedRule] = []
        self._next_config_s = 0.0
        self._next_mark_s = 0.0
        self._is_marked = False
        self._is_loaded = False
        #: Before anything is ingested: what happens from here on is news to a new rule.
        self._born_unix_s = clock.unix_s()

    def note(self, touched: Mapping[int, bool]) -> None:
        """Take that a commit has touched these runs. Any thread; returns at once."""
        with self._lock:
            for run_pk, with_alerts in touched.items():
                self._touched[run_pk] = with_alerts or self._touched.get(run_pk, False)

    def turn(self) -> bool:
        """Look at what has changed and can be looked at now; return whether anything was raised."""
        now_s = self._clock.mono_s()
        if not self._is_loaded:
            self._load()
        elif now_s >= self._next_config_s:
            self._next_config_s = now_s + CONFIG_EVERY_S
            if self._file.refresh():
                self._take_rules()
        self._collect()
        raised = self._run_alerts.raise_new()
        raised = self._raise_rules(now_s) or raised
        self._mark(now_s)
        return raised

    def wait_s(self) -> float:
        """Return how long nothing has to be done, unless a commit tells otherwise."""
        return LOOK_EVERY_S / 2 if self._pending or self._metrics.has_timers else CONFIG_EVERY_S

    def _load(self) -> None:
        meta = self._read_meta("alerts_seen_unix_s")
        seen_unix_s = self._clock.unix_s() if meta is None else float(meta)
        self._take_rules()
        self._pending.update(known := self._facts.unfinished(seen_unix_s - OVERLAP_S))
        self._metrics.take_as_known(known)
        self._run_alerts.load()
        self._is_loaded = True

    def _collect(self) -> None:
        with self._lock:
            touched, self._touched = self._touched, {}
        self._run_alerts.note([pk for pk, with_alerts in touched.items() if with_alerts])
        if self._rules:
            self._pending.update(touched)
        self._is_marked = self._is_marked and not touched

    # rules

    def _take_rules(self) -> None:
        """Put the rules of the file in force, each since it was first seen; forget causes of those gone."""
        config = self._file.current
        now_unix_s = self._clock.unix_s() if self._is_loaded else self._born_unix_s
        known = json.loads(self._read_meta("alert_rules") or "{}")
        since = {rule.name: float(known.get(rule.name, now_unix_s)) for rule in config.rule}
        if since != known:
            c = t.alert_causes.c
            with self._store.writing.transaction() as tx:
                _write_meta(tx, "alert_rules", json.dumps(since))
                tx.connection.execute(sa.delete(t.alert_causes).where(c.rule.not_in(sorted(since))))
        watched = [WatchedRule(rule, RunFilter(rule.when), since[rule.name]) for rule in config.rule]
        self._run_alerts.take([each for each in watched if each.rule.when.alert])
        self._rules = [each for each in watched if not each.rule.when.alert]
        self._metrics.take([each.rule for each in watched])
        if self._is_loaded and self._rules:
            self._pending.update(known := self._facts.unfinished(now_unix_s))
            self._metrics.take_as_known(known)

    def _raise_rules(self, now_s: float) -> bool:
        never = -self._pace_s
        due = {pk for pk in self._pending if now_s - self._looked_s.get(pk, never) >= self._pace_s}
        if not self._rules:
            self._pending.clear()
            return False
        due |= self._metrics.due(now_s)
        if not due:
            return False
        raised = self._write_all(self._unwritten)
        self._unwritten = changes = _Changes()
        opened = self._open_causes(due)
        for run in self._facts.read(due):
            try:
                self._look_at(run, opened.get(run.run_pk, {}), now_s, changes)
            except StoreError:
                raise
            except Exception:
                logger.exception("rules were not looked at", extra={"event": "rules_bad", "run": run.path})
        raised = self._write_all(changes) or raised
        self._unwritten = _Changes()
        self._pending -= due
        took_s = self._clock.mono_s() - now_s
        self._pace_s = max(LOOK_EVERY_S, took_s * REST_RATIO)
        self._looked_s = {pk: at for pk, at in self._looked_s.items() if now_s - at < self._pace_s}
        self._looked_s |= dict.fromkeys(due, now_s)
        return raised

    def _look_at(
        self, run: RunFacts, opened: Mapping[str, Collection[str]], now_s: float, changes: _Changes
    ) -> None:
        rules = [each.rule for each in self._rules if each.accepts.accepts(run) and not each.is_before(run)]
        run = self._facts.complete(run, needs_of(rules, run))
        lanes: RunLanes | None = None
        for rule in rules:
            if rule.when.metric is None:
                causes, lasts = causes_of(rule.when, run), True
            else:
                lanes = lanes or self._metrics.load(run.run_pk)
                causes, lasts = self._metrics.causes(rule, run, lanes, now_s)
            known = opened.get(rule.name, ())
            keys = {cause.key for cause in causes} if lasts else set()
            now_unix_s = self._clock.unix_s()
            changes.opened += [
                (alert_of(run, rule, each, now_unix_s), each if lasts else None)
                for each in causes
                if each.key not in known
            ]
            changes.closed += [(run.run_pk, rule.name, key) for key in known if key not in keys]
        if run.is_terminal:
            self._metrics.forget(run.run_pk)

    def _open_causes(self, run_pks: Collection[int]) -> dict[int, dict[str, set[str]]]:
        c, pks = t.alert_causes.c, sorted(run_pks)
        found: dict[int, dict[str, set[str]]] = {}
        for at in range(0, len(pks), 500):
            for row in self._store.fetch(
                sa.select(c.run_pk, c.rule, c.cause).where(c.run_pk.in_(pks[at : at + 500]))
            ):
                found.setdefault(row.run_pk, {}).setdefault(row.rule, set()).add(row.cause)
        return found

    def _write_all(self, changes: _Changes) -> bool:
        try:
            return self._write(changes)
        except StoreError:  # they are written when it is back
            raise
        except Exception:
            # What can't be written now can never be: it must not stand before what comes later.
            logger.exception("alerts were not raised", extra={"event": "alerts_bad"})
            return False

    def _write(self, changes: _Changes) -> bool:
        if not changes.opened and not changes.closed:
            return False
        now_unix_s = self._clock.unix_s()
        c = t.alert_causes.c
        with self._store.writing.transaction() as tx:
            for run_pk, rule_name, key in changes.closed:
                tx.connection.execute(
                    sa.delete(t.alert_causes).where(c.run_pk == run_pk, c.rule == rule_name, c.cause == key)
                )
            for alert, cause in changes.opened:
                if cause is not None:
                    row = {"run_pk": alert.run_pk, "rule": alert.source, "cause": cause.key}
                    tx.insert_new(t.alert_causes, [row | {"since_unix_s": now_unix_s}])
                raise_alert(tx, alert, now_unix_s)
        return bool(changes.opened)

    # what is kept over restarts

    def _mark(self, now_s: float) -> None:
        """Keep up to when runs were looked at: what moves later is looked at after a restart."""
        if now_s < self._next_mark_s or self._is_marked:
            return
        self._next_mark_s = now_s + MARK_EVERY_S
        with self._store.writing.transaction() as tx:
            _write_meta(tx, "alerts_seen_unix_s", repr(self._clock.unix_s()))
        self._is_marked = True

    def _read_meta(self, name: str) -> str | None:
        rows = self._store.fetch(sa.select(t.meta.c.value).where(t.meta.c.name == name))
        return str(rows[0].value) if rows else None


def _write_meta(tx: Transaction, name: str, value: str) -> None:
    tx.insert_new(t.meta, [{"name": name, "value": value}])
    tx.connection.execute(sa.update(t.meta).where(t.meta.c.name == name).values(value=value))
