"""States of writers and runs: pure functions of the set of evidence, whatever the order it came in."""

from runfold_coordinator.states.run_verdict import Member, RunVerdict, run_state
from runfold_coordinator.states.testimony import Testimony, gather_testimony
from runfold_coordinator.states.vocabulary import (
    CERTAIN,
    CRASHED,
    FAILED,
    FINISHED,
    INFERRED,
    KILLED,
    PREEMPTED,
    PREEMPTING,
    RUNNING,
    SAID,
    TERMINAL,
    Blame,
    Ending,
    Life,
    Limits,
    Verdict,
)
from runfold_coordinator.states.writer_verdict import verdict_on, writer_state

__all__ = [
    "CERTAIN",
    "CRASHED",
    "FAILED",
    "FINISHED",
    "INFERRED",
    "KILLED",
    "PREEMPTED",
    "PREEMPTING",
    "RUNNING",
    "SAID",
    "TERMINAL",
    "Blame",
    "Ending",
    "Life",
    "Limits",
    "Member",
    "RunVerdict",
    "Testimony",
    "Verdict",
    "gather_testimony",
    "run_state",
    "verdict_on",
    "writer_state",
]
