"""Encoder: the thread of this process in which media are encoded and said, in the order in which they came.

In: tasks with the memory that they hold. It is a daemon: runs drain it before they end.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from runfold import terminal

#: Captured values that wait; beyond that, who makes another one encodes the oldest first.
MAX_WAITING_BYTES = 256 * 1024 * 1024
#: The same of tasks, whatever they hold: who logs faster than files can be written waits for them.
MAX_WAITING_TASKS = 1024
#: A fork waits no longer than that: a film may take longer.
_FORK_WAIT_S = 5.0
#: How long the thread waits for more before it ends.
_IDLE_S = 5.0


@dataclass(frozen=True, slots=True)
class _Task:
    run: Callable[[], None]
    held_bytes: int
    #: Whose it is: `drain` waits for the tasks of one owner.
    owner: object


class Encoder:
    """Does tasks one at a time, first come, first served. Thread-safe, also in signal handlers.

    A fork's child begins with none: its parent does those that wait. A fork waits for the task under way: the
    child would have its locks, and modules that it was importing, for ever half done.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        #: Held by who does a task or encodes on its own: one at a time in a process.
        self.turn = threading.RLock()
        self._lock = threading.Condition(threading.RLock())
        self._tasks: deque[_Task] = deque()
        #: Tasks that are not done, by the id of their owner.
        self._left: Counter[int] = Counter()
        self._has_thread = False
        #: Of each thread that forks.
        self._forking = threading.local()
        self.waiting_bytes = 0

    def put(self, run: Callable[[], None], held_bytes: int = 0, owner: object = None) -> None:
        """Leave a task, and return at once. What it raises is said, and nothing else comes of it."""
        with self._lock:
            self._tasks.append(_Task(run, held_bytes, owner))
            self._left[id(owner)] += 1
            self.waiting_bytes += held_bytes
            if self._has_thread:
                self._lock.notify()
            else:
                self._start()

    def relieve(self) -> None:
        """Do the oldest tasks here as long as too much waits. Hold no lock that they need."""
        while self.waiting_bytes > MAX_WAITING_BYTES or len(self._tasks) > MAX_WAITING_TASKS:
            if not self._do_one():
                break

    def drain(self, owner: object, until_mono_s: float) -> int:
        """Do tasks here until none of the owner's is left, or time is up; return how many are left then."""
        while left := self.count(owner):
            if not self.turn.acquire(timeout=max(0.0, until_mono_s - time.monotonic())):
                return left
            try:
                self._do_one()
            finally:
                self.turn.release()
        return 0

    def drop(self, owner: object) -> int:
        """Forget the owner's tasks that were not begun; return how many there were."""
        with self._lock:
            dropped = [task for task in self._tasks if task.owner is owner]
            self._tasks = deque(task for task in self._tasks if task.owner is not owner)
            self.waiting_bytes -= sum(task.held_bytes for task in dropped)
            self._left[id(owner)] -= len(dropped)
            return len(dropped)

    def count(self, owner: object) -> int:
        """Return how many tasks of the owner are not done."""
        return self._left[id(owner)]

    def pause_for_fork(self) -> None:
        """This process forks now."""
        self._forking.holds_turn = self.turn.acquire(timeout=_FORK_WAIT_S)

    def resume_after_fork(self) -> None:
        """This is the parent of a fork."""
        if self._forking.holds_turn:
            self.turn.release()

    def reset_after_fork(self) -> None:
        """This is the child of a fork: whatever was held or under way is the parent's."""
        self._begin()

    def _start(self) -> None:
        try:
            threading.Thread(target=self._work, name="runfold-media", daemon=True).start()
            self._has_thread = True
        except RuntimeError:  # no more threads, or the interpreter is shutting down: who drains does it
            self._has_thread = False

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._tasks and not self._lock.wait_for(lambda: bool(self._tasks), _IDLE_S):
                    self._has_thread = False
                    return
            self._do_one()

    def _do_one(self) -> bool:
        """Do the oldest task, after the one under way; False when there is none."""
        with self.turn:
            with self._lock:
                if not self._tasks:
                    return False
                task = self._tasks.popleft()
                self.waiting_bytes -= task.held_bytes
            try:
                task.run()
            except Exception as error:  # noqa: BLE001  # training never stops because of us
                terminal.warn_at_most_every(60.0, "media", f"a media value could not be kept: {error}")
            finally:
                self._done(task)
            return True

    def _done(self, task: _Task) -> None:
        with self._lock:
            self._left[id(task.owner)] -= 1
            if not self._left[id(task.owner)]:
                del self._left[id(task.owner)]


encoder = Encoder()
os.register_at_fork(
    before=encoder.pause_for_fork,
    after_in_parent=encoder.resume_after_fork,
    after_in_child=encoder.reset_after_fork,
)
