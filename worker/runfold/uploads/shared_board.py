"""SharedBoard: what the threads of an uploader share: the board behind one lock, how the server is doing.

The lock is never held while a disk or the server is waited for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from runfold.node.back_off import BackOff
from runfold.uploads.board import Board
from runfold.uploads.failures import TryLaterError
from runfold.uploads.tasks import Task

logger = logging.getLogger(__name__)

#: Trouble is logged at most this often.
LOG_EVERY_S = 60.0
LONGEST_ASKED_WAIT_S = 60.0


class SharedBoard:
    """Thread-safe, but for `board`: `turn` is held around its calls."""

    def __init__(self, *, most_artifacts: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.turn = threading.Condition()
        self.board = Board(most_artifacts=most_artifacts)
        self.stopping = threading.Event()
        #: When the server did something for us last, or something came to be done; monotonic.
        self.heard_s = clock()
        #: What keeps jobs from being done; None when the last exchange went well.
        self.trouble: str | None = None
        self.done_count = self.failed_count = 0
        self._waits = BackOff(0.25, 5.0)
        self._held_until_s = -1e9
        #: event -> when it was logged last
        self._said_s: dict[str, float] = {}

    @property
    def is_held(self) -> bool:
        """The server is away or busy, so that all wait."""
        return self._waits.failures > 0

    def take(self) -> list[Task]:
        """Return the next piece of work; [] after a while without any."""
        with self.turn:
            held_s = self._held_until_s - self.clock()
            work = self.board.take() if held_s <= 0 else []
            if not work:
                self.turn.wait(min(max(held_s, 0.05), 1.0))
            return work

    def others_wait(self) -> bool:
        """Something else could be worked at now."""
        with self.turn:
            return self.board.has_ready

    def heard(self) -> None:
        """Something moves: an answer is not far."""
        self.heard_s = self.clock()

    def succeeded(self) -> None:
        """The server did what it was asked."""
        with self.turn:
            self._waits.succeed()
            self.heard_s = self.clock()
            self.trouble = None

    def done(self, task: Task, *, is_failed: bool = False) -> None:
        """Forget a task: its job is gone from the outbox."""
        with self.turn:
            self.board.remove(task)
            self.done_count += not is_failed
            self.failed_count += is_failed
            self.heard_s = self.clock()

    def later(self, work: Iterable[Task], wait_s: float) -> None:
        """Put tasks back, for a while."""
        with self.turn:
            for task in work:
                self.board.put_back(task, not_before_s=self.clock() + wait_s if wait_s else 0.0)
            self.board.promote(self.clock())
            self.turn.notify()

    def wait_for_more(self, work: Iterable[Task], error: TryLaterError) -> None:
        """These lack something that comes by another way; the server is well."""
        self._say(str(error))
        asked_s = min(error.after_s, LONGEST_ASKED_WAIT_S)
        with self.turn:
            for task in work:
                task.drop_source()
                self.board.put_back(task, not_before_s=self.clock() + max(task.waits.fail(), asked_s))

    def hold(self, work: Iterable[Task], error: TryLaterError) -> None:
        """The server is away or busy: all wait."""
        self._say(str(error))
        with self.turn:
            wait_s = max(self._waits.fail(), min(error.after_s, LONGEST_ASKED_WAIT_S))
            self._held_until_s = max(self._held_until_s, self.clock() + wait_s)
        self.later(work, 0.0)

    def stop(self) -> None:
        """Have all threads end soon."""
        self.stopping.set()
        with self.turn:
            self.turn.notify_all()

    def say(self, text: str, message: str, event: str) -> None:
        """Log a warning, but one of a kind at most once a minute."""
        now_s = self.clock()
        if now_s - self._said_s.get(event, -LOG_EVERY_S) >= LOG_EVERY_S:
            self._said_s[event] = now_s
            logger.warning(text, message, extra={"event": event, "failed": self.failed_count})

    def _say(self, message: str) -> None:
        self.trouble = message
        self.say("files can't be uploaded now, they wait: %s", message, "uploads_held")
