"""Whose failure came first in a group of runs.

The ranks of one job may have a run each: there, as in one run, a death may follow from another failure.
In: the group's runs. Out: the first failure, and the runs whose end was a consequence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from runfold_coordinator.states import KILLED, RunVerdict, run_state
from runfold_coordinator.store.model import RunRow, WriterRow
from runfold_coordinator.store.store import Store
from runfold_coordinator.stored_verdicts import member_of


@dataclass(frozen=True, slots=True)
class GroupFailure:
    """`first` is as a run's first_failure, with "run" (id) in it and in what it induced; None without."""

    first: dict[str, Any] | None = None
    induced_run_pks: frozenset[int] = frozenset()


def runs_that_count(runs: Iterable[RunRow]) -> list[RunRow]:
    """Return the runs that count: of a fold that was run again the newest, a finished one before any other.

    Args:
        runs: Oldest first.
    """
    counted: dict[object, RunRow] = {}
    for run in runs:
        place = ("run", run.run_pk) if run.fold is None else ("fold", repr(run.fold))
        earlier = counted.get(place)
        if earlier is None or run.state == "finished" or earlier.state != "finished":
            counted[place] = run
    return list(counted.values())


def find_group_failure(store: Store, runs: Sequence[RunRow]) -> GroupFailure:
    """Return the first failure of a group, as its rows tell; reads the writers that failed."""
    counted = runs_that_count(runs)
    failed = [run for run in counted if run.first_failure is not None]
    if not failed:
        return GroupFailure()
    run_of = {_blamed(run): run for run in failed}
    found_writers = store.find_writers(list(run_of))
    # Who was asked to stop has not failed, but may be the cause of what befell its peers.
    stopped = {run.run_pk: run for run in counted if run.state == KILLED and run.first_failure is None}
    for run_pk, of_run in store.writers_of(list(stopped)).items():
        for writer in of_run:
            if member_of(writer).verdict.ending.stop:
                run_of[writer.writer_id] = stopped[run_pk]
                found_writers.append(writer)
    jobs: dict[object, list[WriterRow]] = {}
    for writer in found_writers:
        jobs.setdefault(_job_of(writer), []).append(writer)
    verdicts = [run_state([member_of(writer) for writer in writers]) for writers in jobs.values()]
    found = min(
        (verdict for verdict in verdicts if verdict.first_failure is not None), key=_when, default=None
    )
    induced = frozenset(run_of[writer].run_pk for verdict in verdicts for writer in verdict.induced)
    if found is None or found.first_failure is None:
        return GroupFailure(None, induced)
    first = found.first_failure
    blamed = run_of[first["writer"]]
    return GroupFailure(
        {
            **first,
            # With the traceback and the lines that are kept with the run.
            **{name: (blamed.first_failure or {}).get(name) for name in ("traceback", "console")},
            "run": blamed.run_id,
            "induced": [{**part, "run": run_of[part["writer"]].run_id} for part in first["induced"]],
        },
        induced,
    )


def _blamed(run: RunRow) -> str:
    return str((run.first_failure or {}).get("writer"))


def _job_of(writer: WriterRow) -> object:
    """Return what is equal for ranks of one job; a process without a rank stands for itself."""
    said = writer.launcher
    if writer.rank is None:
        return writer.writer_id
    if said.get("job_id"):
        return ("job", said["job_id"], said.get("restart_hint"))
    if said.get("launcher_pid"):
        return ("launcher", writer.host, said["launcher_pid"], said.get("launcher_start"))
    return writer.writer_id


def _when(verdict: RunVerdict) -> tuple[int, str]:
    failure = verdict.first_failure or {}
    return (failure.get("ended_unix_ns") or 2**63, str(failure.get("writer")))
