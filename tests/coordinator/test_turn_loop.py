"""The loop of everything that the server does by itself: what becomes of faults, wakes and stops."""

from __future__ import annotations

import logging
import threading

import pytest

from runfold_coordinator.store.errors import StoreUnavailableError
from runfold_coordinator.turn_loop import JITTER, Due, TurnLoop
from support.processes import until


def test_waits_are_stretched_by_chance_and_faults_are_tried_again_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outcomes = iter([2.0, StoreUnavailableError("away"), KeyError("a bug")])

    def turn() -> float:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    loop = TurnLoop("test", turn, retry_s=10.0, fault_retry_s=60.0, jitter=lambda: 0.5)
    stretch = 1 + JITTER / 2
    with caplog.at_level(logging.WARNING):
        assert [loop.take() for _ in range(3)] == [2.0 * stretch, 10.0 * stretch, 60.0 * stretch]
    waits, failed = caplog.records
    assert (waits.levelname, waits.exc_info) == ("WARNING", None)
    assert (failed.levelname, failed.exc_info is not None) == ("ERROR", True)


def test_a_wake_is_a_turn_at_once_and_stop_ends_the_longest_wait() -> None:
    turned = threading.Semaphore(0)

    def turn() -> float:
        turned.release()
        return 3600.0

    loop = TurnLoop("test", turn)
    loop.start()
    assert turned.acquire(timeout=30)
    loop.wake()
    assert turned.acquire(timeout=30)
    loop.stop()
    loop.stop()
    assert loop.is_stopping()
    until(lambda: "runfold-test" not in {thread.name for thread in threading.enumerate()})


def test_a_turn_that_fails_is_not_taken_again_with_every_wake(caplog: pytest.LogCaptureFixture) -> None:
    turned = threading.Semaphore(0)

    def turn() -> float:
        turned.release()
        raise KeyError("a bug that stays")

    loop = TurnLoop("test", turn, fault_retry_s=3600.0)
    with caplog.at_level(logging.CRITICAL):
        loop.start()
        assert turned.acquire(timeout=30)
        for _ in range(10):
            loop.wake()
        assert not turned.acquire(timeout=0.2)
        loop.stop()


def test_a_loop_that_never_began_can_be_stopped() -> None:
    TurnLoop("test", lambda: 1.0).stop()


def test_a_step_is_due_at_first_then_every_so_often_and_at_once_while_more_is_left() -> None:
    due = Due(10.0)
    assert due.is_due(0.0)
    due.done(0.0)
    assert not due.is_due(9.9)
    assert due.is_due(10.0)
    due.done(10.0, more=True)
    assert due.is_due(10.0)
    assert not Due(10.0, first_s=5.0).is_due(4.0)
