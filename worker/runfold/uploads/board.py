"""Board: whose turn it is. Pure; the time is passed in. In: tasks that come, wait, end. Out: a piece of work.

Runs take turns, so that one with a hundred thousand files does not keep another one's checkpoint waiting.
Small files of a run go together. Two files of one name never go at once, and the older goes first.
"""

from __future__ import annotations

from collections.abc import Container

from runfold.batches import BATCH_BYTES, BATCH_COUNT, SMALL_BYTES
from runfold.uploads.jobs import FileJob
from runfold.uploads.tasks import Task


class Board:
    """Not thread-safe: the uploader's lock is held around every call."""

    def __init__(self, *, most_artifacts: int) -> None:
        """`most_artifacts`: how many artifacts may be under way at once; files need threads too."""
        self._most_artifacts = most_artifacts
        self._tasks: dict[str, Task] = {}
        #: those that watch for a live process.
        self._watches: dict[str, Task] = {}
        #: run -> id -> task, oldest first: those that may go now.
        self._ready: dict[str, dict[str, Task]] = {}
        #: those that wait for their time, or for the end of a process.
        self._waiting: dict[str, Task] = {}
        self._busy_names: set[tuple[str, str]] = set()
        self._newest: dict[tuple[str, str], Task] = {}
        self._running_artifacts = 0
        #: run -> when it was served last, in turns.
        self._served: dict[str, int] = {}
        self._turn = 0

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def ids(self) -> set[str]:
        """Ids of all jobs that are here."""
        return set(self._tasks)

    @property
    def has_ready(self) -> bool:
        """Something could be worked at now."""
        return any(self._ready.values())

    @property
    def unfinished_count(self) -> int:
        """Jobs that don't just watch."""
        return len(self._tasks) - len(self._watches)

    @property
    def watches(self) -> list[Task]:
        """Those that go on until the writer's process has ended."""
        return list(self._watches.values())

    def find(self, job_id: str) -> Task | None:
        """Return the task of a job."""
        return self._tasks.get(job_id)

    def end_watches(self, writers: Container[str]) -> None:
        """These writers' processes have ended: what is watched for them goes a last time."""
        for task in self.watches:
            if task.job.writer in writers:
                task.end()
                del self._watches[task.job.id]

    def add(self, task: Task) -> Task | None:
        """Take a task in; return an older one that it makes needless: of the same name, and not begun."""
        self._tasks[task.job.id] = task
        self._waiting[task.job.id] = task
        if task.is_watch:
            self._watches[task.job.id] = task
        key = task.name_key
        if key is None:
            return None
        older, self._newest[key] = self._newest.get(key), task
        if older is None or older.is_running or not (_is_plain(older) and _is_plain(task)):
            return None
        self.remove(older)
        return older

    def remove(self, task: Task) -> None:
        """Forget a task: it is done."""
        self._end_turn(task)
        self._tasks.pop(task.job.id, None)
        self._watches.pop(task.job.id, None)
        self._waiting.pop(task.job.id, None)
        self._ready.get(task.job.run, {}).pop(task.job.id, None)
        key = task.name_key
        if key is not None and self._newest.get(key) is task:
            del self._newest[key]
        task.drop_source()

    def put_back(self, task: Task, *, not_before_s: float = 0.0) -> None:
        """It is not done: it waits until then, unless its last time has come meanwhile."""
        self._end_turn(task)
        if task.job.id in self._tasks:
            has_ended_meanwhile = task.is_final and not task.began_final
            task.not_before_s = 0.0 if has_ended_meanwhile else not_before_s
            self._waiting[task.job.id] = task

    def promote(self, now_s: float) -> None:
        """Let those go whose time has come."""
        for task in list(self._waiting.values()):
            if now_s >= task.not_before_s and not task.is_held:
                del self._waiting[task.job.id]
                self._ready.setdefault(task.job.run, {})[task.job.id] = task

    def take(self) -> list[Task]:
        """Return the next piece of work of one run: small files together, or one of anything else; or []."""
        for run in sorted(self._ready, key=lambda run: self._served.get(run, 0)):
            if not self._ready[run]:
                del self._ready[run]
                continue
            taken = self._gather(self._ready[run])
            if taken:
                self._turn += 1
                self._served[run] = self._turn
                for task in taken:
                    self._begin_turn(task)
                return taken
        if not self._ready:
            self._served.clear()
        return []

    def _gather(self, ready: dict[str, Task]) -> list[Task]:
        batch: list[Task] = []
        size, names = 0, set(self._busy_names)
        for task in ready.values():
            key = task.name_key
            if key is None or task.is_alone or task.size_bytes > SMALL_BYTES:
                if not batch and self._may_begin(task, names):
                    return [task]
                continue
            if key in names:
                continue
            if len(batch) == BATCH_COUNT or size + task.size_bytes > BATCH_BYTES:
                break
            batch.append(task)
            names.add(key)
            size += task.size_bytes
        return batch

    def _may_begin(self, task: Task, busy_names: set[tuple[str, str]]) -> bool:
        if task.is_artifact:
            return self._running_artifacts < self._most_artifacts
        return task.name_key not in busy_names

    def _begin_turn(self, task: Task) -> None:
        del self._ready[task.job.run][task.job.id]
        task.is_running = True
        task.began_final = task.is_final
        if task.name_key is not None:
            self._busy_names.add(task.name_key)
        self._running_artifacts += task.is_artifact

    def _end_turn(self, task: Task) -> None:
        if not task.is_running:
            return
        task.is_running = False
        if task.name_key is not None:
            self._busy_names.discard(task.name_key)
        self._running_artifacts -= task.is_artifact


def _is_plain(task: Task) -> bool:
    """It is to upload the file as it is when its time comes, once."""
    job = task.job
    return isinstance(job, FileJob) and job.policy == "now" and job.sha256 is None and not job.is_ours
