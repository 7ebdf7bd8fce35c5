"""Planner: what there is to upload. In: the outbox, watched files, word of ended processes. Out: tasks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from runfold.uploads.jobs import AnyJob, FileJob
from runfold.uploads.outbox import Outbox
from runfold.uploads.shared_board import SharedBoard
from runfold.uploads.source import mark_of
from runfold.uploads.tasks import Task

#: A watched file that rests is looked at this often.
LOOK_AGAIN_S = 1.0
#: A job that is another agent's, or none, is asked about again after this.
ASK_AGAIN_S = 10.0
FORGET_EVERY_S = 600.0
#: Jobs brought to disk between two looks.
SYNCED_AT_ONCE = 50


class Planner:
    """`look` is for one thread, `tell_ended` and `watched_writers` for any."""

    def __init__(self, shared: SharedBoard, outbox: Outbox, is_mine: Callable[[AnyJob], bool]) -> None:
        self._shared = shared
        self._outbox = outbox
        self._is_mine = is_mine
        self._ended: set[str] = set()
        #: jobs that are another's, or none at all -> when to look again
        self._passed_over: dict[str, float] = {}
        self._unsynced: list[str] = []
        self._forgot_s = -1e9
        #: What lay in the outbox at the beginning is known.
        self.has_looked = False

    def watched_writers(self) -> set[str]:
        """Return the writers whose end is waited for."""
        with self._shared.turn:
            return {task.job.writer for task in self._shared.board.watches}

    def tell_ended(self, writers: Iterable[str]) -> None:
        """These will write no more: their files are uploaded a last time."""
        new = set(writers) - self._ended
        if new:
            with self._shared.turn:
                self._ended |= new
                self._shared.board.end_watches(self._ended)
                self._promote()

    def look(self) -> None:
        """Find what is new, what changed, and what is due."""
        board, turn = self._shared.board, self._shared.turn
        ids = self._outbox.ids()
        with turn:
            known = board.ids
        found = self._mine(ids - known)
        sizes = {job.id: _size_of(job) for job in found}
        needless = []
        with turn:
            for job in found:
                task = Task(job, size_bytes=sizes[job.id])
                needless.append(board.add(task))
            for job_id in known - ids:
                gone = board.find(job_id)
                if gone is not None and not gone.is_running:
                    board.remove(gone)  # somebody else did it
            board.end_watches(self._ended)
            if found:
                self._shared.heard_s = self._shared.clock()
        for older in needless:
            if older is not None:
                self._outbox.forget(older.job)
        self._look_at_live()
        with turn:
            self._promote()
        self.has_looked = True
        self._sync(found)
        self._forget_results()

    def _mine(self, ids: set[str]) -> list[AnyJob]:
        """Return those of the jobs that are to be done here; the others are asked about again in a while."""
        now_s = self._shared.clock()
        self._passed_over = {job_id: at_s for job_id, at_s in self._passed_over.items() if job_id in ids}
        asked = {job_id for job_id in ids if now_s >= self._passed_over.get(job_id, now_s)}
        found = [job for job in self._outbox.read(asked) if self._is_mine(job)]
        for job_id in asked - {job.id for job in found}:
            self._passed_over[job_id] = now_s + ASK_AGAIN_S
        return found

    def _promote(self) -> None:
        self._shared.board.promote(self._shared.clock())
        self._shared.turn.notify_all()

    def _look_at_live(self) -> None:
        """Let the watched files go whose rest is over, and that are not as the server has them."""
        now_s = self._shared.clock()
        with self._shared.turn:
            due = [task for task in self._shared.board.watches if task.rests and now_s >= task.not_before_s]
        for task in due:
            assert isinstance(task.job, FileJob), "only files are watched"
            try:
                about = Path(task.job.source).stat()
            except OSError:
                is_same = True  # gone for now: nothing to upload
            else:
                is_same = mark_of(about) == task.sent_mark
                task.size_bytes = about.st_size
            with self._shared.turn:
                if is_same and task.rests:
                    task.not_before_s = now_s + LOOK_AGAIN_S
                else:
                    task.rests = False

    def _sync(self, found: list[AnyJob]) -> None:
        """Bring new jobs to disk, a few at a time: most are done before their turn."""
        self._unsynced += [job.id for job in found]
        some, self._unsynced = self._unsynced[:SYNCED_AT_ONCE], self._unsynced[SYNCED_AT_ONCE:]
        with self._shared.turn:
            waiting = self._shared.board.ids
        left = [job_id for job_id in some if job_id in waiting]
        if left:
            self._outbox.sync(left)

    def _forget_results(self) -> None:
        if self._shared.clock() - self._forgot_s >= FORGET_EVERY_S:
            self._forgot_s = self._shared.clock()
            self._outbox.tidy(time.time())


def _size_of(job: AnyJob) -> int:
    if not isinstance(job, FileJob):
        return 0
    try:
        return os.stat(job.source).st_size  # noqa: PTH116  # of each of very many
    except OSError:
        return 0
