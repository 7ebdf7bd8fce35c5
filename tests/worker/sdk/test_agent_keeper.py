"""The keeper calls for agents while runs go on, patiently where none stays, and ends with the last run."""

from __future__ import annotations

import os
import threading

from runfold.agent_keeper import LONGEST_WAIT_S, LOOK_EVERY_S, AgentKeeper


class Spool:
    def __init__(self, answers: list[bool]) -> None:
        self.answers = answers
        self.calls = 0

    def call_agent(self) -> bool:
        self.calls += 1
        return self.answers.pop(0) if self.answers else True


class Turns:
    """Stands in for time.sleep: each wait ends when the test says so."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self._may_go = threading.Semaphore(0)
        self._has_come = threading.Semaphore(0)

    def __call__(self, wait_s: float) -> None:
        self.waits.append(wait_s)
        self._has_come.release()
        assert self._may_go.acquire(timeout=10)

    def next(self) -> None:
        """Let the keeper do one round, and return when it waits again."""
        assert self._has_come.acquire(timeout=10)
        self._may_go.release()

    def end(self) -> None:
        """Let the keeper find that nobody is left, now or after its next wait."""
        self._may_go.release()


def test_an_agent_that_died_is_called_for_again_with_growing_patience() -> None:
    turns = Turns()
    keeper = AgentKeeper(turns)
    spool = Spool([True, False, False, False, False, False, False, True])
    keeper.add(spool)
    for _ in range(10):
        turns.next()
    assert spool.calls >= 9
    assert turns.waits[:9] == [2.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 2.0]
    assert turns.waits[0] == LOOK_EVERY_S
    assert max(turns.waits) == LONGEST_WAIT_S
    keeper.remove(spool)
    turns.end()


def test_the_thread_ends_with_the_last_run_and_begins_anew_with_the_next() -> None:
    turns = Turns()
    keeper = AgentKeeper(turns)
    first, second = Spool([]), Spool([])
    keeper.add(first)
    thread = keeper._thread
    assert thread is not None
    keeper.remove(first)
    turns.next()
    thread.join(10)
    assert not thread.is_alive()
    assert first.calls == 0
    keeper.add(second)
    assert keeper._thread not in (None, thread)
    turns.next()
    turns.next()
    assert second.calls >= 1


def test_a_run_that_is_dropped_is_not_kept_alive() -> None:
    turns = Turns()
    keeper = AgentKeeper(turns)
    keeper.add(Spool([]))
    thread = keeper._thread
    assert thread is not None
    turns.next()
    thread.join(10)
    assert not thread.is_alive()


def test_the_child_of_a_fork_has_a_keeper_of_its_own() -> None:
    turns = Turns()
    keeper = AgentKeeper(turns)
    keeper.add(Spool([]))
    pid = os.fork()
    if pid == 0:
        mine = Spool([])
        keeper._wait = lambda _s: None
        keeper.add(mine)
        thread = keeper._thread
        is_mine = thread is not None and thread.is_alive() and mine in keeper._spools
        os._exit(0 if is_mine else 1)
    assert os.waitpid(pid, 0)[1] == 0
    turns.end()
