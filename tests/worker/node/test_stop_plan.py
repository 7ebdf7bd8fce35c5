"""Which signal is due when; and that the next agent goes on where one was killed."""

from __future__ import annotations

import json

import pytest

from runfold.node.process_signals import Process
from runfold.node.stop_plan import ORPHAN_S, Step, Stop
from runfold.protocol.streams import StopRequest

RANK, LAUNCHER = Process(100, 1000.0), Process(90, 900.0)
TERM, KILL, LAUNCHER_TERM = Step.TERM, Step.KILL, Step.LAUNCHER_TERM


def stop(grace_s: float, launcher: Process | None = None) -> Stop:
    return Stop(StopRequest("r", "eve", grace_s), RANK, launcher, began_s=50.0, deadline_s=50.0 + grace_s)


def told(found: Stop, until_s: float, *, launcher_ends_s: float = 1e9) -> list[tuple[float, Step]]:
    """Return what is done when, looking every half second."""
    did = []
    for tick in range(int(until_s * 2) + 1):
        at_s = tick / 2
        for step in found.due(50.0 + at_s, launcher_lives=at_s < launcher_ends_s):
            found.done.add(step)
            did.append((at_s, step))
    return did


def test_a_process_of_its_own_gets_sigterm_at_once_and_sigkill_after_the_grace():
    assert told(stop(10), 60) == [(0, TERM), (10, KILL)]
    assert told(stop(0), 60) == [(0, KILL)]


def test_a_launcher_comes_first_and_passes_the_signal_on():
    found = told(stop(20, LAUNCHER), 60)
    assert found == [(0, LAUNCHER_TERM), (10, TERM), (20, KILL)]
    assert told(stop(0, LAUNCHER), 60) == [(0, LAUNCHER_TERM), (0, KILL)]


def test_a_launcher_that_ended_leaves_its_processes_a_moment():
    found = told(stop(20, LAUNCHER), 60, launcher_ends_s=3)
    assert found == [(0, LAUNCHER_TERM), (3 + ORPHAN_S, TERM), (20, KILL)]


def test_a_launcher_that_was_gone_already_is_not_waited_for():
    assert told(stop(20, LAUNCHER), 60, launcher_ends_s=0) == [(0, TERM), (20, KILL)]


def test_a_grace_longer_than_the_launchers_own_goes_to_the_processes_first():
    """torchrun kills its processes 30 s after its own SIGTERM: a checkpoint of minutes would be cut off."""
    assert told(stop(300, LAUNCHER), 400) == [(0, TERM), (300, LAUNCHER_TERM), (300, KILL)]


def test_asking_again_shortens_and_does_not_repeat_sigterm():
    found = stop(300)
    assert told(found, 10) == [(0, TERM)]
    found.take(StopRequest("s", "bob", 5.0), LAUNCHER, 60.0)
    assert found.deadline_s == 65.0
    assert found.due(60.0, launcher_lives=True) == [LAUNCHER_TERM], "now the whole run is meant"
    found.take(StopRequest("t", "bob", 500.0), None, 61.0)
    assert (found.deadline_s, found.launcher) == (65.0, LAUNCHER)


@pytest.mark.parametrize("launcher", [None, LAUNCHER])
def test_the_next_agent_goes_on_with_what_was_done(launcher: Process | None):
    found = stop(20, launcher)
    assert told(found, 10)[0] == (0, LAUNCHER_TERM if launcher else TERM)
    again = Stop.from_map(json.loads(json.dumps(found.to_map())))
    assert again == found
    assert again.due(60.5, launcher_lives=True) == []
    assert again.due(70.0, launcher_lives=True) == [KILL]
