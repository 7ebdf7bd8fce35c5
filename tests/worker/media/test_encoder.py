"""The encoder: in order, bounded, alone in a process."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from runfold.media import encoder as module
from runfold.media.encoder import Encoder
from support.processes import until


class Held:
    """An encoder whose thread is busy until `release`."""

    def __init__(self) -> None:
        self.encoder = Encoder()
        self.done: list[int] = []
        self._gate, began = threading.Event(), threading.Event()
        self.encoder.put(lambda: (began.set(), self._gate.wait(30)), owner=self)
        assert began.wait(30)

    def put(self, number: int, held_bytes: int = 0, owner: object = None) -> None:
        self.encoder.put(lambda: self.done.append(number), held_bytes, owner)

    def release(self) -> None:
        self._gate.set()


@pytest.fixture
def held() -> Iterator[Held]:
    found = Held()
    yield found
    found.release()
    until(lambda: not found.encoder.count(None))


def test_tasks_are_done_in_the_order_in_which_they_came(held: Held) -> None:
    for number in range(5):
        held.put(number)
    assert held.done == []
    held.release()
    until(lambda: held.done == [0, 1, 2, 3, 4])


def test_who_drains_waits_for_the_task_under_way_and_does_the_rest(held: Held) -> None:
    held.put(1, owner="mine")
    held.put(2, owner="other")
    timer = threading.Timer(0.2, held.release)
    timer.start()
    assert held.encoder.drain("mine", time.monotonic() + 30) == 0
    assert held.done[:1] == [1]
    assert held.encoder.drain(held, time.monotonic() + 30) == 0
    timer.join()


def test_draining_ends_in_time_and_says_what_is_left(held: Held) -> None:
    held.put(1, owner="mine")
    assert held.encoder.drain("mine", time.monotonic() + 0.05) == 1
    assert held.encoder.drop("mine") == 1
    assert held.encoder.count("mine") == 0
    assert held.encoder.drain("nobody", time.monotonic()) == 0


def test_what_is_dropped_is_not_done_and_holds_no_memory(held: Held) -> None:
    held.put(1, 70, owner="mine")
    held.put(2, 30)
    assert held.encoder.waiting_bytes == 100
    held.encoder.drop("mine")
    assert held.encoder.waiting_bytes == 30
    held.release()
    until(lambda: held.done == [2])


def test_beyond_the_budget_the_caller_does_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 100)
    monkeypatch.setattr(threading.Thread, "start", lambda self: (_ for _ in ()).throw(RuntimeError))
    encoder, done = Encoder(), []
    for number in range(5):
        encoder.put(lambda number=number: done.append((number, threading.get_ident())), 40)
        encoder.relieve()
        assert encoder.waiting_bytes <= 100
    assert done == [(number, threading.get_ident()) for number in range(3)]


def test_a_task_that_fails_stops_no_other(held: Held, capsys: pytest.CaptureFixture[str]) -> None:
    held.encoder.put(lambda: 1 / 0)
    held.put(1)
    held.release()
    until(lambda: held.done == [1])
    assert "division by zero" in capsys.readouterr().err


def test_a_fork_s_child_has_no_tasks_and_a_thread_of_its_own(held: Held) -> None:
    held.put(1)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            held.encoder.reset_after_fork()  # what os.register_at_fork does for the one of the process
            held.put(2)
            until(lambda: held.done == [2], limit_s=30)
            status = 0
        finally:
            os._exit(status)
    _, found = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(found) == 0
    held.release()
    until(lambda: held.done == [1])


def test_the_thread_ends_when_nothing_came_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IDLE_S", 0.01)
    encoder, done = Encoder(), []
    for number in range(2):
        encoder.put(lambda number=number: done.append(number))
        until(lambda: not encoder._has_thread)
    assert done == [0, 1]


def test_many_small_tasks_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING_TASKS", 3)
    monkeypatch.setattr(threading.Thread, "start", lambda self: (_ for _ in ()).throw(RuntimeError))
    encoder, done = Encoder(), []
    for number in range(10):
        encoder.put(lambda number=number: done.append(number), owner="mine")
        encoder.relieve()
    assert (done, encoder.count("mine")) == (list(range(7)), 3)
    assert encoder.drain("mine", time.monotonic() + 30) == 0
    assert done == list(range(10))


def test_a_fork_waits_for_the_task_under_way(held: Held) -> None:
    order: list[str] = []
    held.encoder.put(lambda: order.append("task"))
    timer = threading.Timer(0.1, held.release)
    timer.start()
    held.encoder.pause_for_fork()
    order.append("fork")
    assert held.encoder.count(held) == 0  # the one that was under way is done
    assert order[-1] == "fork"  # and none is begun
    held.encoder.resume_after_fork()
    until(lambda: sorted(order) == ["fork", "task"])
    timer.join()


def test_a_fork_does_not_wait_for_ever(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FORK_WAIT_S", 0.01)
    held.encoder.pause_for_fork()
    held.encoder.resume_after_fork()
    held.put(1)
    held.release()
    until(lambda: held.done == [1])
